"""A figure of the table: what we measured, what it stands against, and whether that is good enough. Pure."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Bound(NamedTuple):
    """What the ratio must be: `<=` or `>=` a number."""

    sign: Literal["<=", ">="]
    value: float

    def holds(self, ratio: float) -> bool:
        return ratio <= self.value if self.sign == "<=" else ratio >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.sign == '<=' else '≥'} {self.value:g}×"


def at_most(value: float) -> Bound:
    return Bound("<=", value)


def at_least(value: float) -> Bound:
    return Bound(">=", value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a row. `ours` and `theirs` are in `unit`; `theirs` is None where the peer is missing.

    `ratios` are those of the single runs, where ours and theirs were measured side by side; their median counts.
    """

    what: str
    unit: str
    ours: float | None
    peer: str
    theirs: float | None
    ratios: tuple[float, ...] = ()
    reach: Bound | None = None
    aim: Bound | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        if self.ratios:
            return statistics.median(self.ratios)
        return self.ours / self.theirs if self.ours is not None and self.theirs else None

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "not measured" if self.peer else ""
        if self.reach is None and self.aim is None:
            return ""
        if self.aim is not None and self.aim.holds(self.ratio):
            return "aim reached"
        if self.reach is None:
            return "aim missed"
        return "reached" if self.reach.holds(self.ratio) else "MISSED"

    def cells(self) -> list[str]:
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}×"
        return [
            self.what, shown(self.ours, self.unit), self.peer, shown(self.theirs, self.unit), ratio,
            str(self.reach or ""), str(self.aim or ""), self.verdict,
        ]  # fmt: skip


HEADINGS = ["what", "ours", "against", "theirs", "ratio", "reach", "aim", "verdict"]


def shown(value: float | None, unit: str) -> str:
    """A number as a person reads it: three digits, thousands apart."""
    if value is None:
        return "–"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def side_by_side(
    what: str, unit: str, ours: Sequence[float], peer: str, theirs: Sequence[float], **bounds: Bound | None
) -> Figure:
    """A figure of runs in pairs; empty `theirs`: the peer is missing."""
    ratios = tuple(a / b for a, b in zip(ours, theirs, strict=False))
    their = statistics.median(theirs) if theirs else None
    return Figure(what, unit, statistics.median(ours), peer, their, ratios, **bounds)


def alternately(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Each in turn, `runs` times: A B A B …, so that what else the machine does meets all alike."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(runs):
        for measure, values in zip(measures, found, strict=True):
            values.append(measure())
    return found
