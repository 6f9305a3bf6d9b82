"""What an observer says about a process: its state, or that the state cannot be believed. Everything is here.

A record is what the daemon last wrote (`state`, `wanted`, `exit`) and when anybody last refreshed it
(`lastupdate`). `stale` means: no new `lastupdate` for longer than the process's `silent_after_s`.

    state                        stale   machine online   verdict
    ---------------------------  ------  ---------------  -------------------------------------------------------
    STARTING RUNNING STOPPING    no      (either)         the state: it reports, the death of a daemon loses nothing
    STARTING RUNNING STOPPING    yes     yes              SILENT: alive, but hung or in a dead loop
    STARTING RUNNING STOPPING    yes     no, or unknown   LOST: nobody can know
    BACKOFF                      (any)   yes              BACKOFF: nothing runs that could report
    BACKOFF                      yes     no, or unknown   LOST: it may have been started since
    EXITED                       (any)   (either)         DEAD if wanted up and the exit was not clean, else EXITED
    STOPPED FATAL FOREIGN        (any)   (either)         the state: only the daemon could change it
    none, or one we do not know  (any)   (either)         UNKNOWN: never started, or written by a newer agent

Clocks may be wrong: after the first sight of a record the observer's own monotonic clock counts, and what it
compares is whether `lastupdate` is another one, never how large. At first sight globaldb's clock tells the age,
with the skew of the machine that wrote taken out; where either is unknown the record is given `silent_after_s`
to change. A change that is seen happened since the last look: those clocks say when, within these bounds.
"""

from collections.abc import Iterable
from typing import NamedTuple

from agent.lifecycle import BACKOFF, EXITED, FATAL, RUNNING, STARTING, STOPPED, STOPPING, UP

SILENT = "SILENT"
DEAD = "DEAD"
LOST = "LOST"
FOREIGN = "FOREIGN"  # also a state: the daemon writes it where the port or the name is taken by a stranger
UNKNOWN = "UNKNOWN"
VERDICTS = (
    STOPPED,
    STARTING,
    RUNNING,
    STOPPING,
    EXITED,
    BACKOFF,
    FATAL,
    SILENT,
    DEAD,
    LOST,
    FOREIGN,
    UNKNOWN,
)

REPORTING = frozenset({STARTING, RUNNING, STOPPING})
SETTLED = frozenset({STOPPED, FATAL, FOREIGN})
CLEAN_EXIT = "code 0"


class Judged(NamedTuple):
    """The facts about one process."""

    state: str | None
    wanted: str | None
    exit: str | None  # "code 0", "code 1", "signal SEGV", …
    stale: bool
    machine_online: bool | None  # None: nobody knows


def judge(facts: Judged) -> str:
    """One of VERDICTS, by the table above."""
    state = facts.state
    if state in REPORTING:
        if not facts.stale:
            return str(state)
        return SILENT if facts.machine_online else LOST
    if state == BACKOFF:
        return LOST if facts.stale and not facts.machine_online else BACKOFF
    if state == EXITED:
        return DEAD if facts.wanted == UP and facts.exit != CLEAN_EXIT else EXITED
    return str(state) if state in SETTLED else UNKNOWN


class _Seen:
    """One record as last seen."""

    __slots__ = ("age_s", "changed_at", "lastupdate", "looked_at")

    def __init__(self, lastupdate: float | None, age_s: float | None, changed_at: float) -> None:
        self.lastupdate = lastupdate
        self.age_s = age_s  # its age at `changed_at`; None: unknown
        self.changed_at = changed_at  # monotonic
        self.looked_at = changed_at


class Freshness:
    """When one observer last saw each record's `lastupdate` change. `now` is always its monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def age_s(
        self,
        key: str,
        lastupdate: float | None,
        now: float,
        group_now: float | None = None,
        skew_s: float | None = None,
    ) -> float | None:
        """Looks at the record: seconds since its last report, None where that cannot be known (yet).

        `group_now` is globaldb's clock and `skew_s` by how much the writing machine's is ahead of it.
        """
        seen = self._seen.get(key)
        if seen is not None and seen.lastupdate == lastupdate:
            seen.looked_at = now
            return None if seen.age_s is None else seen.age_s + (now - seen.changed_at)
        age_s = None
        if lastupdate is not None and group_now is not None and skew_s is not None:
            age_s = max(0.0, group_now - (lastupdate - skew_s))
        if seen is None:
            self._seen[key] = _Seen(lastupdate, age_s, now)
            return age_s
        seen.age_s = None if lastupdate is None else min(age_s or 0.0, now - seen.looked_at)
        seen.lastupdate, seen.changed_at, seen.looked_at = lastupdate, now, now
        return seen.age_s

    def is_stale(self, key: str, now: float, silent_after_s: float) -> bool:
        """Of a record that was looked at: whether it surely has not changed for longer than that."""
        seen = self._seen.get(key)
        return seen is not None and (seen.age_s or 0.0) + (now - seen.changed_at) > silent_after_s

    def keep_only(self, keys: Iterable[str]) -> None:
        """Forgets all others; they would be kept for ever."""
        for key in self._seen.keys() - set(keys):
            del self._seen[key]
