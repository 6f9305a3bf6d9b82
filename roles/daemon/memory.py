"""What the daemon knows of one process while it keeps it: the entry, the launch in force, and who has not heard yet.

    changed ─┬► remember   our disk has it: before every effect, and after each message
             └► tell       the log and the daemon have it: after each message, never before the disk

A disk that is full is no reason to leave a process alone: that is said, and tried again with the next change.
Only a start is not made without it (`intend`): what cannot be remembered must not be started.
"""

import logging
from collections.abc import Callable

from agent.lifecycle import STOPPED, Life, Policy
from agent.process import Process
from agent.program import LaunchSpec
from roles.daemon.journal import Entry, Journal, JournalFailed, spec_of, terms_of

log = logging.getLogger("agent.keeper")


class Memory:
    """One process's entry, kept."""

    def __init__(self, entry: Entry, journal: Journal, clock: Callable[[], float]) -> None:
        self.entry = entry
        self.clock = clock
        self.spec: LaunchSpec = spec_of(entry.terms)  # of the launch in force
        self.policy = policy_of(self.spec)
        self._journal = journal
        self._unwritten = False
        self._untold = False
        self._lines: list[str] = []

    def take(self, process: Process, spec: LaunchSpec) -> None:
        """The configuration is in force from here on."""
        entry = self.entry
        if spec is not self.spec:
            self.spec, self.policy = spec, policy_of(spec)
            entry.terms, entry.digest = terms_of(spec), spec.digest()
        entry.host, entry.port = process.host, process.port

    def changed(self) -> None:
        self._unwritten = self._untold = True

    def line(self, text: str) -> None:
        """A line for the log."""
        self._lines.append(text)

    def enter(self, old: Life, reason: str) -> None:
        """The state has changed from that of `old`, for `reason`."""
        entry = self.entry
        about = [f"pid {entry.pid}"] if entry.pid else []
        if old.state != STOPPED and entry.since_at:
            about.append(f"{self.age_s():.1f} s")
        if reason:
            about.append(reason)
        details = f" ({', '.join(about)})" if about else ""
        self.line(f"{old.state.lower()} -> {entry.life.state.lower()}{details}")
        entry.since_at, entry.reason = self.clock(), reason

    def note(self, reason: str) -> None:
        """Of the state, which has not changed."""
        self.entry.reason = reason
        self.changed()

    def age_s(self) -> float:
        """How long it is in its state."""
        return max(0.0, self.clock() - self.entry.since_at)

    def ran_s(self) -> float:
        """Since it was started."""
        return max(0.0, self.clock() - self.entry.started_at)

    def intend(self) -> None:
        """The entry is on disk, or JournalFailed."""
        self._journal.write(self.entry)

    def remember(self, *, anyway: bool = False) -> bool:
        """Whether our disk has it now; looked at only after a change, or `anyway`."""
        self._unwritten |= anyway
        if self._unwritten:
            try:
                self._journal.write(self.entry)
            except JournalFailed as error:
                log.error("%s", error)
            else:
                self._unwritten = False
        return not self._unwritten

    def tell(self) -> bool:
        """The log has its lines; whether the daemon is to hear of a change."""
        for line in self._lines:
            log.info("process %s: %s", self.entry.key, line)
        self._lines.clear()
        news, self._untold = self._untold, False
        return news


def policy_of(spec: LaunchSpec) -> Policy:
    return Policy(
        restart=spec.restart,
        kill_after_stop=spec.kill_after_stop,
        restart_tries=spec.restart_tries,
        backoff_s=spec.backoff_s,
        backoff_max_s=spec.backoff_max_s,
        stable_s=spec.stable_s,
    )
