"""One task of this machine, from where it stands to its end: one greenlet per task.

    errand ─► Task (agent.task): written before each act ─► globaldb
           ─► the application: close entry, announce       ─► the keeper: stop, restart
           ◄─ its own record: how many players

Rules for the next editor:
- A phase is written before its act. Where writing fails the act waits: who resumes must know what may have happened.
- Nobody is there only after two reports that say so, both newer than the closed entry: one may have been on its way.
- A run that was ended for a task is never ended for it again (`Entry.task` is on our disk, whatever globaldb says).
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gevent
import ujson

from agent import gm
from agent.errors import AgentError, LinkLost, NoReply, Refused, StoreDown, StoreRefused, UsageError
from agent.globaldb import GlobalDb
from agent.lifecycle import ALIVE, BACKOFF, DECLINED, DOWN, RUNNING, STOPPING, UNSAVED
from agent.messages import ExecuteGm
from agent.outcome import Outcome
from agent.task import ANNOUNCING, CANCELLED, CLOSING, DONE, DRAIN, ENDING, FAILED, WAITING, Task
from roles.daemon.application import Application, Applications
from roles.daemon.keeper import Keeper

log = logging.getLogger("agent.task")

LOOK_S = 0.5
RETRY_S = 2.0
ANNOUNCE = "broadcast"
ANNOUNCE_S = 10.0
REPORTS_EMPTY = 2
UNSAVED_TEXT = "it had not acknowledged that it saved"
REOPEN_S = 30.0
LONG_S = 7 * 24 * 3600.0  # the keeper says when it takes too long


class _Over(Exception):
    """The task has come to its end; `phase` and `str()` say how."""

    def __init__(self, phase: str, detail: str) -> None:
        super().__init__(detail)
        self.phase = phase


class Errand:
    """Runs one task. `cancel` may be called at any time."""

    def __init__(
        self,
        task: Task,
        globaldb: GlobalDb,
        keeper_of: Callable[[str], Keeper | None],
        applications: Applications,
        ours: Callable[[], bool],
    ) -> None:
        """`ours`: whether this daemon may act for this machine now."""
        self.task = task
        self._globaldb = globaldb
        self._keeper_of = keeper_of
        self._applications = applications
        self._ours = ours
        self._closed: Application | None = None  # whose entry we have closed
        self._count = _Count()
        # a clock that is set meanwhile ends nothing
        left_s = task.deadline_at - time.time() if task.deadline_at else math.inf
        self._ends_at = time.monotonic() + left_s

    def cancel(self, user: str) -> bool:
        """False where it is too late: the process is being ended. Raises StoreDown, StoreRefused."""
        if self.task.phase == ENDING or not self.task.active:
            return False
        self.task = replace(self.task, cancelled_by=user)
        self._globaldb.write_task(self.task)  # else the next daemon would not know
        return True

    def run(self) -> None:
        """Until its end."""
        try:
            if self.task.phase == ENDING:
                self._resume_ending()
            while True:
                self._step()
                gevent.sleep(LOOK_S)
        except _Over as over:
            detail = str(over)
            if over.phase != DONE and not self._is_ending() and not self._reopen():
                detail += "; its entry may still be closed"
            self._write(self.task.to(over.phase, time.time(), detail))
            log.info("task %s %s: %s (%s)", self.task.kind, self.task.key, over.phase, detail)

    def _is_ending(self) -> bool:
        """It was asked to stop and goes on to: nobody is to be let in any more."""
        keeper = self._keeper_of(self.task.key)
        return keeper is not None and keeper.state == STOPPING

    def _step(self) -> None:
        """One look, and what follows from it. Raises _Over."""
        if self.task.cancelled_by:
            raise _Over(CANCELLED, f"by {self.task.cancelled_by}")
        if not self._ours():
            return
        keeper = self._keeper()
        if keeper.entry.task == self.task.id:
            raise _Over(DONE, "it was ended for this task before")
        if keeper.state not in ALIVE:
            self._not_alive(keeper)
            return
        if time.monotonic() >= self._ends_at:
            self._deadline(keeper)
        application = self._applications.get(self.task.key)
        if application is not None:
            self._close_and_announce(application)
        self._wait(keeper)

    def _not_alive(self, keeper: Keeper) -> None:
        if self.task.kind == DRAIN:
            self._end(keeper)
        elif keeper.state != BACKOFF:
            raise _Over(FAILED, f"it is {keeper.state}: {keeper.reason or keeper.exit or 'not running'}")

    def _deadline(self, keeper: Keeper) -> None:
        players = f", and {self.task.players} players were still there" if self.task.players > 0 else ""
        if self.task.kind == DRAIN:
            self._end(keeper, f"its deadline came{players}")
        raise _Over(FAILED, f"its deadline came{players}; nothing was done")

    # ---- entry and announcement

    def _close_and_announce(self, application: Application) -> None:
        if self.task.kind != DRAIN:
            return
        if self._closed is not application:  # a new link, or a new run of it, may have it open
            if not self._set_entry(application, False):
                return
            if self.task.phase == CLOSING:
                self._write(self.task.to(ANNOUNCING if self.task.notice else WAITING, time.time()))
        if self.task.phase == ANNOUNCING:
            self._announce(application)

    def _set_entry(self, application: Application, open_: bool) -> bool:
        """False, and things are left as they are, where the link is lost: the next one is asked. Raises _Over where it
        says no."""
        try:
            application.set_entry(open_, self.task.kind)
        except (LinkLost, NoReply):
            return False
        except Refused as error:
            if error.code == "unreachable":
                return False
            raise _Over(FAILED, f"it did not {'open' if open_ else 'close'} its entry: {error}") from None
        self._closed = None if open_ else application
        self._count.begin()
        return True

    def _announce(self, application: Application) -> None:
        """Once at most: whoever resumes here cannot know whether it was heard."""
        if not self.task.announced:
            self._write(replace(self.task, announced=True))
            try:
                command, arguments = announcement(application, self.task.notice)
                application.execute(ExecuteGm(self.task.id, command, arguments, self.task.user), ANNOUNCE_S)
            except AgentError as error:
                log.warning("task %s %s: not announced: %s", self.task.kind, self.task.key, error)
        self._write(self.task.to(WAITING, time.time()))

    def _reopen(self) -> bool:
        """Whether its entry is open, for all we know. Waits a while for a process that has no link just now."""
        if self.task.kind != DRAIN and self._closed is None and self.task.phase != CLOSING:
            return True
        deadline = time.monotonic() + REOPEN_S
        while time.monotonic() < deadline:
            keeper, application = self._keeper_of(self.task.key), self._applications.get(self.task.key)
            if keeper is None or keeper.state not in ALIVE:
                return True
            try:
                if application is not None and self._set_entry(application, True):
                    return True
            except _Over as error:
                log.warning("task %s %s: %s", self.task.kind, self.task.key, error)
                return False
            gevent.sleep(LOOK_S)
        return False

    # ---- players

    def _wait(self, keeper: Keeper) -> None:
        players, empty = self._count.look(self._record())
        if players != self.task.players:
            self._write(replace(self.task, players=players))
        if self.task.kind == DRAIN:
            if empty and self._closed is not None:
                self._end(keeper, "nobody was left")
            return
        application = self._applications.get(self.task.key)
        if self._closed is not application:
            self._closed = None
        if application is None:
            return
        if players > 0 and (self._closed or self.task.phase == CLOSING):  # somebody slipped in
            if self._set_entry(application, True):
                self._write(self.task.to(WAITING, time.time()))
        elif empty and self._closed is None:
            self._write(self.task.to(CLOSING, time.time()))
            self._set_entry(application, False)
        elif empty:
            self._end(keeper, "nobody was there")

    def _record(self) -> tuple[str | None, str | None]:
        """(info, lastupdate); (None, None) while globaldb is away."""
        try:
            info, lastupdate = self._globaldb.read_records([self.task.key], ("info", "lastupdate"))[0]
        except (StoreDown, StoreRefused):
            return None, None
        return info, lastupdate

    # ---- the end

    def _end(self, keeper: Keeper, why: str = "") -> None:
        """Raises _Over. Until it is written a cancel is in time."""
        if self.task.cancelled_by:
            raise _Over(CANCELLED, f"by {self.task.cancelled_by}")
        self._write(replace(self.task.to(ENDING, time.time(), why), incarnation=keeper.incarnation))
        keeper.note_task(self.task.id)
        outcome = keeper.stop(LONG_S) if self.task.kind == DRAIN else keeper.restart(LONG_S)
        raise _ended(outcome, why)

    def _resume_ending(self) -> None:
        """The daemon before us died in the act. Raises _Over."""
        keeper = self._keeper()
        while keeper.state == STOPPING or not self._ours():
            gevent.sleep(LOOK_S)
        same, save = keeper.incarnation == self.task.incarnation, keeper.entry.life.save
        if same and keeper.entry.task == self.task.id and keeper.state == RUNNING and save == DECLINED:
            raise _Over(FAILED, keeper.reason)
        phase, unsaved = (FAILED, f"; {UNSAVED_TEXT}") if save == UNSAVED else (DONE, "")
        if self.task.kind == DRAIN:
            if keeper.state not in ALIVE and keeper.wanted == DOWN:
                raise _Over(phase, keeper.exit + unsaved)
            if not same:
                raise _Over(DONE, "it was ended, and somebody has started it since")
        elif not same and keeper.state in ALIVE:
            raise _Over(phase, f"runs again, pid {keeper.pid}{unsaved}")
        keeper.note_task(self.task.id)
        outcome = keeper.stop(LONG_S) if self.task.kind == DRAIN else keeper.restart(LONG_S)
        raise _ended(outcome, self.task.detail)

    def _keeper(self) -> Keeper:
        keeper = self._keeper_of(self.task.key)
        if keeper is None:
            raise _Over(FAILED, "it is not configured here any more")
        return keeper

    def _write(self, task: Task) -> None:
        """Until globaldb has it; a cancel that came meanwhile stays."""
        self.task = replace(task, cancelled_by=self.task.cancelled_by or task.cancelled_by)
        while True:
            try:
                self._globaldb.write_task(self.task)
                return
            except (StoreDown, StoreRefused) as error:
                log.warning("task %s %s waits: %s", task.kind, task.key, error)
                gevent.sleep(RETRY_S)


class _Count:
    """How many are there, by the application's own reports since `begin`."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._empty = 0

    def begin(self) -> None:
        """What was reported before does not count."""
        self._last, self._empty = None, 0

    def look(self, record: tuple[str | None, str | None]) -> tuple[int, bool]:
        """The players (-1: it does not say), and whether there is certainly nobody."""
        info, lastupdate = record
        players = players_of(info)
        if self._last is None:
            self._last = lastupdate
        elif lastupdate is not None and lastupdate != self._last:
            self._last = lastupdate
            self._empty = self._empty + 1 if players == 0 else 0
        if players != 0:
            self._empty = 0
        return players, self._empty >= REPORTS_EMPTY


def _ended(outcome: Outcome, why: str) -> _Over:
    detail = f"{why}; {outcome.detail}" if why else outcome.detail
    return _Over(DONE if outcome.good else FAILED, detail)


def players_of(info: str | None) -> int:
    """-1 where it does not say, or says nonsense."""
    try:
        document: Any = ujson.loads(info or "{}")
    except ValueError:
        return -1
    players = document.get("players") if isinstance(document, dict) else None
    return players if type(players) is int and players >= 0 else -1


def announcement(application: Application, notice: str) -> tuple[str, dict[str, Any]]:
    """The GM command that tells its players, and its arguments. Raises UsageError."""
    command = application.declarations.find(ANNOUNCE)
    if not command.arguments or command.arguments[0].type != "str":
        raise UsageError(f"the first argument of its GM command {ANNOUNCE} is no text")
    return ANNOUNCE, gm.bind(command, [], {command.arguments[0].name: notice})
