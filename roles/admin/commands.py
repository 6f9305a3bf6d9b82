"""One function per command: (desk, command) -> Result. What is asked of the daemon, and nothing of how it looks.

A command asks only for the parts of the picture that it shows: a group has 20,000 processes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agent.errors import AgentError, LinkLost, NoReply, Refused, UsageError
from agent.messages import (
    DescribeProcess,
    OperateGroup,
    ReadAudit,
    ReadEvents,
    ReadSessions,
    ReadTasks,
)
from agent.names import did_you_mean
from agent.outcome import UNKNOWN, Outcome, exit_code
from agent.selection import Selection, alternatives, matcher
from roles.admin import gm, gm_views, quantity, reports, views, watch
from roles.admin.desk import Desk, Operated, command_number
from roles.admin.grammar import Command
from roles.admin.picture import Picture, Row
from roles.admin.result import Result


def run(desk: Desk, command: Command) -> Result:
    """Raises AgentError, KeyboardInterrupt."""
    return COMMANDS[command.verb](desk, command)


# ---- list ---------------------------------------------------------------------------------------------------------


def list_(desk: Desk, command: Command) -> Result:
    return LISTS[command.what](desk, command)


def list_world(desk: Desk, _command: Command) -> Result:
    return views.world(desk.picture(("world", "processes")))


def list_machine(desk: Desk, command: Command) -> Result:
    selection = command.selection
    picture = desk.picture(("world", "machines"), selection)
    ips = [
        ip for ip in picture.ips()
        if any(selection.matches_machine(region, ip) for region in picture.regions_of(ip) or [""])
    ]  # fmt: skip
    if not ips and command.text != "list machine":
        raise missing(desk.picture(("world",)), selection)
    return views.machines(picture, ips, desk.now())


def list_process(desk: Desk, command: Command) -> Result:
    picture = desk.picture(("world", "processes"), command.selection)
    rows = picture.select(command.selection)
    if not rows and not _is_empty_place(picture, command.selection):
        raise missing(desk.picture(("world",)), command.selection)
    result = views.processes(picture, rows, desk.now())
    selection = command.selection
    if "," in selection.region + selection.machine + selection.name:
        wrong = misnamed(desk.picture(("world",)), selection)
        if wrong is not None:  # beside words that do name something it would go unseen
            return replace(result, exit_code=wrong.exit_code, notes=[*result.notes, str(wrong)])
    return result


def list_key(desk: Desk, command: Command) -> Result:
    picture = desk.picture(("world", "processes"), command.selection)
    rows = picture.select(command.selection)
    if not rows:
        raise missing(desk.picture(("world",)), command.selection)
    return describe(desk, picture, rows[0])


def list_pid(desk: Desk, command: Command) -> Result:
    """Pids are a machine's own: several machines may have a process with this one."""
    picture = desk.picture(("processes",), pid=command.pid)
    rows = picture.with_pid(command.pid)
    if not rows:
        raise Refused(
            "unknown_target", f"no process of the group has pid {command.pid} (`list IP` shows pids)"
        )
    if len(rows) == 1:
        return describe(desk, picture, rows[0])
    result = views.processes(picture, rows, desk.now())
    note = (
        f"{len(rows)} machines have a process with pid {command.pid}; to see one in full: list {rows[0].key}"
    )
    return replace(result, lines=[*result.lines, note], document={"pid": command.pid, **result.document})


def describe(desk: Desk, picture: Picture, row: Row) -> Result:
    """What the daemon of its machine sees now; what was last known where it cannot be asked."""
    entry = views.process(picture, row, desk.now())
    facts: dict[str, Any] = {}
    notes, code = [], 0
    try:
        facts = desk.ask(DescribeProcess(row.key)).facts
    except (Refused, NoReply, LinkLost) as error:
        if isinstance(error, Refused) and error.code in ("forbidden", "bad_request"):
            raise
        notes.append(f"{error}; shown is what was last known")
        code = error.exit_code
    entry["type"] = entry["type"] or str(facts.get("type", ""))  # the world was not asked for
    document = {"pid": row.pid, "processes": [{**entry, "facts": facts}]}
    return Result(views.description(entry, facts), document, code, notes)


# ---- start, stop, restart, kill -----------------------------------------------------------------------------------


def operate(desk: Desk, command: Command) -> Result:
    """A command that may reach over several machines is planned first, and the operator asked."""
    selection = command.selection
    request = OperateGroup(
        command.operation, selection.region, selection.machine, "" if command.pid else selection.name,
        command.pid, command_number(), command.plan, options=command.options,
    )  # fmt: skip
    try:
        return _operate(desk, command, request)
    except Refused as error:
        if error.code == "unknown_target" and not command.pid:
            raise UsageError(
                str(error)
            ) from None  # a word that names nothing; a pid may have ended meanwhile
        raise


def _operate(desk: Desk, command: Command, request: OperateGroup) -> Result:
    selection, targets = command.selection, list[str]()
    forced = command.operation == "force-stop"
    if (selection.is_wide or forced) and not command.plan:
        if not desk.sure:
            planned = desk.operate(replace(request, plan=True))
            if planned.trouble:
                raise NoReply(f"{command.text}: the plan did not come, nothing was done: {planned.trouble}")
            targets = [outcome.target for outcome in planned.outcomes]
            if not _agreed(desk, command, planned, always=forced):
                return Result(["nothing was done"], {"verb": command.verb, "plan": True, "outcomes": []}, 0)
        request = replace(request, wide=True)
    done = desk.operate(request, len(targets))
    if not done.outcomes and not done.trouble:
        raise missing(desk.picture(("world",)), selection)
    return _operated(command, done, targets)


def _agreed(desk: Desk, command: Command, planned: Operated, *, always: bool) -> bool:
    targets, already, machines = reports.reach(planned.outcomes)
    if machines <= 1 and not always:
        return True
    left = f", {already} of them already so" if already else ""
    what = f"{quantity.count(targets, 'process')} on {quantity.count(machines, 'machine')}{left}"
    wide = ": more than one machine" if machines > 1 and not desk.interactive else ""
    return desk.confirm(f"{command.text}: {what}{wide}")


def _operated(command: Command, done: Operated, targets: list[str]) -> Result:
    result = reports.outcomes(command.verb, done.outcomes, plan=command.plan)
    if not done.trouble:
        return result
    told = {outcome.target for outcome in done.outcomes}
    untold = [Outcome(target, UNKNOWN, "no outcome came") for target in targets if target not in told]
    result = reports.outcomes(command.verb, [*done.outcomes, *untold])
    code = exit_code([*done.outcomes, Outcome("", UNKNOWN)])
    return replace(result, exit_code=code, notes=[done.trouble])


# ---- the rest -----------------------------------------------------------------------------------------------------


def who(desk: Desk, _command: Command) -> Result:
    reply = desk.ask(ReadSessions(everywhere=True))
    return reports.sessions(reply.sessions, reply.silent)


def audit(desk: Desk, command: Command) -> Result:
    return reports.audit(desk.ask(ReadAudit(command.count)).lines)


def help_(_desk: Desk, command: Command) -> Result:
    return reports.help_topic(command.topic) if command.topic else reports.help_list()


def watch_(desk: Desk, command: Command) -> Result:
    if command.what == "events":
        return watch.events(desk, command.selection)
    return watch.table(desk, command.selection) if desk.interactive else watch.lines(desk, command.selection)


def tasks(desk: Desk, _command: Command) -> Result:
    return reports.tasks(desk.ask(ReadTasks()).tasks)


def events(desk: Desk, command: Command) -> Result:
    selection = command.selection
    asked = ReadEvents(selection.region, selection.machine, selection.name, command.count)
    return gm_views.events(desk.ask(asked).events)


def exit_(_desk: Desk, _command: Command) -> Result:
    return Result([], {})


LISTS: dict[str, Callable[[Desk, Command], Result]] = {
    "world": list_world,
    "machine": list_machine,
    "process": list_process,
    "key": list_key,
    "pid": list_pid,
}
COMMANDS: dict[str, Callable[[Desk, Command], Result]] = {
    "list": list_,
    "start": operate,
    "stop": operate,
    "restart": operate,
    "kill": operate,
    "drain": operate,
    "cancel": operate,
    "plan": operate,
    "tasks": tasks,
    "gm": gm.run,
    "events": events,
    "watch": watch_,
    "who": who,
    "audit": audit,
    "help": help_,
    "exit": exit_,
}


# ---- what is not there --------------------------------------------------------------------------------------------


def missing(picture: Picture, selection: Selection) -> AgentError:
    """Which word of a selection that matched nothing is to blame; `picture` has the whole world."""
    return misnamed(picture, selection) or UsageError(
        f"nothing matches {selection}: these exist, but not together"
    )


def misnamed(picture: Picture, selection: Selection) -> AgentError | None:
    """The first word of a selection that names nothing at all; `picture` has the whole world."""
    yours = " that you may list" if picture.limited else ""
    names = {name for processes in picture.world.values() for name in processes}
    for noun, pattern, known, where in (
        ("region", selection.region, picture.regions, "list world"),
        ("machine", selection.machine, picture.ips(), "list machine"),
        ("process", selection.name, names, "list IP"),
    ):
        for word in alternatives(pattern):
            accepts = matcher(word)
            if accepts and not any(map(accepts, known)):
                hint = did_you_mean(word, known)
                return UsageError(f'no {noun} "{word}"{yours}{hint}; `{where}` shows what there is')
    return None


def _is_empty_place(picture: Picture, selection: Selection) -> bool:
    """Machines that exist and have no processes are no mistake of the operator."""
    return selection.name == "*" and any(selection.matches_machine(*place) for place in picture.world)
