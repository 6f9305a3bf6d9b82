"""What a daemon answers: to admins, to other daemons (through the router), to the router."""

import logging
import time
from dataclasses import asdict

import gevent

from agent import codec, declaration
from agent.dispatch import SHARED, Table
from agent.errors import LinkLost, NoReply, Refused
from agent.link import Peer
from agent.messages import (
    ApplicationDeclared,
    AuditLines,
    CallGm,
    CallMachineGm,
    DeclareApplication,
    DescribeGm,
    DescribeProcess,
    EventRaised,
    EventsBegun,
    EventsHappened,
    EventsKept,
    GmAnswered,
    GmCatalogue,
    GmVerdicts,
    OperateGroup,
    OperateMachine,
    Outcomes,
    PictureBegun,
    PresenceChanged,
    ProcessDescription,
    ReadAudit,
    ReadEvents,
    ReadSessions,
    ReadTasks,
    SaveProgressed,
    Sessions,
    SubscribeEvents,
    TargetFinished,
    TargetProgressed,
    Tasks,
    WatchEvents,
    WatchPicture,
)
from agent.outcome import Outcome
from agent.selection import Selection
from roles.daemon import bus, description, machine_bus, operation, saving
from roles.daemon.rights import may
from roles.daemon.state import DaemonState

log = logging.getLogger("agent.handlers")

TABLE = Table(SHARED)
AUDIT_LINES = 1000
EVENTS, EVENTS_BYTES = 1000, 2 * 1024 * 1024
TASKS = 1000
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

    def said(target: str, words: str) -> None:
        if message.command:
            peer.notify(TargetProgressed(message.command, target, words))

    wait_s = peer.left_s() - operation.HOP_S
    return Outcomes(operation.pack(operation.operate_machine(state, message, wait_s, progress, said)))


@TABLE.on(TargetFinished, ask=("daemon",))
def target_finished(state: DaemonState, peer: Peer, message: TargetFinished) -> None:
    """Progress of a command that we passed on."""
    (outcome,) = operation.unpack([message.outcome])
    if operation.speaks_for(peer.name, outcome.target):
        state.heard(message.command, outcome)


@TABLE.on(TargetProgressed, ask=("daemon",))
def target_progressed(state: DaemonState, peer: Peer, message: TargetProgressed) -> None:
    """How far one target of a command that we passed on is."""
    if operation.speaks_for(peer.name, message.target):
        state.heard_of(message.command, message.target, message.text)


@TABLE.on(PresenceChanged, ask=("router",))
def presence_changed(state: DaemonState, peer: Peer, message: PresenceChanged) -> None:
    """Machines that came and went; who waits for a reply of one that went waits no longer."""
    for ip in state.presence.changed(message):
        peer.link.lose(ip.encode(), f"machine {ip} lost its link to the router")


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


# ---- GM commands, events, tasks -----------------------------------------------------------------------------------


@TABLE.on(CallGm, ask=("admin",))
def call_gm(state: DaemonState, peer: Peer, message: CallGm) -> GmVerdicts:
    """A GM command for applications anywhere in the group; one verdict per target."""
    return bus.call_group(state, peer, message)


@TABLE.on(CallMachineGm, ask=("daemon",))
def call_machine_gm(state: DaemonState, peer: Peer, message: CallMachineGm) -> GmVerdicts:
    """The same, on this machine, for a user of another daemon."""
    called = machine_bus.call(state, message, max(operation.LEAST_S, peer.left_s() - operation.HOP_S))
    *early, last = [*machine_bus.batches(called.answers)] or [[]]
    machine_bus.tell(peer, f"{message.id} {state.ip}", early)
    return GmVerdicts(last, called.spoken)


@TABLE.on(GmAnswered, ask=("daemon",))
def gm_answered(state: DaemonState, peer: Peer, message: GmAnswered) -> None:
    """Some verdicts of a machine, where they do not fit one frame."""
    state.heard_gm(message.id, bus.read_answers(peer.name, message.verdicts))


@TABLE.on(DescribeGm, ask=("admin", "daemon"))
def describe_gm(state: DaemonState, peer: Peer, message: DescribeGm) -> GmCatalogue:
    """Which GM commands there are, as applications have declared them."""
    return bus.describe(state, peer, message)


@TABLE.on(WatchEvents, ask=("admin",))
def watch_events(state: DaemonState, peer: Peer, message: WatchEvents) -> EventsBegun:
    """From now on what applications tell goes to this admin."""
    grants = state.rights.grants(peer.name)
    if not any(grant.has_verb("events") for grant in grants):
        raise Refused("forbidden", f"user {peer.name} may not see events: it needs the grant `events on …`")
    state.events.watch(peer, message)
    ips = {process.ip for process in state.select(Selection(message.region, message.machine, message.name))}
    return EventsBegun(sorted(ip for ip in ips if not state.presence.online(ip)))


@TABLE.on(SubscribeEvents, ask=("daemon",))
def subscribe_events(state: DaemonState, peer: Peer, message: SubscribeEvents) -> None:
    """Another daemon wants what applications here tell, for one of its admins."""
    state.events.subscribe(peer.name, message)


@TABLE.on(EventsHappened, ask=("daemon",))
def events_happened(state: DaemonState, peer: Peer, message: EventsHappened) -> None:
    """What applications of another machine tell."""
    state.events.happened(peer.name, message)


@TABLE.on(ReadEvents, ask=("admin",))
def read_events(state: DaemonState, peer: Peer, message: ReadEvents) -> EventsKept:
    """The newest events that are kept."""
    grants = state.rights.grants(peer.name)
    found = state.select(Selection(message.region, message.machine, message.name))
    keys = [process.key for process in found if may(grants, "events", process)]
    if found and not keys:
        raise Refused(
            "forbidden", f"user {peer.name} may not see events there: it needs the grant `events on …`"
        )
    rows = state.globaldb.read_events(keys, max(1, min(message.count, EVENTS)))
    while rows and len(codec.encode(EventsKept(rows))) > EVENTS_BYTES:
        rows = rows[len(rows) // 4 + 1 :]  # the oldest make room
    return EventsKept(rows)


@TABLE.on(ReadTasks, ask=("admin",))
def read_tasks(state: DaemonState, peer: Peer, _message: ReadTasks) -> Tasks:
    """What goes on behind commands, and what did so lately."""
    grants = state.rights.grants(peer.name)
    tasks = [
        task
        for key, task in state.globaldb.read_tasks().items()
        if may(grants, "list", state.process_of(key))
    ]
    return Tasks([asdict(task) for task in sorted(tasks, key=lambda task: task.begun_at)][-TASKS:])


# ---- applications of this machine -----------------------------------------------------------------------------------


@TABLE.on(DeclareApplication, ask=("app",))
def declare_application(state: DaemonState, peer: Peer, message: DeclareApplication) -> ApplicationDeclared:
    """What an application can do."""
    application = state.applications.speaking(peer)
    if not state.declare_rate.take(application.key, time.monotonic()):
        raise Refused("too_many", "it declares too often; what it declared last holds")
    declarations = declaration.read_declarations(message.commands)
    state.applications.declare(application, message.saves, message.entry, declarations)
    return ApplicationDeclared()


@TABLE.on(SaveProgressed, ask=("app",))
def save_progressed(state: DaemonState, peer: Peer, message: SaveProgressed) -> None:
    """How far an application is with its saving."""
    application = state.applications.speaking(peer)
    keeper = state.keepers.get(application.key)
    if keeper is not None and application.is_progress_due():
        keeper.progressed(application.incarnation, saving.spoken(message))


@TABLE.on(EventRaised, ask=("app",))
def event_raised(state: DaemonState, peer: Peer, message: EventRaised) -> None:
    """Something an application has to tell."""
    state.events.raised(state.applications.speaking(peer).key, message)


def _router_link(state: DaemonState, whither: str):
    link = state.presence.link
    if link is None:
        raise Refused("unreachable", f"{state.presence.trouble}: {whither} cannot be reached from {state.ip}")
    return link
