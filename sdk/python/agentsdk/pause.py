"""How long to wait before the next try: doubled each time, a quarter more or less at random. Pure, but for chance."""

from __future__ import annotations

import random


class Pause:
    def __init__(self, first_s: float, most_s: float, least_s: float = 0.0) -> None:
        self._first_s, self._most_s, self._least_s = first_s, most_s, least_s
        self._next_s = first_s

    def next_s(self) -> float:
        step_s = self._next_s
        self._next_s = min(self._most_s, step_s * 2)
        return max(self._least_s, step_s * random.uniform(0.75, 1.25))

    def reset(self) -> None:
        self._next_s = self._first_s
