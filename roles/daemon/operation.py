"""A command over processes: which targets, who may, on which machines, one verdict per target.

    admin ─ OperateGroup ─► this daemon ─┬─ its own processes: their keepers
                                         └─ each other machine: OperateMachine through the router ─► the daemon there,
                                            which checks the rights again and answers with its verdicts

No answer is never success: what was not sent is `failed` and says which hop had no way on, what was sent and not
answered is `unknown`.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable

import gevent
from gevent.pool import Pool

from agent.errors import AgentError, ConfigError, LinkLost, NoReply, Refused
from agent.grant import Grant
from agent.lifecycle import ALIVE, STOPPED
from agent.link import Peer
from agent.messages import OperateGroup, OperateMachine, Outcomes, TargetFinished, TargetProgressed
from agent.names import split_key
from agent.outcome import ALREADY, FAILED, OK, REFUSED, UNKNOWN, Outcome
from agent.problem import is_utf8
from agent.process import Process
from agent.program import tier_of
from agent.selection import Selection
from roles.daemon.agenda import KIND_OF
from roles.daemon.keeper import Keeper
from roles.daemon.rights import may
from roles.daemon.state import DaemonState
from roles.daemon.target import forbidden, no_machine, targets

log = logging.getLogger("agent.operation")

# verb -> the rights it takes, all of them
VERBS = {
    "start": ("start",),
    "stop": ("stop",),
    "force-stop": ("stop", "kill"),
    "restart": ("restart",),
    "kill": ("kill",),
    "drain": ("stop",),
    "restart-when-empty": ("restart",),
    "cancel": ("stop",),
}
ENDING = frozenset({"stop", "force-stop", "drain"})  # these go from the last tier to the first
MAX_NOTICE_CHARS = 500
MAX_DEADLINE_S = 7 * 24 * 3600.0
HOP_S = 1.0  # kept back at each hop, so that the far one can still say what it saw
LEAST_S = 0.5
MAX_PID = 2**31
MACHINES_AT_ONCE = 200
MANY, SHORT_DETAIL_CHARS = (
    5_000,
    90,
)  # 20,000 outcomes have to fit one frame; the audit has their details whole

Progress = Callable[[Outcome], object]
Said = Callable[[str, str], object]  # target, words


def operate_group(state: DaemonState, peer: Peer, asked: OperateGroup) -> Outcomes:
    """The whole of an admin's command. Raises Refused when it does not come to any target."""
    what = _in_words(asked)
    try:
        if asked.verb not in VERBS:
            raise Refused("bad_request", f"no verb {asked.verb!r}; there are {', '.join(VERBS)}")
        if asked.verb == "kill" and not 1 < asked.pid < MAX_PID:
            raise Refused("bad_request", "kill wants the pid of a process: kill IP PID")
        _check_options(asked.options)
        if asked.verb == "force-stop" and not (asked.wide or asked.plan):
            raise Refused(
                "unconfirmed", "stop --force kills what does not end: confirm it (--yes in scripts)"
            )
        outcomes = _operate(state, peer, asked)
    except AgentError as error:
        if not asked.plan:
            no = "refused" if isinstance(error, Refused) and error.code == "forbidden" else "not done"
            state.audit.note(peer.name, peer.address, what, [], f"{no}: {error}")
        raise
    if not asked.plan:
        state.audit.note(peer.name, peer.address, what, outcomes)
    return Outcomes(pack(outcomes, SHORT_DETAIL_CHARS if len(outcomes) > MANY else None))


def _operate(state: DaemonState, peer: Peer, asked: OperateGroup) -> list[Outcome]:
    grants = state.rights.grants(peer.name)
    selection = Selection(asked.region, asked.machine, asked.name or "*")
    if asked.verb == "kill":
        ip = _kill_machine(state, asked, grants, selection)
        if not asked.plan:
            return _on_machines(state, peer, asked, {ip: []})
    processes = targets(state, peer.name, grants, asked.verb, selection)
    if asked.verb == "kill":
        processes = _with_pid(state, processes, asked)
    allowed = [process for process in processes if permits(grants, asked.verb, asked.options, process)]
    refused = [
        Outcome(process.key, REFUSED, f"user {peer.name} may not {asked.verb} it")
        for process in processes
        if not permits(grants, asked.verb, asked.options, process)
    ]
    if not allowed:
        raise forbidden(peer.name, asked.verb, processes)
    if asked.plan:
        return [*refused, *_planned(state, asked.verb, allowed)]
    machines = len({process.ip for process in allowed})
    if machines > 1 and not asked.wide:
        raise Refused(
            "unconfirmed",
            f"this is {len(allowed)} processes on {machines} machines: confirm it (--yes in scripts)",
        )
    return [*refused, *_tier_by_tier(state, peer, asked, allowed)]


def _tier_by_tier(
    state: DaemonState, peer: Peer, asked: OperateGroup, processes: list[Process]
) -> list[Outcome]:
    """The next tier begins when every target of the one before has its outcome, a bad one too: one game that does not
    come up keeps no other gate shut. A stop goes from the last tier to the first."""
    state.refresh_configuration()  # a tier that was imported a moment ago counts already
    programs = state.configuration.world.programs  # all of them, whatever machine they are for
    tiers: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for process in processes:
        tiers[tier_of(process, programs)][process.ip].append(process.key)
    outcomes: list[Outcome] = []
    for tier in sorted(tiers, reverse=asked.verb in ENDING):
        if outcomes and peer.left_s() < HOP_S:
            late = f"not begun: no time was left when tier {tier} came (--timeout)"
            outcomes += [Outcome(key, FAILED, late) for keys in tiers[tier].values() for key in keys]
        else:
            outcomes += _on_machines(state, peer, asked, tiers[tier])
    return outcomes


def _kill_machine(
    state: DaemonState, asked: OperateGroup, grants: tuple[Grant, ...], selection: Selection
) -> str:
    ips = {process.ip for process in state.select(selection)}
    if not ips and asked.machine != state.ip:
        raise no_machine(state, grants, "kill", selection)
    if len(ips) > 1:
        raise Refused("bad_request", f"kill is for one machine; {asked.machine} is {len(ips)} machines")
    return ips.pop() if ips else state.ip


def _with_pid(state: DaemonState, processes: list[Process], asked: OperateGroup) -> list[Process]:
    """By the last records: only the daemon there knows it for sure."""
    rows = state.globaldb.read_records([process.key for process in processes], ("pid",))
    found = [process for process, (pid,) in zip(processes, rows, strict=True) if pid == str(asked.pid)]
    if not found:
        raise Refused("unknown_target", f"no process of {asked.machine} reports pid {asked.pid}")
    return found


def _planned(state: DaemonState, verb: str, processes: list[Process]) -> list[Outcome]:
    """What would happen, by the last records and by who is online; does nothing."""
    verdicts = state.gallery.verdicts(processes)
    return [_plan(state, verb, process, verdicts.get(process.key, "UNKNOWN")) for process in processes]


def _plan(state: DaemonState, verb: str, process: Process, verdict: str) -> Outcome:
    online = state.presence.online(process.ip)
    if online is False:
        return Outcome(process.key, FAILED, f"machine {process.ip} is not connected to the router")
    if online is None:
        return Outcome(
            process.key, FAILED, f"{state.presence.trouble}: {process.ip} cannot be reached from here"
        )
    if (verb == "start" and verdict in ALIVE) or (verb in ("stop", "force-stop") and verdict == STOPPED):
        return Outcome(process.key, ALREADY, f"is {verdict}")
    return Outcome(process.key, OK, f"would {verb} it (it is {verdict})")


def _on_machines(
    state: DaemonState, peer: Peer, asked: OperateGroup, by_ip: dict[str, list[str]]
) -> list[Outcome]:
    def progress(outcome: Outcome) -> None:
        if asked.command:
            peer.notify(TargetFinished(asked.command, pack([outcome])[0]))

    def said(target: str, words: str) -> None:
        if asked.command:
            peer.notify(TargetProgressed(asked.command, target, words))

    def on_machine(ip: str) -> list[Outcome]:
        order = OperateMachine(
            asked.verb,
            by_ip[ip],
            peer.name,
            f"{peer.address} at {state.ip}",
            asked.pid,
            asked.command,
            asked.options,
        )
        if ip == state.ip:
            return operate_machine(state, order, peer.left_s() - HOP_S, progress, said)
        return _elsewhere(state, ip, order, peer.left_s() - HOP_S, progress)

    pool = Pool(MACHINES_AT_ONCE)
    with state.listening(asked.command, progress, said):
        answers = [pool.spawn(on_machine, ip) for ip in by_ip]
        gevent.joinall(answers, raise_error=True)
    return [outcome for answer in answers for outcome in answer.value]


def _elsewhere(
    state: DaemonState, ip: str, order: OperateMachine, wait_s: float, progress: Progress
) -> list[Outcome]:
    targets = order.targets or [ip]

    def all_of_them(result: str, detail: str) -> list[Outcome]:
        outcomes = [Outcome(target, result, detail) for target in targets]
        for outcome in outcomes:
            progress(outcome)
        return outcomes

    link = state.presence.link
    if link is None:
        return all_of_them(FAILED, f"{state.presence.trouble}: nothing was sent to {ip}")
    try:
        reply = link.call(order, max(LEAST_S, wait_s), ip.encode())
        outcomes = [outcome for outcome in unpack(reply.outcomes) if speaks_for(ip, outcome.target)]
    except Refused as error:
        result = {"forbidden": REFUSED, "timed_out": UNKNOWN, "internal": UNKNOWN}.get(error.code, FAILED)
        return all_of_them(result, str(error))
    except (LinkLost, NoReply) as error:
        return all_of_them(UNKNOWN, str(error))
    answered = {outcome.target for outcome in outcomes}
    silent = [
        Outcome(key, UNKNOWN, f"the daemon of {ip} said nothing of it")
        for key in order.targets
        if key not in answered
    ]
    return outcomes + silent


def operate_machine(
    state: DaemonState,
    order: OperateMachine,
    wait_s: float,
    progress: Progress = lambda outcome: None,
    said: Said = lambda target, words: None,
) -> list[Outcome]:
    """Here. Rights are looked up again: the daemon that asks may be behind, or not what it seems. Raises Refused."""
    if order.verb not in VERBS:
        raise Refused("bad_request", f"daemon {state.ip} knows no verb {order.verb!r}")
    _check_options(order.options)
    grants = state.rights.grants(order.user)
    wait_s = max(LEAST_S, wait_s)
    targets = _by_pid(state, order) if order.verb == "kill" else order.targets
    state.refresh_configuration()

    def on_process(key: str) -> Outcome:
        outcome = _on_process(state, order, grants, key, wait_s, said)
        progress(outcome)
        return outcome

    answers = [gevent.spawn(on_process, key) for key in targets]
    gevent.joinall(answers, raise_error=True)
    return [answer.value for answer in answers]


def _by_pid(state: DaemonState, order: OperateMachine) -> list[str]:
    """The process that has this pid, or left a child behind that has it. Raises Refused."""
    keys = [
        key
        for key, keeper in state.keepers.items()
        if order.pid in {keeper.pid, *(each.pid for each in keeper.leftovers)}
    ]
    if not keys:
        raise Refused(
            "unknown_target",
            f"pid {order.pid} is not a process that the agent manages on {state.ip}; nothing was done",
        )
    return keys


def _on_process(
    state: DaemonState, order: OperateMachine, grants: tuple, key: str, wait_s: float, said: Said
) -> Outcome:
    keeper = state.keepers.get(key) if isinstance(key, str) else None
    if keeper is None:
        return Outcome(str(key), FAILED, f"process {key} is not configured on {state.ip}")
    if not permits(grants, order.verb, order.options, state.process_of(key)):
        return Outcome(key, REFUSED, f"user {order.user} may not {order.verb} it")
    try:
        return _DO[order.verb](state, order, keeper, wait_s, lambda words: said(key, words))
    except AgentError as error:
        return Outcome(key, FAILED, str(error))


def _begin_task(state: DaemonState, order: OperateMachine, keeper: Keeper) -> Outcome:
    deadline_s, notice = order.options.get("deadline_s", 0.0), order.options.get("notice", "")
    return state.agenda.begin(KIND_OF[order.verb], keeper.key, order.user, order.origin, deadline_s, notice)


_Do = Callable[[DaemonState, OperateMachine, Keeper, float, Callable[[str], object]], Outcome]
_DO: dict[str, _Do] = {
    "start": lambda state, order, keeper, wait_s, said: keeper.start(wait_s),
    "stop": lambda state, order, keeper, wait_s, said: keeper.stop(wait_s, said),
    "force-stop": lambda state, order, keeper, wait_s, said: keeper.force_stop(wait_s, said),
    "restart": lambda state, order, keeper, wait_s, said: keeper.restart(wait_s, said),
    "kill": lambda state, order, keeper, wait_s, said: keeper.kill(wait_s),
    "drain": lambda state, order, keeper, wait_s, said: _begin_task(state, order, keeper),
    "restart-when-empty": lambda state, order, keeper, wait_s, said: _begin_task(state, order, keeper),
    "cancel": lambda state, order, keeper, wait_s, said: state.agenda.cancel(keeper.key, order.user),
}


def permits(grants: tuple[Grant, ...], verb: str, options: dict, process: Process) -> bool:
    """Whether these rights are enough; announcing something is a GM command like any other."""
    needed = (*VERBS[verb], "gm:broadcast") if options.get("notice") else VERBS[verb]
    return all(may(grants, each, process) for each in needed)


def _check_options(options: dict) -> None:
    """Raises Refused."""
    deadline_s, notice = options.get("deadline_s", 0.0), options.get("notice", "")
    if type(deadline_s) not in (int, float) or not 0 <= deadline_s <= MAX_DEADLINE_S:
        raise Refused("bad_request", f"a deadline is a number of seconds up to {MAX_DEADLINE_S:.0f}")
    if not isinstance(notice, str) or len(notice) > MAX_NOTICE_CHARS or not is_utf8(notice):
        raise Refused("bad_request", f"a notice is a text of at most {MAX_NOTICE_CHARS} characters")


def speaks_for(ip: str, target: str) -> bool:
    """Whether the daemon of `ip` can know what became of `target`: one that was broken into knows its own only."""
    try:
        return target == ip or split_key(target)[1] == ip
    except ConfigError:
        return False


def pack(outcomes: Iterable[Outcome], most: int | None = None) -> list[list[object]]:
    """For the wire; `most` characters of each detail."""
    return [[outcome.target, outcome.result, outcome.detail[:most], outcome.pid] for outcome in outcomes]


def unpack(rows: list) -> list[Outcome]:
    """From the wire. Raises Refused when it is not what it should be."""
    try:
        return [
            Outcome(str(target), str(result), str(detail), int(pid)) for target, result, detail, pid in rows
        ]
    except (TypeError, ValueError, OverflowError):
        raise Refused("internal", "a daemon answered with outcomes that cannot be read") from None


def _in_words(asked: OperateGroup) -> str:
    """As an operator could type it again."""
    told = [
        f"--{name.removesuffix('_s')} {json.dumps(value, ensure_ascii=False)}"
        for name, value in asked.options.items()
        if name in ("deadline_s", "notice") and isinstance(value, int | float | str)
    ]
    words = [*([asked.region] if asked.region != "*" else []), asked.machine]
    words.append(str(asked.pid) if asked.verb == "kill" else (asked.name or "*"))
    while len(words) > 1 and words[-1] == "*":
        words.pop()
    return " ".join([asked.verb, *("all" if word == "*" else word for word in words), *told])
