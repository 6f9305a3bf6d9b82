"""The tasks of this machine: begun by commands, found again in globaldb by the next daemon, one per process.

drain, restart --when-empty ─► begin ─► globaldb ─► Errand, a greenlet of its own
a new daemon ─► follow ─► what globaldb has of ours and is not done ─► Errand
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping

import gevent

from agent import names
from agent.errors import AgentError, StoreDown, StoreRefused, UsageError
from agent.globaldb import GlobalDb
from agent.lifecycle import ALIVE
from agent.outcome import ALREADY, FAILED, OK, Outcome
from agent.task import CLOSING, DRAIN, RESTART, WAITING, Task
from agent.task import FAILED as TASK_FAILED
from agent.trouble import Trouble
from roles.daemon.application import Applications
from roles.daemon.errand import Errand, announcement, players_of
from roles.daemon.keeper import Keeper

log = logging.getLogger("agent.task")

KIND_OF = {"drain": DRAIN, "restart-when-empty": RESTART}  # by the command's verb
JUST_BEGUN = "the daemon of {} has just begun; try again in a moment"
FOLLOW_S = 1.0
KEPT_S = 7 * 24 * 3600.0  # a finished one


class Agenda:
    """Those of one machine."""

    def __init__(
        self,
        ip: str,
        globaldb: GlobalDb,
        keepers: Mapping[str, Keeper],
        applications: Applications,
        ours: Callable[[], bool],
    ) -> None:
        self._ip = ip
        self._globaldb = globaldb
        self._keepers = keepers
        self._applications = applications
        self._ours = ours
        self._errands: dict[str, Errand] = {}
        self._running: set[gevent.Greenlet] = set()
        self._beginning: set[str] = set()
        self._read = False

    def begin(self, kind: str, key: str, user: str, origin: str, deadline_s: float, notice: str) -> Outcome:
        """Written before it begins. Raises StoreDown, StoreRefused: then nothing has begun."""
        if key in self._beginning:
            return Outcome(key, ALREADY, "another command is beginning one there")
        self._beginning.add(key)
        try:
            return self._begin(kind, key, user, origin, deadline_s, notice)
        finally:
            self._beginning.discard(key)

    def _take_up(self) -> bool:
        """What the daemon before us left goes on; False as long as it is not ours to go on with. Raises what a store
        raises."""
        if not self._read and self._ours():
            self._resume()
            self._read = True
        return self._read

    def _begin(self, kind: str, key: str, user: str, origin: str, deadline_s: float, notice: str) -> Outcome:
        keeper = self._keepers[key]
        if not self._take_up():
            return Outcome(key, FAILED, JUST_BEGUN.format(self._ip))
        running = self._errands.get(key)
        if running is not None and running.task.active and running.task.kind != kind:
            return Outcome(
                key, FAILED, f"a {running.task.kind} goes on there, by {running.task.user}: cancel it first"
            )
        if running is not None and running.task.active:
            return Outcome(
                key,
                ALREADY,
                f"{running.task.kind} since {_clock(running.task.begun_at)} by {running.task.user}",
            )
        if problem := self._problem(kind, keeper, notice):
            return Outcome(key, FAILED, problem, keeper.pid)
        now = time.time()
        task = Task(
            secrets.token_hex(4), kind, key, user, origin, round(now, 3),
            round(now + deadline_s, 3) if deadline_s else 0.0, notice, CLOSING if kind == DRAIN else WAITING,
            round(now, 3),
        )  # fmt: skip
        info = self._globaldb.read_records([key], ("info",))[0][0]
        players = players_of(info)
        if players < 0:
            return Outcome(
                key,
                FAILED,
                "it does not report `players` in its info: nobody would know when it is empty",
                keeper.pid,
            )
        self._globaldb.write_task(task)
        self._spawn(task)
        until = f", at the latest {_clock(task.deadline_at)}" if task.deadline_at else ""
        return Outcome(key, OK, f"begun ({players} players{until}); `tasks` shows how far it is", keeper.pid)

    def cancel(self, key: str, user: str) -> Outcome:
        """Written before it is answered. Raises StoreDown, StoreRefused: it is cancelled here, and may be forgotten."""
        if not self._take_up():
            return Outcome(key, FAILED, JUST_BEGUN.format(self._ip))
        errand = self._errands.get(key)
        if errand is None or not errand.task.active:
            return Outcome(key, ALREADY, "no task goes on there")
        if not errand.cancel(user):
            return Outcome(key, FAILED, "too late: it is being ended")
        opened = ", its entry is being opened again" if errand.task.kind == DRAIN else ""
        return Outcome(key, OK, f"{errand.task.kind} is cancelled{opened}")

    def follow(self) -> None:
        """For ever: what the daemon before us left, once it is ours to go on with; then only tidying."""
        trouble = Trouble()
        while True:
            try:
                self._take_up()
                trouble.is_over()
            except (StoreDown, StoreRefused) as error:
                if trouble.is_news(error):
                    log.warning("tasks cannot be read: %s", error)
            gevent.sleep(FOLLOW_S)

    def close(self) -> None:
        """They stand in globaldb as they are: the next daemon goes on with them."""
        gevent.killall(list(self._running), block=False)

    def _resume(self) -> None:
        for key, task in self._globaldb.read_tasks().items():
            if not self._is_ours(key) or key in self._errands:
                continue
            if task.active:
                log.info("task %s %s: goes on (%s)", task.kind, key, task.phase)
                self._spawn(task)
            elif time.time() - task.since_at > KEPT_S:
                self._globaldb.forget_task(key)

    def _spawn(self, task: Task) -> None:
        errand = Errand(task, self._globaldb, self._keepers.get, self._applications, self._ours)
        self._errands[task.key] = errand
        greenlet = gevent.spawn(self._run, errand)
        self._running.add(greenlet)
        greenlet.link(self._running.discard)

    def _run(self, errand: Errand) -> None:
        """A bug in one task ends that one, and is told."""
        try:
            errand.run()
        except Exception:
            log.exception("task %s %s: a bug", errand.task.kind, errand.task.key)
            failed = errand.task.to(TASK_FAILED, time.time(), "internal error: see the log of its daemon")
            errand.task = failed
            try:
                self._globaldb.write_task(failed)
            except (StoreDown, StoreRefused) as error:
                log.warning("task %s %s: %s", failed.kind, failed.key, error)

    def _problem(self, kind: str, keeper: Keeper, notice: str) -> str:
        """Why it cannot be begun."""
        application = self._applications.get(keeper.key)
        if keeper.state not in ALIVE:
            return f"it is {keeper.state}"
        if application is None:
            return f"it has not joined its daemon, so it cannot be asked; {'stop' if kind == DRAIN else 'restart'} it"
        if not application.entry:
            return "its application has no way to close its entry (on_entry of the SDK)"
        if notice:
            try:
                announcement(application, notice)
            except UsageError as error:
                return f"it cannot announce: {error}"
        return ""

    def _is_ours(self, key: str) -> bool:
        try:
            return names.split_key(key)[1] == self._ip
        except AgentError:
            return False


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
