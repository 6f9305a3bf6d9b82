"""The catalogue: every message that two agents exchange, once. Pure.

A message is a frozen dataclass; its wire name is `area.verb`. A request names its reply. Rules for editors:

- a field is only ever *added*, with a default; a name is never used again for something else;
- the network carries names of processes, never command lines.

agent/codec.py makes bytes of them and has what a field may be.
"""

from dataclasses import dataclass, field

from agent.codec import message

# ---- every link ---------------------------------------------------------------------------------------------------


@message("error")
@dataclass(frozen=True, slots=True)
class Error:
    """The body of every ERROR frame; `code` is a row of errors.EXIT_CODES."""

    code: str
    text: str


@message("link.ping")
@dataclass(frozen=True, slots=True)
class Ping:
    """A sign of life when there is nothing else to say."""


@message("link.goodbye")
@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why the sender is about to close; `code` "replaced" means: another daemon with this ip has taken your place."""

    text: str
    code: str = ""


@message("session.challenge")
@dataclass(frozen=True, slots=True)
class Challenge:
    server_first: str


@message("session.hello", reply=Challenge)
@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a link: `role` daemon with its ip as `name`, or admin with the user's.

    `incarnation` grows with every start of a daemon.
    """

    protocol: int
    role: str
    name: str
    client_first: str
    version: str = ""
    incarnation: int = 0


@message("session.welcome")
@dataclass(frozen=True, slots=True)
class Welcome:
    server_final: str
    role: str
    name: str
    version: str = ""


@message("session.prove", reply=Welcome)
@dataclass(frozen=True, slots=True)
class Prove:
    client_final: str


# ---- applications and their daemon (docs/sdk.md) --------------------------------------------------------------------


@message("session.joined")
@dataclass(frozen=True, slots=True)
class Joined:
    """`globaldb` is where the application is to write its record; "" where it is not to be told."""

    daemon: str
    version: str
    heartbeat_s: float
    globaldb: str = ""


@message("session.join", reply=Joined)
@dataclass(frozen=True, slots=True)
class Join:
    """The first frame of an application, in plain text from this machine; the rest of its environment as fields."""

    protocol: int
    key: str
    incarnation: str
    token: str
    pid: int = 0
    sdk: str = ""


@message("application.declared")
@dataclass(frozen=True, slots=True)
class ApplicationDeclared:
    pass


@message("application.declare", reply=ApplicationDeclared)
@dataclass(frozen=True, slots=True)
class DeclareApplication:
    """What an application can do, in place of what it said before; `commands` are agent.gm's declarations."""

    saves: bool = False
    entry: bool = False
    commands: list = field(default_factory=list)


@message("gm.answer")
@dataclass(frozen=True, slots=True)
class GmAnswer:
    """Any JSON value, at most 64 KiB."""

    answer: object = None


@message("gm.execute", reply=GmAnswer)
@dataclass(frozen=True, slots=True)
class ExecuteGm:
    """Run a GM command. An `id` is never run twice; `again` only asks what became of it."""

    id: str
    command: str
    arguments: dict
    user: str = ""
    again: bool = False


@message("process.saved")
@dataclass(frozen=True, slots=True)
class ProcessSaved:
    text: str = ""


@message("process.save", reply=ProcessSaved)
@dataclass(frozen=True, slots=True)
class SaveProcess:
    """Save everything, for the process is to be stopped; ERROR `refused`: it goes on."""

    id: str
    reason: str = "stop"


@message("save.progressed")
@dataclass(frozen=True, slots=True)
class SaveProgressed:
    done: int = 0
    total: int = 0
    text: str = ""


@message("entry.state")
@dataclass(frozen=True, slots=True)
class EntryState:
    text: str = ""


@message("entry.set", reply=EntryState)
@dataclass(frozen=True, slots=True)
class SetEntry:
    """`open` false: let nobody in any more; true: let them in again."""

    open: bool
    reason: str = ""


@message("event.raised")
@dataclass(frozen=True, slots=True)
class EventRaised:
    """Something an application has to tell: `data` is any JSON value of at most 8 KiB, `at` its own clock."""

    name: str
    data: object = None
    at: float = 0.0


# ---- router and daemons -------------------------------------------------------------------------------------------


@message("presence")
@dataclass(frozen=True, slots=True)
class Presence:
    """Who is online: ip -> {"since_at", "version", "address", "rival": where a second daemon claims this ip}."""

    machines: dict


@message("presence.read", reply=Presence)
@dataclass(frozen=True, slots=True)
class ReadPresence:
    pass


@message("presence.changed")
@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """From the router to every daemon; `joined` has the shape of Presence.machines."""

    joined: dict
    left: list


# ---- commands over processes --------------------------------------------------------------------------------------


@message("outcomes")
@dataclass(frozen=True, slots=True)
class Outcomes:
    """One verdict per target: [[target, result, detail, pid], ...]; see agent.outcome."""

    outcomes: list


@message("group.operate", reply=Outcomes)
@dataclass(frozen=True, slots=True)
class OperateGroup:
    """An admin's start, stop, restart or kill. `region`, `machine`, `name` are patterns; `pid` is for kill alone.

    `command` is a number that the asker makes up: progress notices and the audit carry it. `plan` does nothing and
    says what would be done. `wide` says that the operator has confirmed to touch more than one machine, or to kill.
    `options`: of drain and restart-when-empty {"deadline_s": float, "notice": str}.
    """

    verb: str
    region: str
    machine: str
    name: str = ""
    pid: int = 0
    command: str = ""
    plan: bool = False
    wide: bool = False
    options: dict = field(default_factory=dict)


@message("machine.operate", reply=Outcomes)
@dataclass(frozen=True, slots=True)
class OperateMachine:
    """A daemon to the daemon that executes: `targets` are process keys there; rights of `user` are checked again."""

    verb: str
    targets: list
    user: str
    origin: str
    pid: int = 0
    command: str = ""
    options: dict = field(default_factory=dict)


@message("target.finished")
@dataclass(frozen=True, slots=True)
class TargetFinished:
    """Progress of a command: one more target has its outcome (same shape as in Outcomes)."""

    command: str
    outcome: list


@message("target.progressed")
@dataclass(frozen=True, slots=True)
class TargetProgressed:
    """Progress of a command: how far one target is, in words ("saving 812/2000")."""

    command: str
    target: str
    text: str


# ---- GM commands --------------------------------------------------------------------------------------------------


@message("gm.verdicts")
@dataclass(frozen=True, slots=True)
class GmVerdicts:
    """Verdicts that did not come as GmAnswered before: [[target, verdict, answer, text], ...], see agent.gm.

    `spoken` is the call as the audit has it, secrets masked; "" where no target's declaration is known.
    """

    verdicts: list
    spoken: str = ""


@message("gm.call", reply=GmVerdicts)
@dataclass(frozen=True, slots=True)
class CallGm:
    """An admin's GM command. `name` is a pattern over names and types; an operator gives `words`, a tool `arguments`.

    `id` is made up by the asker; with `again` it only asks what became of that id. `any`: one of the targets.
    `wide` and `sure`: the operator has confirmed to reach over machines, and a red command.
    """

    region: str
    machine: str
    name: str
    command: str
    id: str
    words: list = field(default_factory=list)
    arguments: dict = field(default_factory=dict)
    any: bool = False
    again: bool = False
    wide: bool = False
    sure: bool = False


@message("machine.gm", reply=GmVerdicts)
@dataclass(frozen=True, slots=True)
class CallMachineGm:
    """A daemon to the daemon of the machine: `targets` are process keys there; rights of `user` are checked again.

    Where a command is red and the operator is not `sure`: ERROR `unconfirmed`, and none has run. `plan` runs none.
    """

    targets: list
    command: str
    id: str
    user: str
    words: list = field(default_factory=list)
    arguments: dict = field(default_factory=dict)
    again: bool = False
    sure: bool = False
    plan: bool = False


@message("gm.answered")
@dataclass(frozen=True, slots=True)
class GmAnswered:
    """Some verdicts of a call, as they come; the shape of GmVerdicts.verdicts."""

    id: str
    verdicts: list


@message("gm.catalogue")
@dataclass(frozen=True, slots=True)
class GmCatalogue:
    """What can be called: processes [[key, type, digest], ...] ("" as digest: it has not joined), digest -> commands as
    declared, and the ips that did not answer."""

    processes: list
    commands: dict
    silent: list = field(default_factory=list)


@message("gm.describe", reply=GmCatalogue)
@dataclass(frozen=True, slots=True)
class DescribeGm:
    """Patterns as in CallGm; from a daemon to another `user` says for whom."""

    region: str = "*"
    machine: str = "*"
    name: str = "*"
    user: str = ""


# ---- events of applications ---------------------------------------------------------------------------------------


@message("events.kept")
@dataclass(frozen=True, slots=True)
class EventsKept:
    """[[process key, at, name, data], ...], oldest first."""

    events: list


@message("events.read", reply=EventsKept)
@dataclass(frozen=True, slots=True)
class ReadEvents:
    """The newest `count` of what is kept."""

    region: str = "*"
    machine: str = "*"
    name: str = "*"
    count: int = 50


@message("events.begun")
@dataclass(frozen=True, slots=True)
class EventsBegun:
    """From now on EventsHappened notices come; `silent` are machines that could not be asked."""

    silent: list = field(default_factory=list)


@message("events.watch", reply=EventsBegun)
@dataclass(frozen=True, slots=True)
class WatchEvents:
    """From an admin, and for as long as his link lives."""

    region: str = "*"
    machine: str = "*"
    name: str = "*"


@message("events.subscribe")
@dataclass(frozen=True, slots=True)
class SubscribeEvents:
    """A daemon to another: send what happens there for `term_s` from now; said anew before it is over. 0 ends it."""

    id: str
    user: str
    region: str
    machine: str
    name: str
    term_s: float


@message("events.happened")
@dataclass(frozen=True, slots=True)
class EventsHappened:
    """[[process key, at, name, data], ...]; `id` is that of the subscription, "" towards an admin."""

    events: list
    id: str = ""


# ---- tasks: what goes on behind a command --------------------------------------------------------------------------


@message("tasks")
@dataclass(frozen=True, slots=True)
class Tasks:
    """One object per task; see agent.task."""

    tasks: list


@message("tasks.read", reply=Tasks)
@dataclass(frozen=True, slots=True)
class ReadTasks:
    pass


# ---- what there is ------------------------------------------------------------------------------------------------


@message("picture.begun")
@dataclass(frozen=True, slots=True)
class PictureBegun:
    """The whole picture has been sent (its PictureChanged notices came before this reply).

    `limited`: of what there is, only what this user may list.
    """

    processes: int
    tick_s: float
    problems: list = field(default_factory=list)
    limited: bool = False


@message("picture.watch", reply=PictureBegun)
@dataclass(frozen=True, slots=True)
class WatchPicture:
    """Send the picture now, in parts; with `follow` also what changes from then on, on a timer.

    `parts` names what is wanted: "world", "machines", "processes". Patterns narrow it, and `pid` does.
    """

    region: str = "*"
    machine: str = "*"
    name: str = "*"
    pid: int = 0
    follow: bool = False
    parts: list = field(default_factory=lambda: ["world", "machines", "processes"])


@message("picture.changed")
@dataclass(frozen=True, slots=True)
class PictureChanged:
    """A part of the picture. `reset` empties what the receiver knew; `at` is the group's time.

    regions   region -> attributes
    world     [[region, ip, [process, ...]], ...]; an empty list of processes with `gone` lists machines that went
    machines  [[ip, online, age_s, info], ...]
    processes rows in the order of PROCESS_COLUMNS
    gone      process keys and ips that are no more
    trouble   why nothing newer can be told; what was told before is old from then on, until a notice without it
    """

    at: float = 0.0
    reset: bool = False
    regions: dict = field(default_factory=dict)
    world: list = field(default_factory=list)
    machines: list = field(default_factory=list)
    processes: list = field(default_factory=list)
    gone: list = field(default_factory=list)
    trouble: str = ""


PROCESS_COLUMNS = ("key", "verdict", "wanted", "pid", "age_s", "startcount", "since_at", "exit", "info",
                   "started_at")  # fmt: skip


@message("process.description")
@dataclass(frozen=True, slots=True)
class ProcessDescription:
    """What the daemon of the machine sees of one process right now; `facts` is ordered name -> value, for reading."""

    key: str
    facts: dict


@message("process.describe", reply=ProcessDescription)
@dataclass(frozen=True, slots=True)
class DescribeProcess:
    """From an admin to any daemon, and from there to the daemon of the machine (`user` is set by the daemon then)."""

    key: str
    user: str = ""


@message("sessions")
@dataclass(frozen=True, slots=True)
class Sessions:
    """[[daemon ip, user, address, since_at, version], ...] and the ips that did not answer."""

    sessions: list
    silent: list = field(default_factory=list)


@message("sessions.read", reply=Sessions)
@dataclass(frozen=True, slots=True)
class ReadSessions:
    """Who is logged in; `everywhere` asks all daemons, otherwise only the one asked."""

    everywhere: bool = False
    user: str = ""


@message("audit.lines")
@dataclass(frozen=True, slots=True)
class AuditLines:
    """The newest lines of the audit, oldest first; each a dict (agent.globaldb writes them)."""

    lines: list


@message("audit.read", reply=AuditLines)
@dataclass(frozen=True, slots=True)
class ReadAudit:
    count: int = 50
