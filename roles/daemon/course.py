"""The course of one life: each event goes through the table of agent/lifecycle.py, and what it orders is done here.

    event ─► step ─┬► life changed    memory, callers (on_step)
                   ├► state changed   alarms off, since when and why, a line for the log
                   └► actions         spawn, await_ready, signal_…, arm_…, report ──► the next event, some time

Rules for the next editor:
- What to do next is decided in the table, not here.
- `entry.life` changes in `step` and nowhere else. Everything here runs in the keeper's greenlet and does not yield.
- What comes late (an end, a probe, an alarm) brings the incarnation it is about, and counts for that one only.
"""

import os
import time
from collections.abc import Callable

from agent import lifecycle
from agent.lifecycle import Facts, Life
from roles.daemon import watch
from roles.daemon.adoption import Found
from roles.daemon.application import Applications
from roles.daemon.ending import Ending
from roles.daemon.identity import Identity
from roles.daemon.inbox import Alarm, Inbox
from roles.daemon.launch import Launch
from roles.daemon.memory import Memory
from roles.daemon.readiness import Readiness
from roles.daemon.saving import Saving

LAST_WORDS_S = 0.5
REST_FIRST_PAUSE_S = 0.03  # looking for what a main process left behind, while STOPPING
REST_LONGEST_PAUSE_S = 1.0


class Course:
    """Runs the table for one process."""

    def __init__(
        self,
        memory: Memory,
        launch: Launch,
        ending: Ending,
        inbox: Inbox,
        applications: Applications,
        *,
        on_step: Callable[[], None],
        on_late: Callable[[], None],
        on_progress: Callable[[str], None],
    ) -> None:
        """`on_step` is called after each change of the life, `on_late` when the table says that it took too long,
        `on_progress` with how far the application is with its saving."""
        self._memory = memory
        self._entry = memory.entry
        self._launch = launch
        self._ending = ending
        self._inbox = inbox
        self._on_step = on_step
        self._on_late = on_late
        self._on_progress = on_progress
        self._saving = Saving(memory, applications, inbox, self._saved, self._save_declined)
        self._readiness = Readiness(memory, inbox, self.seen_ready, self._ready_timed_out)
        self._alarm = Alarm(inbox)  # of the state: each change of state clears it
        self._next_look = Alarm(inbox)  # at what the main process left behind
        self._last_words = Alarm(inbox)  # of a process that ended while it was asked to save
        self._last_words_due = False
        self._watch: watch.Watch | None = None

    def asked(self, event: str, leftovers: list[Identity]) -> None:
        """What a caller wants; how it begins depends on whether the application can be asked. One whose link is lost,
        to a daemon that has just begun for example, joins again within seconds."""
        self.step(event, Facts(leftovers=bool(leftovers), saves=self._entry.saves))

    def declared(self, incarnation: str, saves: bool) -> None:
        """The application has a link, and has said what it can do."""
        if incarnation != self._entry.incarnation or self._entry.ended:
            return
        if self._entry.saves != saves:
            self._entry.saves = saves
            self._memory.changed()
        self.step(lifecycle.JOINED)

    def step(self, event: str, facts: Facts = lifecycle.NO_FACTS, reason: str = "") -> None:
        old = self._entry.life
        life, actions = lifecycle.step(old, event, self._memory.policy, facts)
        if life != old:
            self._memory.changed()
            self._entry.life = life
            if life.save == lifecycle.UNSAVED and (old.save, old.state) != (life.save, lifecycle.STOPPING):
                self._entry.unsaved = self._why_unsaved(event, reason)
        if life.state != old.state:
            self._disarm()
            self._enter(old, reason)
        for action in actions:
            self._actions[action](self)
        if life != old:
            self._on_step()

    def seen_ready(self, incarnation: str) -> None:
        if incarnation == self._entry.incarnation and not self._entry.ended:
            self.step(lifecycle.READY)

    def close(self) -> None:
        """The process goes on; nothing is noticed any more."""
        self._disarm()
        self._saving.give_up()
        self._next_look.clear()
        self._last_words.clear()
        self._unwatch()

    def _enter(self, old: Life, reason: str) -> None:
        entry = self._entry
        self._memory.enter(old, self._explained(old, reason))
        if entry.life.state != lifecycle.STOPPING:
            entry.signalled = False
        elif entry.ended:
            self._inbox.post(self._look_for_rest, entry.incarnation)

    def _explained(self, old: Life, reason: str) -> str:
        life = self._entry.life
        if life.state == lifecycle.BACKOFF:
            return f"{reason}; starts again in {lifecycle.backoff_s(life, self._memory.policy):g} s"
        if life.state == lifecycle.FATAL and life.unready > old.unready:
            return (
                f"{life.unready} times in a row it was not ready ({reason}); see its log and start it again"
            )
        return reason

    # ---- starting

    def _spawn(self) -> None:
        event, reason = self._launch.attempt()
        if event == lifecycle.SPAWNED:
            self._observe(child=True)
        self.step(event, reason=reason)

    def _observe(self, *, child: bool) -> None:
        assert self._entry.identity is not None
        incarnation = self._entry.incarnation

        def on_end(text: str) -> None:
            self._inbox.post(self._ended, incarnation, text, time.monotonic())

        self._watch = watch.Watch(self._entry.identity, child=child, on_end=on_end)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _ready_timed_out(self, incarnation: str) -> None:
        if incarnation == self._entry.incarnation:
            reason = f"not ready after {self._memory.spec.ready_timeout_s:g} s"
            self.step(lifecycle.READY_TIMED_OUT, Facts(saves=self._entry.saves), reason)
            if self._entry.life.state == lifecycle.STARTING:
                self._memory.note(reason)

    # ---- ending

    def _ended(
        self, incarnation: str, text: str, noticed: float, leftovers: list[Identity] | None = None
    ) -> None:
        """`leftovers` where they are known; else whoever is in the session at some moment after `noticed`."""
        entry = self._entry
        if incarnation != entry.incarnation or entry.ended:
            return
        if entry.life.save == lifecycle.ASKED and leftovers is None and not self._last_words_due:
            # what it said before it ended may still lie in its link
            self._last_words_due = True
            self._last_words.set(LAST_WORDS_S, self._ended, incarnation, text, noticed)
            return
        self._last_words_due = False
        self._unwatch()
        entry.ended, entry.exit = True, text
        asked = entry.life.state == lifecycle.STOPPING
        entry.crashed_at = 0.0 if asked or text == watch.CLEAN else self._memory.clock()
        entry.leftovers = self._ending.rest(noticed) if leftovers is None else leftovers
        self._memory.changed()
        why = f"it ended: {text}" if entry.life.state == lifecycle.STARTING else text
        clean, ran_s = text == watch.CLEAN, self._memory.ran_s()
        self.step(lifecycle.ENDED, Facts(clean=clean, ran_s=ran_s, leftovers=bool(entry.leftovers)), why)
        self._look_for_rest(entry.incarnation)

    def _look_for_rest(self, incarnation: str, pause_s: float = REST_FIRST_PAUSE_S) -> None:
        """While STOPPING, after the main process: until its session is empty."""
        entry = self._entry
        if entry.life.state != lifecycle.STOPPING or not entry.ended or incarnation != entry.incarnation:
            return
        if not self._ending.leftovers():
            asked = entry.life.wanted == lifecycle.DOWN or entry.life.restarting
            why = entry.exit if asked else f"{entry.reason}; ended when asked to: {entry.exit}"
            self.step(lifecycle.EMPTIED, reason=why)
            return
        if entry.life.killing:
            self._ending.kill()
        longer_s = min(REST_LONGEST_PAUSE_S, pause_s * 1.5)
        self._next_look.set(pause_s, self._look_for_rest, incarnation, longer_s)

    def _report(self) -> None:
        if self._entry.life.state == lifecycle.STOPPING and self._entry.life.wanted == lifecycle.DOWN:
            limit = f"{self._memory.spec.stop_timeout_s:g} s"
            self._memory.note(
                f"asked to stop, still running when its stop_timeout_s of {limit} was over (saving?)"
            )
        self._on_late()

    # ---- saving

    def progressed(self, incarnation: str, words: str) -> None:
        if incarnation != self._entry.incarnation or self._entry.life.save != lifecycle.ASKED:
            return
        if not self._entry.life.force:  # by force nobody is waited for without an end
            self._arm_save()
        self._memory.note(words)
        self._on_progress(words)

    def _saved(self, incarnation: str, words: str) -> None:
        if incarnation == self._entry.incarnation:
            self._memory.note(f"saved{': ' if words else ''}{words}")
            self.step(lifecycle.SAVE_ACKNOWLEDGED)

    def _save_declined(self, incarnation: str, words: str) -> None:
        if incarnation == self._entry.incarnation:
            self.step(lifecycle.SAVE_DECLINED, reason=f"it declined to stop: {words or 'no reason given'}")

    def _why_unsaved(self, event: str, reason: str) -> str:
        """Of a process that will not acknowledge any more."""
        far = self._entry.reason
        if event in (lifecycle.SAVE_TIMED_OUT, lifecycle.SAVE_DECLINED, lifecycle.READY_TIMED_OUT):
            return reason or far
        how = "it was killed" if event == lifecycle.KILL_ASKED else "it ended"
        return f"{how} before{f', {far}' if far else ''}"

    def _save_timed_out(self, incarnation: str) -> None:
        if incarnation == self._entry.incarnation and self._entry.life.save == lifecycle.ASKED:
            limit = f"{self._memory.spec.save_timeout_s:g} s"
            far = self._entry.reason
            after = (
                f", after {far}"
                if far
                else ", and it has no link"
                if self._saving.application is None
                else ""
            )
            what = "it had not saved within" if self._entry.life.force else "no word of its saving for"
            self._memory.note(f"{what} {limit}{after}")
            self._saving.give_up()
            self.step(lifecycle.SAVE_TIMED_OUT)

    def _arm_save(self) -> None:
        self._alarm.set(self._memory.spec.save_timeout_s, self._save_timed_out, self._entry.incarnation)

    # ---- alarms of the state

    def _arm_stop(self) -> None:
        self._alarm.set(self._memory.spec.stop_timeout_s, self.step, lifecycle.STOP_TIMED_OUT)

    def _arm_backoff(self) -> None:
        pause_s = lifecycle.backoff_s(self._entry.life, self._memory.policy)
        self._alarm.set(pause_s, self.step, lifecycle.BACKOFF_OVER)

    def _disarm(self) -> None:
        self._alarm.clear()
        self._readiness.give_up()

    # ---- after the death of a daemon

    def resume(self, found: Found) -> None:
        """Go on where the last daemon was: with the process if it lives, with its end if it does not."""
        entry = self._entry
        self._memory.changed()
        if found.alive is not None:
            self._resume_alive(found, found.alive)
        elif not entry.ended:
            text = watch.missed_end(entry.identity)
            if (
                entry.life.alive
            ):  # this may already start it again: after a restart that the last daemon died in
                self._ended(entry.incarnation, text, time.monotonic(), found.leftovers)
            else:
                entry.ended, entry.leftovers = True, found.leftovers
        elif not found.leftovers and entry.life.state == lifecycle.STOPPING:
            self.step(lifecycle.EMPTIED)
        else:
            entry.leftovers = found.leftovers
            self.step(lifecycle.RESUMED)
            self._look_for_rest(entry.incarnation)

    def _resume_alive(self, found: Found, alive: Identity) -> None:
        entry = self._entry
        entry.identity, entry.ended = alive, False
        if found.unrecorded:
            entry.starts = entry.starts.counted()
        if not found.remembered:
            self._launch.adopt(alive)
        stat = alive.stat()
        was = f", {entry.life.state.lower()} when it was last seen" if found.remembered else ""
        self._memory.line(f"adopted (pid {alive.pid}{was})")
        self._observe(child=stat is not None and stat.ppid == os.getpid())
        self.step(lifecycle.ADOPTED, Facts(signalled=entry.signalled))

    _actions: dict[str, Callable[["Course"], None]] = {  # noqa: RUF012
        lifecycle.SPAWN: _spawn,
        lifecycle.AWAIT_READY: lambda self: self._readiness.expect(),
        lifecycle.ASK_SAVE: lambda self: self._saving.ask(),
        lifecycle.ARM_SAVE: _arm_save,
        lifecycle.SIGNAL_STOP: lambda self: self._ending.ask(),
        lifecycle.SIGNAL_REST: lambda self: self._ending.ask_rest(),
        lifecycle.SIGNAL_KILL: lambda self: self._ending.kill(),
        lifecycle.ARM_READY: lambda self: self._readiness.limit(),
        lifecycle.ARM_STOP: _arm_stop,
        lifecycle.ARM_BACKOFF: _arm_backoff,
        lifecycle.REPORT: _report,
    }
