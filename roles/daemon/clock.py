"""The group's time: globaldb's clock where it has one, our own where it has none.

Our own clock may be wrong by minutes. What we write into records carries our clock, as an application on this machine
would write it, and our record says by how much that is off (`skew_s`): whoever reads takes it out again.
"""

import time

from agent.errors import StoreDown, StoreRefused
from agent.store import Store

MEASURE_S = 30.0


class GroupClock:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._measured = -MEASURE_S
        self.skew_s: float | None = None  # our clock minus the group's; None: the group has no clock

    def measure(self) -> None:
        """At most once in MEASURE_S; keeps the last result while globaldb is away."""
        if time.monotonic() - self._measured < MEASURE_S:
            return
        before = time.time()
        try:
            group = self._store.clock()
        except (StoreDown, StoreRefused):
            return
        self._measured = time.monotonic()
        self.skew_s = None if group is None else (before + time.time()) / 2 - group

    def now(self) -> float | None:
        """Epoch seconds of the group, None while they are unknown."""
        return None if self.skew_s is None else time.time() - self.skew_s
