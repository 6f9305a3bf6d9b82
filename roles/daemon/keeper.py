"""One greenlet owns one process: it runs the table of agent/lifecycle.py and is the only one that touches the process.

    callers ── start, stop, kill, restart ──►┐                      ┌► journal   before every effect
    watch ──── it ended ────────────────────►│ inbox ► _run ► step ─┤► spawner, signals
    timers ─── too long, back-off over ─────►│                      ├► on_change, log
    probe ──── its port answers, it lived ──►┘                      └► the callers that wait

Rules for the next editor:
- What to do next is decided in the table, not here. Here is how it is done.
- Everything that changes `entry.life` runs in the inbox's greenlet, through `_step`, and does not yield.
- The journal is written before a spawn and before a signal (`_remember`), and otherwise once after each message.
- A caller gets its Outcome from the state that was reached, never from what was asked.
"""

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import get_hub
from gevent.event import AsyncResult
from gevent.queue import SimpleQueue

from agent import lifecycle
from agent.errors import AgentError, StoreDown
from agent.lifecycle import Facts, Life, Policy
from agent.names import split_key
from agent.outcome import ALREADY, FAILED, OK, Outcome
from agent.process import Process
from agent.program import LaunchSpec
from roles.daemon import identity as proc
from roles.daemon import ports, readiness, tree, watch
from roles.daemon.adoption import Found
from roles.daemon.identity import Identity
from roles.daemon.journal import Entry, Journal, JournalFailed, spec_of, terms_of
from roles.daemon.spawner import Marks, Spawner, SpawnFailed
from roles.daemon.startcount import StartCount

log = logging.getLogger("agent.keeper")

REST_FIRST_PAUSE_S = 0.03  # looking for what a main process left behind, while STOPPING
REST_LONGEST_PAUSE_S = 1.0

Configuration = Callable[[], tuple[Process, LaunchSpec]]  # the newest; raises AgentError where there is none


@dataclass(slots=True)
class Means:
    """What the keepers of one daemon share."""

    spawner: Spawner
    journal: Journal
    sessions: tree.Sessions = field(default_factory=tree.Sessions)
    spawn: Callable[..., object] = gevent.spawn  # gives birth to the long-lived greenlets
    clock: Callable[[], float] = time.time


@dataclass(slots=True, eq=False)
class Waiter:
    """A caller that waits for the effect of what it asked."""

    event: str
    asked: float = field(default_factory=time.monotonic)
    result: AsyncResult = field(default_factory=AsyncResult)


def _spoken(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


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
        self.entry = (
            found.entry if found else Entry(key=key, life=Life(wanted=wanted), since_at=means.clock())
        )
        self.foreign = ""  # who has our port, in words; "" where nobody was seen to
        self.spec: LaunchSpec = spec_of(self.entry.terms)  # of the launch in force
        self._ip = split_key(key)[1]
        self._configuration = configuration
        self._means = means
        self._on_change = on_change
        self._waiters: list[Waiter] = []
        self._inbox: SimpleQueue = SimpleQueue()
        self._watch: watch.Watch | None = None
        self._timer: Any = None
        self._probe: gevent.Greenlet | None = None
        self._dirty = False  # our disk does not have it yet
        self._news = False  # on_change was not called yet
        self._lines: list[str] = []
        self._closed = False
        if found is not None:
            self._resume(found)
            self._post(self._nothing)  # disk and listeners hear of it in the inbox's greenlet
        means.spawn(self._run)

    # ---- what others ask and read

    def start(self, wait_s: float) -> Outcome:
        """ok when it is RUNNING, that is ready; blocks the caller for at most `wait_s`, like all four."""
        return self._ask(lifecycle.START_ASKED, wait_s)

    def stop(self, wait_s: float) -> Outcome:
        """ok when it and everything in its session is gone."""
        return self._ask(lifecycle.STOP_ASKED, wait_s)

    def kill(self, wait_s: float) -> Outcome:
        """SIGKILL for its whole session; it then stays down like after a stop."""
        return self._ask(lifecycle.KILL_ASKED, wait_s)

    def restart(self, wait_s: float) -> Outcome:
        """ok when a new run of it is RUNNING. Should we die in between, the next daemon goes on with it."""
        return self._ask(lifecycle.RESTART_ASKED, wait_s)

    def reported(self) -> None:
        """The application was heard of for the first time: that is ready, where `ready` says so."""
        if self.state == lifecycle.STARTING and "report" in self.spec.ready:
            self._post(self._seen_ready, self.entry.incarnation)

    def check_foreign(self) -> str:
        """Look again who has the port, of a process that is down; "" where nobody has."""
        if not self.entry.life.alive and not self.leftovers:
            try:
                self.foreign = self._foreign(*self._configuration())
            except AgentError:
                self.foreign = ""
        return self.foreign

    def note_base(self, held: int) -> int | None:
        """globaldb holds `held`: what it is to be raised to, or None as long as our disk cannot remember that."""
        self.entry.starts = self.entry.starts.based(held)
        self._dirty = True
        self._remember()
        return None if self._dirty else self.entry.starts.target

    def note_confirmed(self, target: int) -> None:
        self.entry.starts = self.entry.starts.confirmed(target)
        self._dirty = True
        self._remember()

    def close(self) -> None:
        """The process goes on without us. Whoever waits is told so."""
        self._closed = True
        self._disarm()
        if self._watch is not None:
            self._watch.close()
        for waiter in self._waiters:
            waiter.result.set(
                Outcome(self.key, FAILED, "the daemon is stopping; the process goes on", self.pid)
            )
        self._waiters.clear()
        self._inbox.put(None)

    def forget(self) -> None:
        """Close, and take it off our disk: it is configured no more and nothing of it lives."""
        self.close()
        self._means.journal.forget(self.key)

    @property
    def state(self) -> str:
        return self.entry.life.state

    @property
    def wanted(self) -> str:
        return self.entry.life.wanted

    @property
    def identity(self) -> Identity | None:
        """Of the main process, while it lives."""
        return None if self.entry.ended else self.entry.identity

    @property
    def pid(self) -> int:
        """Of the main process; 0 while there is none."""
        return self.identity.pid if self.identity else 0

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
        return self._means.sessions.members(self.entry.identity) if self.entry.identity else []

    # ---- the inbox

    def _post(self, function: Callable, *args: object) -> None:
        if not self._closed:
            self._inbox.put((function, args))

    def _run(self) -> None:
        while (message := self._inbox.get()) is not None:
            if self._closed:
                return
            function, args = message
            function(*args)
            self._settle()

    def _nothing(self) -> None:
        return None

    def _settle(self) -> None:
        """After each message: disk first, then tell."""
        self._remember()
        for line in self._lines:
            log.info("process %s: %s", self.key, line)
        self._lines.clear()
        if not self._news:
            return
        self._news = False
        try:
            self._on_change(self)
        except Exception:
            log.exception("process %s: a bug in what listens to its changes", self.key)

    def _ask(self, event: str, wait_s: float) -> Outcome:
        waiter = Waiter(event)
        if self._closed:
            return Outcome(self.key, FAILED, "the daemon is stopping")
        self._post(self._asked, waiter)
        outcome = waiter.result.wait(timeout=wait_s)
        if outcome is None:
            outcome = self._not_yet(waiter)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return outcome

    def _asked(self, waiter: Waiter) -> None:
        before, leftovers = self.entry.life, self._see_leftovers()
        refusal = self._at_once(waiter.event, leftovers)
        if refusal is not None:
            waiter.result.set(refusal)
            if waiter.event == lifecycle.START_ASKED:
                return
        else:
            self._waiters.append(waiter)
        self._step(waiter.event, Facts(leftovers=bool(leftovers)))
        if self.entry.life == before:
            self._answer()

    def _at_once(self, event: str, leftovers: list[Identity]) -> Outcome | None:
        """The answer that needs no effect; None where the effect is to be awaited."""
        state = self.state
        if event == lifecycle.START_ASKED:
            if state == lifecycle.RUNNING:
                return Outcome(
                    self.key, ALREADY, f"runs since {_spoken(self._age_s())}, pid {self.pid}", self.pid
                )
            if state == lifecycle.STOPPING and self.wanted == lifecycle.DOWN:
                detail = (
                    f"is still stopping since {_spoken(self._age_s())} ({self._who()}); "
                    "start it again when it has stopped"
                )
                return Outcome(self.key, FAILED, detail, self.pid)
        stops = event in (lifecycle.STOP_ASKED, lifecycle.KILL_ASKED)
        if stops and not self.entry.life.alive and state != lifecycle.BACKOFF and not leftovers:
            return Outcome(
                self.key, ALREADY, f"was not running ({state}{': ' + self.reason if self.reason else ''})"
            )
        return None

    # ---- the table and what it orders

    def _step(self, event: str, facts: Facts = lifecycle.NO_FACTS, reason: str = "") -> None:
        old = self.entry.life
        life, actions = lifecycle.step(old, event, self._policy(), facts)
        if life != old:
            self._changed()
            self.entry.life = life
        if life.state != old.state:
            self._disarm()
            self._enter(old, reason)
        for action in actions:
            self._actions[action](self)
        if life != old:
            self._answer()

    def _enter(self, old: Life, reason: str) -> None:
        life, now_at = self.entry.life, self._means.clock()
        if life.state == lifecycle.BACKOFF:
            reason = f"{reason}; starts again in {lifecycle.backoff_s(life, self._policy()):g} s"
        elif life.state == lifecycle.FATAL and life.unready > old.unready:
            reason = (
                f"{life.unready} times in a row it was not ready ({reason}); see its log and start it again"
            )
        about = [f"pid {self.pid}"] if self.pid else []
        if old.state != lifecycle.STOPPED and self.entry.since_at:
            about.append(f"{max(0.0, now_at - self.entry.since_at):.1f} s")
        if reason:
            about.append(reason)
        self._lines.append(
            f"{old.state.lower()} -> {life.state.lower()}" + (f" ({', '.join(about)})" if about else "")
        )
        self.entry.since_at = now_at
        self.entry.reason = reason
        if life.state != lifecycle.STOPPING:
            self.entry.signalled = False
        elif self.entry.ended:
            self._post(self._look_for_rest, self.entry.incarnation, REST_FIRST_PAUSE_S)

    def _policy(self) -> Policy:
        spec = self.spec
        return Policy(
            restart=spec.restart,
            kill_after_stop=spec.kill_after_stop,
            restart_tries=spec.restart_tries,
            backoff_s=spec.backoff_s,
            backoff_max_s=spec.backoff_max_s,
            stable_s=spec.stable_s,
        )

    def _changed(self) -> None:
        self._dirty = self._news = True

    def _remember(self) -> None:
        """Disk full is no reason to leave a process alone: said once, tried again with the next change."""
        if not self._dirty:
            return
        try:
            self._means.journal.write(self.entry)
        except JournalFailed as error:
            log.error("%s", error)
        else:
            self._dirty = False

    # starting

    def _spawn(self) -> None:
        try:
            process, spec = self._configuration()
        except StoreDown as error:
            self._step(lifecycle.SPAWN_BLOCKED, reason=str(error))
            return
        except AgentError as error:
            self._step(lifecycle.SPAWN_FAILED, reason=str(error))
            return
        if blocked := self._blocked(process, spec):
            self._step(lifecycle.SPAWN_BLOCKED, reason=blocked)
            return
        self._take(process, spec)
        entry = self.entry
        entry.incarnation, entry.token = secrets.token_hex(8), secrets.token_hex(16)
        entry.identity, entry.ended, entry.exit, entry.leftovers = None, False, "", []
        entry.started_at = self._means.clock()
        try:
            self._means.journal.write(entry)
        except JournalFailed as error:
            entry.ended = True
            self._step(lifecycle.SPAWN_BLOCKED, reason=f"{error}; not started, as it would be forgotten")
            return
        try:
            pid = self._means.spawner.spawn(spec, Marks(self.key, entry.incarnation, entry.token))
        except SpawnFailed as error:
            entry.ended = True
            self._step(
                lifecycle.SPAWN_BLOCKED if error.temporary else lifecycle.SPAWN_FAILED, reason=str(error)
            )
            return
        entry.starts = entry.starts.counted()
        # Never None for a child that was not reaped; start time 0 is nobody's, so nothing else would be signalled.
        entry.identity = proc.identify(pid) or Identity(proc.boot_id(), pid, 0)
        self._changed()
        self._observe(child=True)
        self._step(lifecycle.SPAWNED)

    def _take(self, process: Process, spec: LaunchSpec) -> None:
        """The configuration is in force from here on."""
        entry = self.entry
        if spec is not self.spec:
            self.spec, entry.terms, entry.digest = spec, terms_of(spec), spec.digest()
        entry.host, entry.port = process.host, process.port

    def _blocked(self, process: Process, spec: LaunchSpec) -> str:
        """Why it must not be spawned now; "" if nothing is in the way."""
        if leftovers := self._see_leftovers():
            pids = ", ".join(str(each.pid) for each in leftovers)
            return f"children of its last run still live (pid {pids}); stop or kill it first"
        self.foreign = self._foreign(process, spec)
        return self.foreign

    def _foreign(self, process: Process, spec: LaunchSpec) -> str:
        if not process.port or ports.is_free(process.host, process.port, spec.protocol):
            return ""
        who = ports.holder(process.port, spec.protocol)
        started = "" if who.key else " which the agent did not start"
        return f"port {process.port} is taken by {who}{started}"

    def _observe(self, *, child: bool) -> None:
        assert self.entry.identity is not None
        incarnation = self.entry.incarnation

        def on_end(text: str) -> None:
            self._post(self._ended, incarnation, text, time.monotonic())

        self._watch = watch.Watch(self.entry.identity, child=child, on_end=on_end)

    def _await_ready(self) -> None:
        ready, incarnation = self.spec.ready, self.entry.incarnation
        lived_s = readiness.lived_s(ready)
        if lived_s is not None:
            rest_s = lived_s - max(0.0, self._means.clock() - self.entry.started_at) if lived_s else 0.0
            if rest_s <= 0:
                self._seen_ready(incarnation)
            else:
                self._arm(min(rest_s, lived_s), self._seen_ready, incarnation)
        elif "port" in ready:
            self._probe = gevent.spawn(self._probe_port, int(ready["port"]), incarnation)

    def _probe_port(self, port: int, incarnation: str) -> None:
        readiness.await_port(self.entry.host, port, self.spec.protocol)
        self._post(self._seen_ready, incarnation)

    def _seen_ready(self, incarnation: str) -> None:
        if incarnation == self.entry.incarnation and not self.entry.ended:
            self._step(lifecycle.READY)

    # ending

    def _ended(
        self, incarnation: str, text: str, noticed: float, leftovers: list[Identity] | None = None
    ) -> None:
        """`leftovers` where they are known; else whoever is in the session at some moment after `noticed`."""
        entry = self.entry
        if incarnation != entry.incarnation or entry.ended:
            return
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        entry.ended, entry.exit = True, text
        entry.leftovers = self._rest(noticed) if leftovers is None else leftovers
        self._changed()
        ran_s = max(0.0, self._means.clock() - entry.started_at)
        why = f"it ended: {text}" if self.state == lifecycle.STARTING else text
        facts = Facts(clean=text == watch.CLEAN, ran_s=ran_s, leftovers=bool(entry.leftovers))
        self._step(lifecycle.ENDED, facts, reason=why)
        self._look_for_rest(entry.incarnation, REST_FIRST_PAUSE_S)

    def _rest(self, since: float | None = None) -> list[Identity]:
        """Who lives in the session beside the main process."""
        leader = self.entry.identity
        if leader is None:
            return []
        return [each for each in self._means.sessions.members(leader, since) if each.pid != leader.pid]

    def _see_leftovers(self) -> list[Identity]:
        """Those that are still there, and their children. The session is asked only while one we know of lives,
        for after that its number may be somebody else's."""
        if self.entry.leftovers:
            known = [each for each in self.entry.leftovers if each.alive()]
            seen = [each for each in self._rest() if each not in known] if known else []
            if known + seen != self.entry.leftovers:
                self.entry.leftovers = known + seen
                self._changed()
        return self.entry.leftovers

    def _look_for_rest(self, incarnation: str, pause_s: float) -> None:
        """While STOPPING, after the main process: until its session is empty."""
        if self.state != lifecycle.STOPPING or not self.entry.ended or incarnation != self.entry.incarnation:
            return
        if not self._see_leftovers():
            asked = self.wanted == lifecycle.DOWN or self.entry.life.restarting
            why = self.entry.exit if asked else f"{self.entry.reason}; ended when asked to: {self.entry.exit}"
            self._step(lifecycle.EMPTIED, reason=why)
            return
        if self.entry.life.killing:
            self._signal_kill()
        timer = get_hub().loop.timer(pause_s)
        again = min(REST_LONGEST_PAUSE_S, pause_s * 1.5)
        timer.start(self._look_again, timer, incarnation, again)

    def _look_again(self, timer: object, incarnation: str, pause_s: float) -> None:
        timer.close()  # type: ignore[attr-defined]
        self._post(self._look_for_rest, incarnation, pause_s)

    def _signal_stop(self) -> None:
        """To the main process; where it is gone already, to what it left behind."""
        if self.entry.ended:
            self._signal_rest()
            return
        self._remember()
        assert self.entry.identity is not None
        self._signal(self.entry.identity)
        self.entry.signalled = True
        self._changed()
        self._remember()

    def _signal_rest(self) -> None:
        self._remember()
        for each in self._see_leftovers():
            self._signal(each)

    def _signal(self, whom: Identity) -> None:
        stat = whom.stat()
        if stat is None or self.entry.identity is None or stat.session != self.entry.identity.pid:
            return
        try:
            proc.send_signal(whom, proc.signal_number(self.spec.stop_signal))
            if stat.stopped:  # it could not save, nor end, while it is held
                proc.send_signal(whom, signal.SIGCONT)
        except PermissionError:
            log.error(
                "process %s: pid %d may not be signalled: it changed its user and we are not root",
                self.key,
                whom.pid,
            )

    def _signal_kill(self) -> None:
        self._remember()
        if self.entry.identity is None:
            return
        try:
            if not self.entry.ended or self._see_leftovers():
                tree.kill_session(self._means.sessions, self.entry.identity)
        except PermissionError:
            log.error(
                "process %s: pid %d may not be killed: it changed its user and we are not root",
                self.key,
                self.pid,
            )

    # timers: one at a time, each change of state disarms it

    def _arm(self, seconds: float, function: Callable, *args: object) -> None:
        self._disarm_timer()
        self._timer = get_hub().loop.timer(max(0.0, seconds))
        self._timer.start(self._post, function, *args)

    def _arm_ready(self) -> None:
        if self.spec.ready_timeout_s and readiness.lived_s(self.spec.ready) is None:
            spent_s = max(0.0, self._means.clock() - self.entry.started_at)
            self._arm(
                max(0.0, self.spec.ready_timeout_s - spent_s), self._ready_timed_out, self.entry.incarnation
            )

    def _arm_stop(self) -> None:
        self._arm(self.spec.stop_timeout_s, self._step, lifecycle.STOP_TIMED_OUT)

    def _arm_backoff(self) -> None:
        self._arm(lifecycle.backoff_s(self.entry.life, self._policy()), self._step, lifecycle.BACKOFF_OVER)

    def _ready_timed_out(self, incarnation: str) -> None:
        if incarnation == self.entry.incarnation:
            reason = f"not ready after {self.spec.ready_timeout_s:g} s"
            self._step(lifecycle.READY_TIMED_OUT, reason=reason)
            if self.state == lifecycle.STARTING:
                self.entry.reason = reason
                self._changed()

    def _disarm_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def _disarm(self) -> None:
        self._disarm_timer()
        if self._probe is not None:
            self._probe.kill(block=False)
            self._probe = None

    # ---- after the death of a daemon

    def _resume(self, found: Found) -> None:
        """Go on where the last daemon was: with the process if it lives, with its end if it does not."""
        entry = self.entry
        self._changed()
        if found.alive is not None:
            self._resume_alive(found, found.alive)
            return
        if entry.ended and not found.leftovers and self.state == lifecycle.STOPPING:
            self._step(lifecycle.EMPTIED)
        elif not entry.ended:
            text = watch.UNKNOWN_AWAY
            if entry.identity is not None and entry.identity.boot_id == proc.boot_id():
                reaped = watch.reap(
                    entry.identity.pid
                )  # ours, if this very process became a newer binary by exec
                text = reaped if reaped not in (None, watch.UNKNOWN) else text
            if entry.life.alive:  # this may already start it again: after a restart that we died in
                self._ended(entry.incarnation, text, time.monotonic(), found.leftovers)
            else:
                entry.ended, entry.leftovers = True, found.leftovers
        else:
            entry.leftovers = found.leftovers
            self._step(lifecycle.RESUMED)
            self._look_for_rest(entry.incarnation, REST_FIRST_PAUSE_S)

    def _resume_alive(self, found: Found, alive: Identity) -> None:
        entry = self.entry
        entry.identity, entry.ended, entry.exit = alive, False, ""
        if found.unrecorded:
            entry.starts = entry.starts.counted()
        if not found.remembered:
            entry.started_at = self._means.clock()
            try:
                self._take(*self._configuration())
            except AgentError as error:
                log.warning("process %s: adopted without configuration: %s", self.key, error)
        stat = alive.stat()
        self._lines.append(f"adopted as {self.state.lower()} (pid {alive.pid})")
        self._observe(child=stat is not None and stat.ppid == os.getpid())
        self._step(lifecycle.ADOPTED, Facts(signalled=entry.signalled))

    # ---- answers

    def _answer(self) -> None:
        """Tell those whose question the present state answers."""
        for waiter in list(self._waiters):
            outcome = self._outcome(waiter)
            if outcome is not None:
                self._waiters.remove(waiter)
                waiter.result.set(outcome)

    def _outcome(self, waiter: Waiter) -> Outcome | None:
        state = self.state
        if waiter.event in (lifecycle.START_ASKED, lifecycle.RESTART_ASKED):
            if state in (lifecycle.STARTING, lifecycle.STOPPING) and self.wanted == lifecycle.UP:
                return None
            if state == lifecycle.RUNNING:
                return Outcome(self.key, OK, f"pid {self.pid}", self.pid)
            if self.wanted == lifecycle.DOWN:
                return Outcome(self.key, FAILED, "another command asked it to stop meanwhile", self.pid)
            return Outcome(self.key, FAILED, self.reason or f"it is {state}")
        if state == lifecycle.STOPPED:
            return Outcome(self.key, OK, self.exit)
        if self.wanted == lifecycle.UP:
            return Outcome(self.key, FAILED, "another command asked it to start meanwhile", self.pid)
        return None

    def _report(self) -> None:
        if self.state == lifecycle.STOPPING and self.wanted == lifecycle.DOWN:
            self.entry.reason = f"still running {_spoken(self._age_s())} after it was asked to stop"
            self._changed()
        for waiter in self._waiters:
            waiter.result.set(self._not_yet(waiter))
        self._waiters.clear()

    def _not_yet(self, waiter: Waiter) -> Outcome:
        """The honest word when the time is over and the effect is not there."""
        spent = _spoken(time.monotonic() - waiter.asked)
        state = self.state
        if state == lifecycle.STARTING:
            detail = f"still starting, not ready after {_spoken(self._age_s())}, pid {self.pid}"
        elif state == lifecycle.STOPPING and self.entry.life.killing:
            detail = f"SIGKILL was sent and {self._who()} is there still after {spent}: it waits for a disk?"
        elif state == lifecycle.STOPPING and self.wanted == lifecycle.UP and not self.entry.life.restarting:
            detail = f"{self.entry.reason}; it is being stopped ({self._who()}) and then tried again"
        elif state == lifecycle.STOPPING:
            again = "; when it has ended it is started again" if self.wanted == lifecycle.UP else ""
            kill = f"kill {self._ip} {self._end_pid()} ends it"
            detail = f"still running after {spent} (saving?), {self._who()}{again}; {kill}"
        else:
            detail = f"not done after {spent}: it is {state}" + (f" ({self.reason})" if self.reason else "")
        return Outcome(self.key, FAILED, detail, self.pid)

    def _who(self) -> str:
        if self.pid:
            return f"pid {self.pid}"
        return "its children pid " + ", ".join(str(each.pid) for each in self.leftovers)

    def _end_pid(self) -> int:
        return self.pid or (self.leftovers[0].pid if self.leftovers else 0)

    def _age_s(self) -> float:
        return max(0.0, self._means.clock() - self.entry.since_at)

    _actions: dict[str, Callable[["Keeper"], None]] = {  # noqa: RUF012
        lifecycle.SPAWN: _spawn,
        lifecycle.AWAIT_READY: _await_ready,
        lifecycle.SIGNAL_STOP: _signal_stop,
        lifecycle.SIGNAL_REST: _signal_rest,
        lifecycle.SIGNAL_KILL: _signal_kill,
        lifecycle.ARM_READY: _arm_ready,
        lifecycle.ARM_STOP: _arm_stop,
        lifecycle.ARM_BACKOFF: _arm_backoff,
        lifecycle.REPORT: _report,
    }
