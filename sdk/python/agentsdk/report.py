"""What the group reports, as a tool gets it: values, and how each is read from a message. Pure.

Rules for editors: a field is only ever added, at the end and with a default; a row of a newer daemon is cut, what an
older one leaves out has its default; a word that we do not know is in doubt, and never good. Every `read_…` raises
ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Callable, NamedTuple, TypeVar

from . import selection

GOOD_RESULTS = ("ok", "already")
RESULTS = (*GOOD_RESULTS, "failed", "refused")
ANSWERED = "answered"
VERDICTS = (ANSWERED, "refused", "forbidden", "invalid", "absent", "unreachable")
ACTIVE_PHASES = ("closing", "announcing", "waiting", "ending")

T = TypeVar("T")


class Outcome(NamedTuple):
    """What became of one target of start, stop, …: `result` is ok, already, failed, refused or unknown."""

    target: str
    result: str
    detail: str = ""
    pid: int = 0

    @property
    def good(self) -> bool:
        return self.result in GOOD_RESULTS

    @property
    def in_doubt(self) -> bool:
        """It may have happened."""
        return self.result not in RESULTS


class Answer(NamedTuple):
    """What one application made of a GM command. `answer` is any JSON value, where `verdict` is answered.

    Else: refused by the application, forbidden to this user, invalid words, absent or unreachable: nothing was run.
    timed_out, unknown: it may have run.
    """

    target: str
    verdict: str
    answer: Any = None
    text: str = ""

    @property
    def good(self) -> bool:
        return self.verdict == ANSWERED

    @property
    def in_doubt(self) -> bool:
        """It may have run."""
        return self.verdict not in VERDICTS


class Gm:
    """A GM call: iterates over its answers, one for each target. `spoken` is the call as the audit has it."""

    def __init__(self, id: str, answers: list[Answer], spoken: str = "") -> None:
        self.id, self.answers, self.spoken = id, answers, spoken

    @property
    def good(self) -> bool:
        """Every target has answered, and there was one."""
        return bool(self.answers) and all(answer.good for answer in self.answers)

    @property
    def in_doubt(self) -> bool:
        """Ask again with `gm_again`."""
        return any(answer.in_doubt for answer in self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)

    def __getitem__(self, place: int) -> Answer:
        return self.answers[place]

    def __repr__(self) -> str:
        return f"Gm(id={self.id!r}, answers={self.answers!r})"


class Machine(NamedTuple):
    """`online` is None where the daemon asked cannot know; `age_s` counts from its last report, None: there is none."""

    ip: str
    online: bool | None = None
    age_s: float | None = None
    info: dict[str, Any] = {}  # noqa: RUF012 -- never written to


class Process(NamedTuple):
    """`verdict` is what is to be believed (RUNNING, SILENT, …), `wanted` up or down, `info` what it says of itself."""

    key: str
    region: str
    ip: str
    name: str
    type: str = ""
    verdict: str = "UNKNOWN"
    wanted: str = ""
    pid: int = 0
    age_s: float | None = None
    startcount: int = 0
    info: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    since_at: float = 0.0
    exit: str = ""
    started_at: float = 0.0


class Event(NamedTuple):
    """Something that an application had to tell, by its own clock."""

    key: str
    at: float
    name: str
    data: Any = None


class Task(NamedTuple):
    """What goes on behind drain and restart(when_empty=True); times are epoch seconds, `players` is -1 at first."""

    key: str
    kind: str
    phase: str
    user: str = ""
    begun_at: float = 0.0
    deadline_at: float = 0.0
    since_at: float = 0.0
    players: int = -1
    notice: str = ""
    detail: str = ""
    cancelled_by: str = ""
    id: str = ""

    @property
    def active(self) -> bool:
        return self.phase in ACTIVE_PHASES


class Argument(NamedTuple):
    name: str
    type: str = "str"
    help: str = ""
    required: bool = True
    default: Any = None
    secret: bool = False


class Command(NamedTuple):
    """A GM command as an application has declared it; `danger` is read, write or red."""

    name: str
    help: str = ""
    danger: str = "write"
    answer: str = ""
    arguments: tuple[Argument, ...] = ()


class Offer(NamedTuple):
    """What can be called in one process; `joined` is false where its application has not."""

    key: str
    type: str
    joined: bool
    commands: dict[str, Command]


class Catalogue(NamedTuple):
    """`silent` are machines that did not answer: what is there is not in `offers`."""

    offers: list[Offer]
    silent: list[str]


# ---- from messages -------------------------------------------------------------------------------------------------


def read_outcomes(rows: Any) -> list[Outcome]:
    return [
        Outcome(_text(row[0]), _text(row[1]), _text(row[2]), _whole(row[3])) for row in _rows(rows, least=4)
    ]


def read_answers(rows: Any) -> list[Answer]:
    return [Answer(_text(row[0]), _text(row[1]), row[2], _text(row[3])) for row in _rows(rows, least=4)]


def read_machines(rows: Any) -> list[Machine]:
    return [
        Machine(_text(row[0]), row[1] if isinstance(row[1], bool) else None, _age(row[2]), _object(row[3]))
        for row in _rows(rows, least=4)
    ]


def read_processes(rows: Any, types: dict[str, str]) -> list[Process]:
    """Rows in the order of PROCESS_COLUMNS; `types` by key."""
    return [_process(row, types) for row in _rows(rows, least=9)]


def _process(row: list[Any], types: dict[str, str]) -> Process:
    key, verdict, wanted, pid, age_s, startcount, since_at, exit_, info = row[:9]
    started_at = row[9] if len(row) > 9 else 0.0
    place = selection.of_key(_text(key))
    return Process(
        key, place.region, place.machine, place.name, types.get(key, ""), _text(verdict), _text(wanted),
        _whole(pid), _age(age_s), _whole(startcount), _object(info), _number(since_at), _text(exit_),
        _number(started_at),
    )  # fmt: skip


def read_types(rows: Any) -> dict[str, str]:
    """Process key -> type, of the world's rows [region, ip, [process, …]]."""
    found = {}
    for region, ip, processes in (row[:3] for row in _rows(rows, least=3)):
        for process in processes if isinstance(processes, list) else ():
            configured = _object(process)
            found[f"{region}.{ip}.{configured.get('name', '')}"] = str(configured.get("type", ""))
    return found


def read_events(rows: Any) -> list[Event]:
    return [Event(_text(row[0]), _number(row[1]), _text(row[2]), row[3]) for row in _rows(rows, least=4)]


def read_tasks(rows: Any) -> list[Task]:
    return [_fitting(Task, _object(row), ("key", "kind", "phase")) for row in _list(rows)]


def read_catalogue(fields: dict[str, Any]) -> Catalogue:
    declared = {
        digest: {command.name: command for command in map(_command, _list(commands))}
        for digest, commands in _object(fields.get("commands")).items()
    }
    offers = [
        Offer(_text(row[0]), _text(row[1]), bool(row[2]), declared.get(_text(row[2]), {}))
        for row in _rows(fields.get("processes"), least=3)
    ]
    return Catalogue(offers, [_text(ip) for ip in _list(fields.get("silent", []))])


def _command(raw: Any) -> Command:
    entry = _object(raw)
    arguments = tuple(
        _fitting(Argument, {**each, "required": "default" not in each}, ("name",))
        for each in map(_object, _list(entry.get("arguments", [])))
    )
    return _fitting(Command, {**entry, "arguments": arguments}, ("name",))


# ---- whatever may have been written --------------------------------------------------------------------------------


def _fitting(kind: Callable[..., T], row: dict[str, Any], required: tuple[str, ...]) -> T:
    """Of a named tuple, the fields that the row has."""
    if not all(isinstance(row.get(name), str) for name in required):
        raise ValueError(f"a row without {', '.join(required)}")
    known = kind._fields  # type: ignore[attr-defined]
    return kind(**{name: value for name, value in row.items() if name in known})


def _rows(value: Any, least: int) -> list[list[Any]]:
    rows = _list(value)
    if not all(isinstance(row, list) and len(row) >= least for row in rows):
        raise ValueError(f"a row of fewer than {least} columns")
    return rows


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("no list where one belongs")
    return value


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text where one belongs")
    return value


def _whole(value: Any) -> int:
    return int(_number(value))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("no number where one belongs")
    return value


def _age(value: Any) -> float | None:
    return None if value is None or _number(value) < 0 else float(value)
