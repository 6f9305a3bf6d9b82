"""The mailbox: how other threads get something done by the one that steps the engine. Never blocks, bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

MAX_BYTES = 1024 * 1024


class Mailbox:
    """`wake` is the host's: it makes the engine step soon."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._errands: deque[tuple[Callable[[], None], int]] = deque()
        self.bytes = 0  # that wait

    def put(self, errand: Callable[[], None], size: int = 0) -> bool:
        """False when it is full. What has no size always fits: it is bounded by what it answers."""
        with self._lock:
            if size and self.bytes + size > MAX_BYTES:
                return False
            self.bytes += size
            self._errands.append((errand, size))
        self.wake()
        return True

    def empty(self) -> None:
        """Runs every errand that is there now, in the order they came."""
        for _ in range(len(self._errands)):
            with self._lock:
                errand, size = self._errands.popleft()
                self.bytes -= size
            errand()
