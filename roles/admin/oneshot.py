"""Commands of a script: one after the other, like `sh -e`: the first that does not end with 0 is the last."""

from collections.abc import Sequence

from agent.errors import AgentError, UsageError
from agent.messages import WatchPicture
from agent.selection import Selection
from roles.admin import commands
from roles.admin.desk import EVERYTHING, READ_S, Desk
from roles.admin.grammar import Command
from roles.admin.picture import Picture


class ScriptDesk(Desk):
    """Asks the daemon for a picture when a command needs one, and for no more than that command shows."""

    def picture(self, parts: Sequence[str], selection: Selection = EVERYTHING, pid: int = 0) -> Picture:
        request = WatchPicture(selection.region, selection.machine, selection.name, pid, parts=list(parts))
        self.interrupt.run(self.session.subscribe, request, min(self.timeout_s, READ_S))
        return self.session.picture

    def confirm(self, question: str) -> bool:
        raise UsageError(f"{question}: add --yes to do it")


def run(desk: ScriptDesk, script: Sequence[Command]) -> int:
    """The exit code of the last command that ran."""
    for command in script:
        code = run_one(desk, command)
        if code != 0 or command.verb == "exit":
            return code
    return 0


def run_one(desk: ScriptDesk, command: Command) -> int:
    try:
        result = commands.run(desk, command)
    except AgentError as error:
        if desk.screen.as_json:
            desk.screen.document({"command": command.text, "exit_code": error.exit_code, "error": str(error)})
        desk.screen.complain(str(error))
        return error.exit_code
    desk.screen.show(command.text, result)
    for note in result.notes:
        desk.screen.complain(note)
    return result.exit_code
