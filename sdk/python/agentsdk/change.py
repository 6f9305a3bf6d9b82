"""What a feed tells, one after the other, and how much of it waits for who listens. Pure.

Nothing grows without bound behind a listener that is slow: of a process only its newest state waits, of markers the
last two, of events the newest MAX_EVENTS; what had to go is told as MISSED.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .report import Event, Process

PROCESS = "process"  # `old` and `new` are verdicts, "" where there was or is none; `process` is None when it is gone
EVENT = "event"
TROUBLE = "trouble"  # `text` is why nothing newer can be told; "": that is over
RECONNECTED = (
    "reconnected"  # there was no link for a while: what changed is told from here on, events may be missing
)
MISSED = "missed"  # `missed` events had to go: whoever listens is too slow; `Group.events` has what is kept

MAX_EVENTS = 1000


class Change(NamedTuple):
    """`kind` says which of the rest there is."""

    kind: str
    key: str = ""
    old: str = ""
    new: str = ""
    process: Process | None = None
    event: Event | None = None
    missed: int = 0
    text: str = ""


class Backlog:
    """What is still to be told. `told` are processes as they were told last."""

    def __init__(self) -> None:
        self.told: dict[str, Process] = {}
        self._markers: list[Change] = []
        self._events: deque[Event] = deque()
        self._missed = 0
        self._touched: dict[str, None] = {}

    # ---- what comes in

    def trouble(self, text: str) -> None:
        if self._markers and self._markers[-1].kind == TROUBLE:
            self._markers.pop()
        self._markers.append(Change(TROUBLE, text=text))

    def reconnected(self, text: str) -> None:
        self._markers = [Change(RECONNECTED, text=text)]

    def events(self, events: Iterable[Event]) -> None:
        for event in events:
            self._events.append(event)
            if len(self._events) > MAX_EVENTS:
                self._events.popleft()
                self._missed += 1

    def touched(self, keys: Iterable[str]) -> None:
        """Processes that may be other now."""
        self._touched.update(dict.fromkeys(keys))

    # ---- what goes out

    def next(self, processes: Mapping[str, Process]) -> Change | None:
        """The oldest of what is to be told, given how all `processes` are now."""
        if self._markers:
            return self._markers.pop(0)
        if self._missed:
            missed, self._missed = self._missed, 0
            return Change(MISSED, missed=missed)
        if self._events:
            event = self._events.popleft()
            return Change(EVENT, event.key, event=event)
        while self._touched:
            key = next(iter(self._touched))
            del self._touched[key]
            change = self._difference(key, processes.get(key))
            if change is not None:
                return change
        return None

    def _difference(self, key: str, now: Process | None) -> Change | None:
        before = self.told.pop(key, None)
        if now is not None:
            self.told[key] = now
        if before is now or (before and now and (before.verdict, before.pid) == (now.verdict, now.pid)):
            return None
        return Change(PROCESS, key, before.verdict if before else "", now.verdict if now else "", process=now)
