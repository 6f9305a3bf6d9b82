"""A task: what goes on behind a command until it is done, over the deaths of daemons. One per process at most. Pure.

    drain     closing ─► announcing ─► waiting ─► ending ─► done          entry closed, players told, none left, stopped
    restart   waiting ─► closing ─► ending ─► done                        empty by itself, entry closed, still empty

    failed, cancelled: entry is open again, and the process goes on

Rules for the next editor: a phase is written before its act, so that whoever reads it knows what may have happened; a
field is only ever added, with a default. In globaldb: `task`, process key -> JSON.
"""

import json
from dataclasses import asdict, dataclass, fields, replace

DRAIN, RESTART = "drain", "restart"
KINDS = (DRAIN, RESTART)

CLOSING, ANNOUNCING, WAITING, ENDING = "closing", "announcing", "waiting", "ending"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ACTIVE = frozenset({CLOSING, ANNOUNCING, WAITING, ENDING})
PHASES = (CLOSING, ANNOUNCING, WAITING, ENDING, DONE, FAILED, CANCELLED)


@dataclass(frozen=True, slots=True)
class Task:
    """Times are epoch seconds of the machine's clock; `players` is what was seen last, -1 before that."""

    id: str
    kind: str
    key: str
    user: str
    origin: str = ""
    begun_at: float = 0.0
    deadline_at: float = 0.0  # 0: none
    notice: str = ""
    phase: str = CLOSING
    since_at: float = 0.0  # of the phase
    announced: bool = False  # or may have been
    incarnation: str = ""  # of the run that is to end
    players: int = -1
    detail: str = ""
    cancelled_by: str = ""

    @property
    def active(self) -> bool:
        return self.phase in ACTIVE

    def to(self, phase: str, now: float, detail: str = "") -> "Task":
        return replace(self, phase=phase, since_at=round(now, 3), detail=detail)

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)


def read_task(text: str) -> Task | None:
    """None for what is no task of ours: anybody may have written it."""
    try:
        row = json.loads(text)
        task = Task(**{each.name: row[each.name] for each in fields(Task) if each.name in row})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    good = all(
        type(getattr(task, each.name)) is each.type
        or (each.type is float and type(getattr(task, each.name)) is int)
        for each in fields(Task)
    )
    return task if good and task.kind in KINDS and task.phase in PHASES else None
