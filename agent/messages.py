"""The catalogue: every message that two agents exchange, once. Pure.

A message is a frozen dataclass; its wire name is `area.verb`. A request names its reply. Rules for editors:

- a field is only ever *added*, with a default; a name is never used again for something else;
- fields are JSON: str, int, float, bool, list, dict; a reader ignores fields it does not know and refuses wrong types;
- the network carries names of processes, never command lines.

A request's remaining time travels as the reserved field `left_s`, so that each hop can say where time ran out.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_origin

import ujson

from agent.errors import Refused, WireError

LEFT = "left_s"
MAX_LEFT_S = 1e9
MAX_DEPTH = 64
MAX_INT = 2**63
MAX_SHOWN = 80  # characters of somebody's wrong word in our answer and in our log

BY_NAME: dict[str, type] = {}
NAME_OF: dict[type, str] = {}
REPLY_OF: dict[type, type] = {}
_CHECKS: dict[type, dict[str, tuple[type, ...]]] = {}
_REQUIRED: dict[type, frozenset[str]] = {}

T = TypeVar("T", bound=type)


def message(name: str, reply: type | None = None) -> Callable[[T], T]:
    """Enter a dataclass into the catalogue under its wire name; a taken name fails at import."""

    def enter(cls: T) -> T:
        if name in BY_NAME:
            raise ValueError(f"message {name} is defined twice: {BY_NAME[name].__name__} and {cls.__name__}")
        BY_NAME[name] = cls
        NAME_OF[cls] = name
        if reply is not None:
            REPLY_OF[cls] = reply
        hints = cls.__annotations__
        _CHECKS[cls] = {f.name: _json_types(hints[f.name]) for f in dataclasses.fields(cls)}
        _REQUIRED[cls] = frozenset(
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        )
        return cls

    return enter


def _json_types(hint: Any) -> tuple[type, ...]:
    kind = get_origin(hint) or hint
    return (int, float) if kind is float else (kind,)


def encode(value: Any, left_s: float | None = None) -> bytes:
    """The body of a frame: JSON [name, fields]. What JSON or UTF-8 cannot say (see `tame`) is said otherwise."""
    fields = {name: getattr(value, name) for name in _CHECKS[type(value)]}
    if left_s is not None:
        fields[LEFT] = round(left_s, 3)
    whole = [NAME_OF[type(value)], fields]
    try:
        return _dump(whole, allow_nan=False)
    except (ValueError, OverflowError):  # half a surrogate pair is a ValueError too
        return _dump(tame(whole))


def _dump(whole: list[Any], allow_nan: bool = True) -> bytes:
    return ujson.dumps(whole, ensure_ascii=False, escape_forward_slashes=False, allow_nan=allow_nan).encode()


def tame(value: Any, depth: int = 0) -> Any:
    """What anybody may have written into globaldb, made fit for the wire: no NaN or infinity, no half of a surrogate
    pair, no number too long for a reader, nothing nested so deep that a reader gives up."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < MAX_INT else None
    if isinstance(value, dict):
        return {tame(str(name)): tame(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [tame(item, depth + 1) for item in value]
    return value


def decode(body: bytes) -> tuple[Any, float | None]:
    """The message in a body, and the time its asker still has.

    Raises WireError (no message at all) or Refused (a message, with bad fields).
    """
    try:
        name, fields = ujson.loads(body)
    except (ValueError, TypeError) as error:
        raise WireError(f"body is not JSON [name, fields]: {error}") from None
    if not isinstance(name, str) or not isinstance(fields, dict):
        raise WireError("body is not JSON [name, fields]")
    cls = BY_NAME.get(name)
    if cls is None:
        raise Refused(
            "bad_request", f"unknown message {name[:MAX_SHOWN]!r}: is the other side a newer version?"
        )
    left_s = fields.get(LEFT)
    if left_s is not None and not _is_time(left_s):
        raise Refused("bad_request", f"message {name}: {LEFT} is not a number of seconds")
    checks = _CHECKS[cls]
    known = {}
    for key, kinds in checks.items():
        if key not in fields:
            continue
        item = fields[key]
        if not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds):
            raise Refused("bad_request", f"message {name}: field {key} is not {kinds[-1].__name__}")
        known[key] = item
    missing = _REQUIRED[cls] - known.keys()
    if missing:
        raise Refused("bad_request", f"message {name}: field {', '.join(sorted(missing))} is missing")
    return cls(**known), left_s


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_LEFT_S < value < MAX_LEFT_S


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
    says what would be done. `wide` says that the operator has confirmed to touch more than one machine.
    """

    verb: str
    region: str
    machine: str
    name: str = ""
    pid: int = 0
    command: str = ""
    plan: bool = False
    wide: bool = False


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


@message("target.finished")
@dataclass(frozen=True, slots=True)
class TargetFinished:
    """Progress of a command: one more target has its outcome (same shape as in Outcomes)."""

    command: str
    outcome: list


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
