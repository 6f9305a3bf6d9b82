"""What was read from globaldb a moment ago is not read again.

A script's hundred commands a second ask for the same user and the same configuration each time. The moment is shorter
than anybody can type: rights taken away act at once.
"""

import time

FRESH_S = 0.1
MOST = 1_000


class Fresh:
    """When each thing was read last."""

    def __init__(self) -> None:
        self._read_at: dict[str, float] = {}  # monotonic

    def has(self, what: str) -> bool:
        return time.monotonic() - self._read_at.get(what, -FRESH_S) < FRESH_S

    def note(self, what: str, asked_at: float) -> None:
        """`asked_at`: before the question, not after the answer."""
        if len(self._read_at) >= MOST:
            self._read_at.clear()
        self._read_at[what] = asked_at
