"""An answer that comes later: a handler returns a Later, and somebody calls `answer` or `refuse` on it when it is time.

Any thread may, also before the handler has returned. The first word counts; what comes after it is ignored.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """`code` is empty for an answer, else `refused` or `internal` with a text as the value."""

    code: str
    value: Any


class Later:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._deliver: Callable[[Outcome], None] | None = None

    def answer(self, value: Any = None) -> bool:
        """False when it was answered before."""
        return self.settle(Outcome("", value))

    def refuse(self, reason: str) -> bool:
        return self.settle(Outcome("refused", str(reason)))

    def settle(self, outcome: Outcome) -> bool:
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            deliver = self._deliver
        if deliver:
            deliver(outcome)
        return True

    def bind(self, deliver: Callable[[Outcome], None]) -> None:
        """The package's end: where the outcome goes. ValueError for a Later that answers something else already."""
        with self._lock:
            if self._deliver:
                raise ValueError("one Later cannot answer two requests")
            self._deliver = deliver
            outcome = self._outcome
        if outcome is not None:
            deliver(outcome)
