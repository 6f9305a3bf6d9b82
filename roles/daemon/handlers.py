"""What a daemon answers: to admins, to other daemons (through the router), to the router."""

import logging

import gevent

from agent.dispatch import SHARED, Table
from agent.errors import LinkLost, NoReply, Refused
from agent.link import Peer
from agent.messages import (
    AuditLines,
    DescribeProcess,
    OperateGroup,
    OperateMachine,
    Outcomes,
    PictureBegun,
    PresenceChanged,
    ProcessDescription,
    ReadAudit,
    ReadSessions,
    Sessions,
    TargetFinished,
    WatchPicture,
)
from agent.outcome import Outcome
from roles.daemon import description, operation
from roles.daemon.rights import may
from roles.daemon.state import DaemonState

log = logging.getLogger("agent.handlers")

TABLE = Table(SHARED)
AUDIT_LINES = 1000
SESSIONS_S = 5.0


@TABLE.on(OperateGroup, ask=("admin",))
def operate_group(state: DaemonState, peer: Peer, message: OperateGroup) -> Outcomes:
    """start, stop, restart or kill, anywhere in the group; one verdict per target."""
    return operation.operate_group(state, peer, message)


@TABLE.on(OperateMachine, ask=("daemon",))
def operate_machine(state: DaemonState, peer: Peer, message: OperateMachine) -> Outcomes:
    """The same, on this machine, for a user of another daemon."""
    log.info("%s of %d processes for user %s (%s), asked by daemon %s", message.verb, len(message.targets),
             message.user, message.origin, peer.name)  # fmt: skip

    def progress(outcome: Outcome) -> None:
        if message.command:
            peer.notify(TargetFinished(message.command, operation.pack([outcome])[0]))

    return Outcomes(
        operation.pack(operation.operate_machine(state, message, peer.left_s() - operation.HOP_S, progress))
    )


@TABLE.on(TargetFinished, ask=("daemon",))
def target_finished(state: DaemonState, peer: Peer, message: TargetFinished) -> None:
    """Progress of a command that we passed on."""
    (outcome,) = operation.unpack([message.outcome])
    if operation.speaks_for(peer.name, outcome.target):
        state.heard(message.command, outcome)


@TABLE.on(PresenceChanged, ask=("router",))
def presence_changed(state: DaemonState, _peer: Peer, message: PresenceChanged) -> None:
    """Machines that came and went."""
    state.presence.changed(message)


@TABLE.on(WatchPicture, ask=("admin",))
def watch_picture(state: DaemonState, peer: Peer, message: WatchPicture) -> PictureBegun:
    """What there is: sent now in parts, and followed on a timer if asked."""
    return state.gallery.show(peer, message)


@TABLE.on(DescribeProcess, ask=("admin", "daemon"))
def describe_process(state: DaemonState, peer: Peer, message: DescribeProcess) -> ProcessDescription:
    """Everything about one process, from the daemon of its machine."""
    user = message.user if peer.role == "daemon" else peer.name
    process = state.process_of(message.key)
    if not may(state.rights.grants(user), "list", process):
        raise Refused("forbidden", f"user {user} may not list {message.key}")
    if process.ip == state.ip:
        return ProcessDescription(message.key, description.facts(state, message.key))
    if peer.role == "daemon":
        raise Refused("unknown_target", f"{message.key} is not on {state.ip}")
    link = _router_link(state, process.ip)
    try:
        return link.call(
            DescribeProcess(message.key, user), peer.left_s() - operation.HOP_S, process.ip.encode()
        )
    except (LinkLost, NoReply) as error:
        raise Refused("timed_out", str(error)) from None


@TABLE.on(ReadSessions, ask=("admin", "daemon"))
def read_sessions(state: DaemonState, peer: Peer, message: ReadSessions) -> Sessions:
    """Who is logged in, here or on all daemons."""
    user = message.user if peer.role == "daemon" else peer.name
    state.rights.demand(user, "who")
    own = [
        [state.ip, link.peer.name, link.peer.address, round(link.peer.since_at, 3), link.peer.version]
        for link in state.sessions
    ]
    if not message.everywhere or peer.role == "daemon":
        return Sessions(own)
    link = _router_link(state, "the other machines")
    asked = {
        ip: gevent.spawn(_sessions_of, link, ip, user, min(SESSIONS_S, peer.left_s()))
        for ip in state.presence.others()
    }
    gevent.joinall(list(asked.values()))
    answers = {ip: greenlet.value for ip, greenlet in asked.items()}
    rows = [row for rows in answers.values() if rows is not None for row in rows]
    return Sessions(own + rows, [ip for ip, rows in answers.items() if rows is None])


def _sessions_of(link, ip: str, user: str, wait_s: float) -> list | None:
    try:
        return link.call(ReadSessions(False, user), wait_s, ip.encode()).sessions
    except (Refused, LinkLost, NoReply):
        return None


@TABLE.on(ReadAudit, ask=("admin",))
def read_audit(state: DaemonState, peer: Peer, message: ReadAudit) -> AuditLines:
    """The newest lines of the audit."""
    state.rights.demand(peer.name, "audit")
    return AuditLines(state.globaldb.read_audit(max(1, min(message.count, AUDIT_LINES))))


def _router_link(state: DaemonState, whither: str):
    link = state.presence.link
    if link is None:
        raise Refused("unreachable", f"{state.presence.trouble}: {whither} cannot be reached from {state.ip}")
    return link
