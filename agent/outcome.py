"""The verdict of a command for one target, and the exit code of many."""

from collections.abc import Iterable
from dataclasses import dataclass

OK = "ok"  # done, and seen to be done
ALREADY = "already"  # nothing to do: it was as asked
FAILED = "failed"  # not done, `detail` says why
REFUSED = "refused"  # this user may not; nothing was done
UNKNOWN = "unknown"  # no answer, or not in time: it may or may not have happened

RESULTS = (OK, ALREADY, FAILED, REFUSED, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target: a process key, or an ip."""

    target: str
    result: str
    detail: str = ""
    pid: int = 0

    @property
    def good(self) -> bool:
        return self.result in (OK, ALREADY)


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """1 some target failed; else 5 unknown for some; else 4 refused for some; else 0, all as asked.

    A result this version does not know (a newer daemon's) counts as unknown, never as success.
    """
    results = {outcome.result for outcome in outcomes}
    if FAILED in results:
        return 1
    if UNKNOWN in results or results - set(RESULTS):
        return 5
    return 4 if REFUSED in results else 0
