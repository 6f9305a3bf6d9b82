"""The GM bus: a command for applications anywhere in the group, one verdict per target.

    admin ─ CallGm ─► this daemon ─┬─ each machine, our own too: CallMachineGm ─► machine_bus.py there
                                   └─ verdicts as they come: GmAnswered ─► admin

Rules for the next editor:
- Nothing is sent again that may have happened: what was not answered is in doubt, and stays so.
- Nothing runs anywhere before it is confirmed: over several machines, or a red command; one that only reads never asks.
  So a call that is not confirmed yet is planned on all machines first.
- Every call is in the audit, with its arguments where a declaration says which are secret, without them elsewhere.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import gevent
from gevent.pool import Pool

from agent import declaration, gm
from agent.errors import AgentError, LinkLost, NoReply, Refused
from agent.gm import ABSENT, FORBIDDEN, TIMED_OUT, UNKNOWN, UNREACHABLE, Answer
from agent.grant import Grant
from agent.link import Link, Peer
from agent.messages import (
    CallGm,
    CallMachineGm,
    DescribeGm,
    GmCatalogue,
    GmVerdicts,
)
from agent.names import did_you_mean
from agent.outcome import OK, Outcome
from agent.process import Process
from agent.selection import Selection, alternatives, has_glob, matcher
from roles.daemon import machine_bus
from roles.daemon.operation import HOP_S, LEAST_S, MACHINES_AT_ONCE, speaks_for
from roles.daemon.rights import may
from roles.daemon.state import DaemonState

MAX_ID_CHARS = 64
MAX_COMMAND_CHARS = 64
DESCRIBE_S = 5.0
PLAN_S = 5.0  # a machine that does not even say what it would do keeps nobody waiting
SHOWN = 5

Rows = Callable[[list[Answer]], object]


class _Reached(NamedTuple):
    """Verdicts, and the call in words as a machine told it (\"\" where none did)."""

    answers: list[Answer]
    spoken: str
    told: bool = False  # the admin has them already


def call_group(state: DaemonState, peer: Peer, asked: CallGm) -> GmVerdicts:
    """The whole of an admin's GM command. Raises Refused when it does not come to any target."""
    where = _place(asked)
    try:
        if not asked.id or len(asked.id) > MAX_ID_CHARS or not asked.id.isprintable():
            raise Refused("bad_request", f"a GM call wants an id of 1 to {MAX_ID_CHARS} characters")
        if not 0 < len(asked.command) <= MAX_COMMAND_CHARS:
            raise Refused("bad_request", f"a GM command has a name of 1 to {MAX_COMMAND_CHARS} characters")
        if not state.gm_rate.take(peer.name, time.monotonic()):
            raise Refused("too_many", f"user {peer.name} sends GM commands too fast: wait a moment")
        reached = _call(state, peer, asked)
    except AgentError as error:
        if not (isinstance(error, Refused) and error.code == "unconfirmed"):
            words = gm.unspoken(asked.command, asked.words, asked.arguments)
            no = "refused" if isinstance(error, Refused) and error.code == "forbidden" else "not done"
            state.audit.note(peer.name, peer.address, f"gm {where} {words}", [], f"{no}: {error}")
        raise
    words = reached.spoken or gm.unspoken(asked.command, asked.words, asked.arguments)
    state.audit.note(
        peer.name,
        peer.address,
        f"gm {where} {words}{' (asked again)' if asked.again else ''}",
        [Outcome(a.target, OK if a.good else a.verdict, a.text) for a in reached.answers],
    )
    *early, last = ([] if reached.told else [*machine_bus.batches(reached.answers)]) or [[]]
    machine_bus.tell(peer, asked.id, early)
    return GmVerdicts(last, words)


def _call(state: DaemonState, peer: Peer, asked: CallGm) -> _Reached:
    grants = state.rights.grants(peer.name)
    verb = f"gm:{asked.command}"
    processes = targets(state, peer.name, grants, verb, asked)
    allowed = [process for process in processes if may(grants, verb, process)]
    forbidden = [
        Answer(process.key, FORBIDDEN, None, f"user {peer.name} may not {verb} there")
        for process in (processes if len(allowed) < len(processes) else ())
        if not may(grants, verb, process)
    ]
    if not allowed:
        what = processes[0].key if len(processes) == 1 else f"any of these {len(processes)} processes"
        raise Refused("forbidden", f"user {peer.name} may not {verb} on {what}")
    if asked.any:
        return _call_any(state, peer, asked, allowed)
    machines = {process.ip for process in allowed}
    known = forbidden
    if len(machines) > 1 and not (asked.wide and asked.sure) and not asked.again:
        allowed, unsent = _confirmed(state, peer, asked, allowed, len(machines))
        known = [*forbidden, *unsent]
    tell = _teller(peer, asked) if len(machines) > 1 else _silent
    tell(known)
    reached = _on_machines(state, peer, asked, allowed, tell)
    return _Reached([*known, *reached.answers], reached.spoken, told=len(machines) > 1)


def _confirmed(
    state: DaemonState, peer: Peer, asked: CallGm, allowed: list[Process], machines: int
) -> tuple[list[Process], list[Answer]]:
    """Nothing runs here: who can be called, and the verdicts of the others, to whom nothing is sent. Raises Refused
    where the operator has to say yes first, to all that there is to know."""
    planned = _on_machines(state, peer, asked, allowed, _silent, plan=True)
    ready = {answer.target for answer in planned.answers if answer.verdict == gm.ANSWERED}
    unsent = [_unsent(each) for each in planned.answers if each.target not in ready]
    dangers = [answer.answer for answer in planned.answers if answer.verdict == gm.ANSWERED]
    red = dangers.count(declaration.RED)
    if red or (not asked.wide and any(danger != declaration.READ for danger in dangers)):
        redness = f", red on {red}" if red else ""
        what = f"{asked.command}: {len(allowed)} processes on {machines} machines{redness}"
        raise Refused("unconfirmed", f"{what}; confirm it (--yes in scripts)")
    return [process for process in allowed if process.key in ready], unsent


def _unsent(planned: Answer) -> Answer:
    """The verdict for who cannot be called; a plan without an answer has run nothing."""
    if planned.verdict not in gm.IN_DOUBT:
        return planned
    return Answer(planned.target, UNREACHABLE, None, f"nothing was sent: {planned.text}")


def _call_any(state: DaemonState, peer: Peer, asked: CallGm, allowed: list[Process]) -> _Reached:
    """The first one that can be sent to, in an order that the id decides: a repeat finds the same one."""
    whose = f"{peer.name} {asked.id}"
    chosen = state.memos.chosen(whose)
    order = sorted(allowed, key=lambda process: _lot(asked.id, process.key))
    if chosen:
        order = [process for process in order if process.key == chosen]
    reached = _Reached([], "")
    for process in order:
        reached = _on_machines(state, peer, asked, [process], _silent)
        if reached.answers[0].verdict not in (ABSENT, UNREACHABLE):
            state.memos.choose(whose, process.key)
            return reached
    if len(order) == 1:
        return reached
    text = (
        f"none of these {len(order)} can be reached; the last: {reached.answers[0].text}"
        if order
        else "it is gone"
    )
    return _Reached([Answer(_place(asked), ABSENT, None, text)], reached.spoken)


def _lot(id_: str, key: str) -> bytes:
    return hashlib.sha256(f"{id_} {key}".encode()).digest()


# ---- machines -----------------------------------------------------------------------------------------------------


def _on_machines(
    state: DaemonState, peer: Peer, asked: CallGm, processes: list[Process], tell: Rows, plan: bool = False
) -> _Reached:
    by_ip: dict[str, list[str]] = defaultdict(list)
    for process in processes:
        by_ip[process.ip].append(process.key)

    def on_machine(ip: str) -> _Reached:
        order = CallMachineGm(
            by_ip[ip], asked.command, asked.id, peer.name, asked.words, asked.arguments, asked.again,
            asked.sure, plan,
        )  # fmt: skip
        wait_s = max(LEAST_S, peer.left_s() - HOP_S)
        if plan:
            wait_s = min(PLAN_S, wait_s)
        try:
            reached = _here(state, order, wait_s) if ip == state.ip else _elsewhere(state, ip, order, wait_s)
        except Refused as error:
            if len(by_ip) == 1:
                raise
            # the others may have run: it is one machine's verdict, and not the end of the call
            verdict = {"forbidden": FORBIDDEN, "unconfirmed": gm.INVALID}.get(error.code, UNREACHABLE)
            reached = _Reached(
                [Answer(key, verdict, None, f"nothing was sent: {error}") for key in by_ip[ip]], ""
            )
        tell(reached.answers)
        return reached

    if len(by_ip) == 1:
        return on_machine(next(iter(by_ip)))
    pool = Pool(MACHINES_AT_ONCE)
    calls = [pool.spawn(on_machine, ip) for ip in by_ip]
    gevent.joinall(calls, raise_error=True)
    reached = [call.value for call in calls]
    spoken = gm.agreed((each.spoken for each in reached), asked.command)
    return _Reached([answer for each in reached for answer in each.answers], spoken)


def _here(state: DaemonState, order: CallMachineGm, wait_s: float) -> _Reached:
    called = machine_bus.call(state, order, wait_s)
    return _Reached(called.answers, called.spoken)


def _elsewhere(state: DaemonState, ip: str, order: CallMachineGm, wait_s: float) -> _Reached:
    """Raises Refused only where it is not confirmed, which one machine has said for all of them."""

    def all_of_them(verdict: str, text: str) -> _Reached:
        return _Reached([Answer(key, verdict, None, text) for key in order.targets], "")

    link = state.presence.link
    if link is None:
        return all_of_them(UNREACHABLE, f"{state.presence.trouble}: nothing was sent to {ip}")
    came: list[Answer] = []
    try:
        with state.hearing_gm(f"{order.id} {ip}", came.extend):
            reply = link.call(order, wait_s, ip.encode())
    except Refused as error:
        if error.code == "unconfirmed":
            raise
        verdict = {"forbidden": FORBIDDEN, "timed_out": TIMED_OUT, "internal": UNKNOWN}.get(
            error.code, UNREACHABLE
        )
        return _completed(order, came, verdict, str(error), "")
    except LinkLost as error:
        return _completed(order, came, UNKNOWN, str(error), "")
    except NoReply as error:
        return _completed(order, came, TIMED_OUT, f"the daemon of {ip}: {error}", "")
    came += read_answers(ip, reply.verdicts)
    return _completed(order, came, UNKNOWN, f"the daemon of {ip} said nothing of it", reply.spoken)


def _completed(order: CallMachineGm, came: list[Answer], verdict: str, text: str, spoken: str) -> _Reached:
    """What came, and the verdict for the targets that nothing came of."""
    asked, told = set(order.targets), {answer.target for answer in came}
    silent = [Answer(key, verdict, None, text) for key in order.targets if key not in told]
    return _Reached([answer for answer in came if answer.target in asked] + silent, spoken)


def read_answers(ip: str, rows: list) -> list[Answer]:
    """Of a machine, which can know its own only; what cannot be read is left out, and so is in doubt."""
    answers = []
    for row in rows:
        if isinstance(row, list) and len(row) >= 4 and isinstance(row[0], str) and speaks_for(ip, row[0]):
            answers.append(Answer(row[0], str(row[1]), row[2], str(row[3])))
    return answers


def _teller(peer: Peer, asked: CallGm) -> Rows:
    def tell(answers: list[Answer]) -> None:
        machine_bus.tell(peer, asked.id, machine_bus.batches(answers))

    return tell


def _silent(_answers: list[Answer]) -> None:
    return None


# ---- which applications -------------------------------------------------------------------------------------------


def _place(asked: CallGm | DescribeGm) -> str:
    """As an operator writes it."""
    region = "" if asked.region == "*" else f"{asked.region}:"
    machine = "" if asked.machine == "*" and asked.name != "*" else f"{asked.machine}."
    return f"{region}{machine}{asked.name}"


def selected(state: DaemonState, asked: CallGm | DescribeGm) -> list[Process]:
    """By region, machine, and name or type. Raises Refused."""
    accepts = matcher(asked.name)
    found = state.select(Selection(asked.region, asked.machine))
    return [p for p in found if accepts is None or accepts(p.name) or accepts(p.type)]


def targets(
    state: DaemonState, user: str, grants: tuple[Grant, ...], verb: str, asked: CallGm
) -> list[Process]:
    """What the words name, of what the user may see or call; a word that names nothing refuses all of it."""
    found = [p for p in selected(state, asked) if may(grants, verb, p) or may(grants, "list", p)]
    words = [word for word in alternatives(asked.name) if not has_glob(word)]
    there = {word for process in found for word in (process.name, process.type)}
    missing = [word for word in words if word not in there]
    if found and not missing:
        return found
    if not found and not any(grant.has_verb(verb) for grant in grants):
        raise Refused("forbidden", f"user {user} may not {verb} anything")
    every = [p for p in state.select(Selection()) if may(grants, verb, p) or may(grants, "list", p)]
    known = {word for process in every for word in (process.name, process.type)}
    texts = [f"no process or type {word} there{did_you_mean(word, known)}" for word in missing]
    what = "; ".join(texts[:SHOWN]) or f"no process matches {_place(asked)}"
    raise Refused("unknown_target", f"{what}: nothing was done")


# ---- what can be called -------------------------------------------------------------------------------------------


def describe(state: DaemonState, peer: Peer, asked: DescribeGm) -> GmCatalogue:
    """Everything that applications have declared; asked of all machines that have any of them."""
    user = asked.user if peer.role == "daemon" else peer.name
    grants = state.rights.grants(user)
    processes = [p for p in selected(state, asked) if _may_look(grants, p)]
    own = _described(state, [process for process in processes if process.ip == state.ip])
    others = sorted({process.ip for process in processes if process.ip != state.ip})
    if peer.role == "daemon" or not others:
        return own
    link = state.presence.link
    if link is None:
        return GmCatalogue(own.processes, own.commands, others)
    question = DescribeGm(asked.region, asked.machine, asked.name, user)
    pool = Pool(MACHINES_AT_ONCE)
    asked_of = {
        ip: pool.spawn(_described_by, link, ip, question, min(DESCRIBE_S, peer.left_s())) for ip in others
    }
    gevent.joinall(list(asked_of.values()))
    rows, commands, silent = list(own.processes), dict(own.commands), []
    for ip, call in asked_of.items():
        if call.value is None:
            silent.append(ip)
            continue
        rows += [row for row in call.value.processes if _is_described(ip, row)]
        for digest, declared in call.value.commands.items():
            if digest not in commands and _is_genuine(digest, declared):
                commands[digest] = declared
    return GmCatalogue(rows, commands, silent)


def _is_described(ip: str, row: object) -> bool:
    """A row of a machine about a process of its own."""
    return (
        isinstance(row, list)
        and len(row) >= 3
        and all(isinstance(w, str) for w in row[:3])
        and speaks_for(ip, row[0])
    )


def _is_genuine(digest: str, declared: object) -> bool:
    """A machine cannot say what the applications of another one have declared."""
    try:
        return digest == "-" or declaration.read_declarations(declared).digest == digest
    except AgentError:
        return False


def _described(state: DaemonState, processes: list[Process]) -> GmCatalogue:
    rows, commands = [], {}
    for process in processes:
        application = state.applications.get(process.key)
        digest = ""
        if application is not None:
            digest = application.declarations.digest or "-"
            commands[digest] = application.declarations.documents()
        rows.append([process.key, process.type, digest])
    return GmCatalogue(rows, commands)


def _described_by(link: Link, ip: str, question: DescribeGm, wait_s: float) -> GmCatalogue | None:
    try:
        catalogue: GmCatalogue = link.call(question, max(LEAST_S, wait_s), ip.encode())
        return catalogue
    except (Refused, LinkLost, NoReply):
        return None


def _may_look(grants: tuple[Grant, ...], process: Process) -> bool:
    return any(
        any(verb in ("*", "list") or verb.partition(":")[0] == "gm" for verb in grant.verbs)
        and grant.covers(process.region, process.ip, process.name)
        for grant in grants
    )
