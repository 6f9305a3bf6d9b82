"""globaldb's `startcount` goes up by exactly one per start, though we may die, or it be down, at any moment.

    start        counted()                  pending + 1      journal
    later        read globaldb: n, then     based(n)         journal     (only where the base is unknown)
    later        raise it to `target`       (absolute: doing it twice is harmless)
    later        confirmed(target)          pending - ...    journal

The base is on disk before anything is raised, so whichever step we die after, the same target is raised again.
A spawn that failed was no start and is not counted.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StartCount:
    """`base` is what globaldb is known to hold (None: not read yet), `pending` the starts it does not have yet."""

    base: int | None = None
    pending: int = 0

    @property
    def target(self) -> int | None:
        """What globaldb should hold; None while the base is unknown."""
        return None if self.base is None else self.base + self.pending

    def counted(self) -> "StartCount":
        """One more start happened."""
        return replace(self, pending=self.pending + 1)

    def based(self, held: int) -> "StartCount":
        """globaldb held `held` before our pending starts. A base that is known stays: it may be raised already."""
        return self if self.base is not None else replace(self, base=held)

    def confirmed(self, target: int) -> "StartCount":
        """globaldb now holds at least `target`; starts counted since stay pending."""
        if self.base is None or target <= self.base:
            return self
        total = self.base + self.pending
        return StartCount(base=target, pending=max(0, total - target))
