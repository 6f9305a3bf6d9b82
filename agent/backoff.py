"""How long to wait before the next try. Pure, but for chance."""

import random


class Backoff:
    """Doubling waits with jitter, so that 1,000 daemons that lost their router do not come back in one instant."""

    def __init__(self, first_s: float = 0.2, most_s: float = 5.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait now: between half and all of the present step."""
        step_s = self._next_s
        self._next_s = min(self._most_s, step_s * 2)
        return step_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._next_s = self._first_s
