"""`gm`: a command for applications, confirmed where that is needed; and what there is to call."""

import secrets
from dataclasses import replace

from agent.errors import LinkLost, NoReply, Refused, UsageError
from agent.gm import IN_DOUBT, Answer
from agent.messages import CallGm, DescribeGm, GmCatalogue
from roles.admin import gm_views
from roles.admin.desk import Desk
from roles.admin.grammar import Command
from roles.admin.result import Result

WAIT_S = 30.0  # for an answer, where nobody says otherwise


def run(desk: Desk, command: Command) -> Result:
    """Raises AgentError, KeyboardInterrupt."""
    return help_(desk, command) if command.what == "help" else call(desk, command)


def help_(desk: Desk, command: Command) -> Result:
    selection = command.selection
    catalogue: GmCatalogue = desk.ask(DescribeGm(selection.region, selection.machine, selection.name))
    if not catalogue.processes:
        whom = command.text.removeprefix("gm help").strip() or "the world"
        raise UsageError(f"no process or type matches {whom}; `list world` shows what there is")
    return gm_views.catalogue(catalogue, command.topic)


def call(desk: Desk, command: Command) -> Result:
    selection, again = command.selection, command.options.get("again", "")
    request = CallGm(
        selection.region, selection.machine, selection.name, command.topic, again or secrets.token_hex(8),
        list(command.words), any=command.options.get("any", False), again=bool(again), wide=desk.sure, sure=desk.sure,
    )  # fmt: skip
    try:
        return _call(desk, command, request)
    except Refused as error:
        if error.code == "unknown_target":  # a word that names nothing
            raise UsageError(str(error)) from None
        if error.code != "unconfirmed":
            raise
        question = str(error).removesuffix("; confirm it (--yes in scripts)")
        if not desk.confirm(f"gm {question}"):
            return Result(["nothing was done"], {"gm": request.command, "id": request.id, "verdicts": []})
        return _call(desk, command, replace(request, wide=True, sure=True))


def _call(desk: Desk, command: Command, request: CallGm) -> Result:
    """Raises Refused: nothing was done. What was sent and not answered is told, with the id to ask again by."""
    wait_s = command.options.get("timeout") or min(WAIT_S, desk.timeout_s)
    came: list[Answer] = []
    again = f"gm --again {request.id} … asks what became of it, and runs nothing"
    try:
        reply = desk.call_gm(request, wait_s, came.extend)
    except (LinkLost, NoReply) as error:
        return gm_views.verdicts(request, came, "", f"{error}; it may have happened: {again}")
    except KeyboardInterrupt:
        return gm_views.verdicts(request, came, "", f"the wait was ended; {again}")
    came += [Answer(*row[:4]) for row in reply.verdicts]
    in_doubt = any(answer.verdict in IN_DOUBT for answer in came)
    return gm_views.verdicts(
        request, came, reply.spoken, f"its id is {request.id}: {again}" if in_doubt else ""
    )
