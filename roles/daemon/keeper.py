"""One greenlet owns one process. This is its face: what others ask and read, who waits, and who is told.

    callers ── start, stop, kill, restart ──►┐                        ┌► memory   the journal, before every effect
    watch ──── it ended ────────────────────►│ inbox ► course: the ───┤► launch   spawn
    alarms ─── too long, back-off over ─────►│         table of life  ├► ending   signals
    probe ──── its port answers, it lived ──►│                        ├► saving   the application's own word
    application: joined, how far it is ─────►┘                        └► answer   to the callers that wait

Rules for the next editor:
- Whatever changes the process or its entry runs in the inbox's greenlet, one message after the other.
- The journal is written before a spawn and before a signal, and otherwise once after each message.
- A caller gets its Outcome from the state that was reached, never from what was asked.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.event import AsyncResult

from agent import lifecycle
from agent.lifecycle import Life
from agent.outcome import FAILED, Outcome
from agent.program import LaunchSpec
from roles.daemon import answer
from roles.daemon.adoption import Found
from roles.daemon.application import Applications
from roles.daemon.course import Course
from roles.daemon.ending import Ending
from roles.daemon.identity import Identity
from roles.daemon.inbox import Inbox
from roles.daemon.journal import Entry, Journal
from roles.daemon.launch import Configuration, Launch
from roles.daemon.memory import Memory
from roles.daemon.spawner import Spawner
from roles.daemon.startcount import StartCount
from roles.daemon.tree import Sessions

log = logging.getLogger("agent.keeper")

Said = Callable[[str], object]


def unheard(_words: str) -> None:
    """Whoever asks need not listen."""


@dataclass(slots=True)
class Means:
    """What the keepers of one daemon share."""

    spawner: Spawner
    journal: Journal
    applications: Applications = field(default_factory=Applications)
    sessions: Sessions = field(default_factory=Sessions)
    spawn: Callable[..., object] = gevent.spawn  # gives birth to the long-lived greenlets
    clock: Callable[[], float] = time.time


@dataclass(slots=True, eq=False)
class Waiter:
    """A caller that waits for the effect of what it asked."""

    event: str
    said: Said = unheard
    asked: float = field(default_factory=time.monotonic)
    result: AsyncResult = field(default_factory=AsyncResult)

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self.asked


class Keeper:
    """The owner of one process, from its first start to its removal; it may be made by a daemon that was not there."""

    def __init__(
        self,
        key: str,
        configuration: Configuration,
        means: Means,
        *,
        found: Found | None = None,
        wanted: str = lifecycle.DOWN,
        on_change: Callable[["Keeper"], None] = lambda keeper: None,
    ) -> None:
        """`found`: what adoption knows of it; when we return, it is taken over, or restarted where that is its policy.
        `wanted` counts only where nothing is remembered (globaldb's word).

        `on_change` is called in the keeper's greenlet after each change, journal written; it must not block.
        """
        self.key = key
        self.entry = found.entry if found else Entry(key, Life(wanted=wanted), since_at=means.clock())
        self._means = means
        self._on_change = on_change
        self._waiters: list[Waiter] = []
        self._inbox = Inbox(self._settle)
        self._memory = Memory(self.entry, means.journal, means.clock)
        self._ending = Ending(self._memory, means.sessions)
        self._launch = Launch(configuration, self._memory, self._ending, means.spawner)
        self._course = Course(
            self._memory, self._launch, self._ending, self._inbox, means.applications,
            on_step=self._answer, on_late=self._late, on_progress=self._say,
        )  # fmt: skip
        if found is not None:
            self._course.resume(found)
            self._inbox.post(_nothing)  # disk and listeners hear of it in the inbox's greenlet
        means.spawn(self._inbox.run)

    # ---- what others ask

    def start(self, wait_s: float) -> Outcome:
        """ok when it is RUNNING, that is ready; blocks the caller for at most `wait_s`, like all of these."""
        return self._ask(lifecycle.START_ASKED, wait_s)

    def stop(self, wait_s: float, said: Said = unheard) -> Outcome:
        """ok when it has saved, where it can, and it and everything in its session is gone. `said` is called with
        each word of progress, in the keeper's greenlet, and must not block."""
        return self._ask(lifecycle.STOP_ASKED, wait_s, said)

    def force_stop(self, wait_s: float, said: Said = unheard) -> Outcome:
        """The same, and SIGKILL for what declines or does not end in time."""
        return self._ask(lifecycle.FORCE_ASKED, wait_s, said)

    def kill(self, wait_s: float) -> Outcome:
        """SIGKILL for its whole session; it then stays down like after a stop."""
        return self._ask(lifecycle.KILL_ASKED, wait_s)

    def restart(self, wait_s: float, said: Said = unheard) -> Outcome:
        """ok when a new run of it is RUNNING. Should we die in between, the next daemon goes on with it."""
        return self._ask(lifecycle.RESTART_ASKED, wait_s, said)

    def declared(self, incarnation: str, saves: bool) -> None:
        """The application of this run has joined and said whether it saves when asked to."""
        self._inbox.post(self._course.declared, incarnation, saves)

    def progressed(self, incarnation: str, words: str) -> None:
        """The application tells how far it is with its saving."""
        self._inbox.post(self._course.progressed, incarnation, words)

    def reported(self) -> None:
        """The application was heard of for the first time: that is ready, where `ready` says so."""
        if self.state == lifecycle.STARTING and "report" in self.spec.ready:
            self._inbox.post(self._course.seen_ready, self.entry.incarnation)

    def check_foreign(self) -> str:
        """Look again who has the port, of a process that is down; "" where nobody has."""
        return self._launch.check_foreign()

    def note_task(self, id_: str) -> None:
        """It is about to be ended for this task, which must not happen twice."""
        self.entry.task = id_
        self._memory.remember(anyway=True)

    def note_base(self, held: int) -> int | None:
        """globaldb holds `held`: what it is to be raised to, or None as long as our disk cannot remember that."""
        self.entry.starts = self.entry.starts.based(held)
        return self.entry.starts.target if self._memory.remember(anyway=True) else None

    def note_confirmed(self, target: int) -> None:
        self.entry.starts = self.entry.starts.confirmed(target)
        self._memory.remember(anyway=True)

    def close(self) -> None:
        """The process goes on without us. Whoever waits is told so."""
        self._inbox.close()
        self._course.close()
        self._tell_all(lambda waiter: answer.closing(self.entry))

    def forget(self) -> None:
        """Close, and take it off our disk: it is configured no more and nothing of it lives."""
        self.close()
        self._means.journal.forget(self.key)

    # ---- what others read

    @property
    def state(self) -> str:
        return self.entry.life.state

    @property
    def wanted(self) -> str:
        return self.entry.life.wanted

    @property
    def spec(self) -> LaunchSpec:
        """Of the launch in force."""
        return self._memory.spec

    @property
    def foreign(self) -> str:
        """Who has our port, in words; "" where nobody was seen to."""
        return self._launch.foreign

    @property
    def identity(self) -> Identity | None:
        """Of the main process, while it lives."""
        return self.entry.main

    @property
    def pid(self) -> int:
        """Of the main process; 0 while there is none."""
        return self.entry.pid

    @property
    def since_at(self) -> float:
        return self.entry.since_at

    @property
    def started_at(self) -> float:
        return self.entry.started_at

    @property
    def reason(self) -> str:
        return self.entry.reason

    @property
    def exit(self) -> str:
        return self.entry.exit

    @property
    def incarnation(self) -> str:
        return self.entry.incarnation

    @property
    def token(self) -> str:
        return self.entry.token

    @property
    def starts(self) -> StartCount:
        return self.entry.starts

    @property
    def leftovers(self) -> list[Identity]:
        """Children in its session that outlived the main process, as last seen."""
        return self.entry.leftovers

    def members(self) -> list[Identity]:
        """Everything alive in its session now: a walk over /proc."""
        return self._ending.members()

    # ---- callers and what they are told

    def _ask(self, event: str, wait_s: float, said: Said = unheard) -> Outcome:
        waiter = Waiter(event, said)
        if self._inbox.closed:
            return Outcome(self.key, FAILED, "the daemon is stopping")
        self._inbox.post(self._asked, waiter)
        outcome = waiter.result.wait(timeout=wait_s)
        if outcome is None:
            outcome = self._not_yet(waiter)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return outcome

    def _asked(self, waiter: Waiter) -> None:
        before, leftovers = self.entry.life, self._ending.leftovers()
        told = answer.at_once(waiter.event, self.entry, leftovers, self._memory.age_s())
        if told is not None:
            waiter.result.set(told)
            if waiter.event == lifecycle.START_ASKED:
                return
        else:
            self._waiters.append(waiter)
        self._course.asked(waiter.event, leftovers)
        if self.entry.life == before:
            self._answer()

    def _answer(self) -> None:
        """Tell those whose question the present state answers."""
        for waiter in list(self._waiters):
            outcome = answer.reached(waiter.event, self.entry)
            if outcome is not None:
                self._waiters.remove(waiter)
                waiter.result.set(outcome)

    def _say(self, words: str) -> None:
        for waiter in self._waiters:
            waiter.said(words)

    def _late(self) -> None:
        """What was asked takes longer than it should: nobody is kept waiting."""
        self._tell_all(self._not_yet)

    def _tell_all(self, outcome_for: Callable[[Waiter], Outcome]) -> None:
        for waiter in self._waiters:
            waiter.result.set(outcome_for(waiter))
        self._waiters.clear()

    def _not_yet(self, waiter: Waiter) -> Outcome:
        return answer.not_yet(self.entry, waiter.spent_s, self._memory.age_s())

    def _settle(self) -> None:
        """After each message: disk first, then tell."""
        self._memory.remember()
        if self._memory.tell():
            try:
                self._on_change(self)
            except Exception:
                log.exception("process %s: a bug in what listens to its changes", self.key)


def _nothing() -> None:
    return None
