"""What one daemon is: its parts, put together. Handlers and operations work on this."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent

from agent import names
from agent.bucket import Buckets
from agent.errors import StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.gm import Answer
from agent.lifecycle import ALIVE, DOWN, UP
from agent.link import Link
from agent.outcome import Outcome
from agent.process import Process
from agent.program import LaunchSpec
from agent.selection import Selection
from roles.daemon.adoption import adopt
from roles.daemon.agenda import Agenda
from roles.daemon.application import Application, Applications
from roles.daemon.atlas import Atlas
from roles.daemon.audit import Audit
from roles.daemon.clock import GroupClock
from roles.daemon.configuration import Configuration
from roles.daemon.event_stream import EventStream
from roles.daemon.gallery import Gallery
from roles.daemon.journal import Journal
from roles.daemon.keeper import Keeper, Means
from roles.daemon.memo import Memos
from roles.daemon.observer import Observer
from roles.daemon.presence import Presence
from roles.daemon.recorder import Recorder
from roles.daemon.rights import Rights
from roles.daemon.spawner import Spawner
from roles.daemon.tenure import Tenure

log = logging.getLogger("agent.daemon")

REFRESH_S = 2.0
DECLARE_RATE, DECLARE_BURST = 2.0, 50.0  # of one application
GM_RATE, GM_BURST = 50.0, 200.0  # GM commands of one user, asked of this daemon


class DaemonState:
    def __init__(self, ip: str, globaldb: GlobalDb, folder: Path, own_address: str) -> None:
        """`own_address` is where applications of this machine reach us."""
        self.ip = ip
        self.globaldb = globaldb
        self.keepers: dict[str, Keeper] = {}
        self.sessions: set[Link] = set()  # of admins
        self.configuration = Configuration(globaldb, ip)
        self.presence = Presence(ip)
        self.rights = Rights(globaldb)
        self.audit = Audit(globaldb, ip)
        self.clock = GroupClock(globaldb.store)
        self.tenure = Tenure(globaldb, self.clock, self.presence, ip)
        self.recorder = Recorder(
            globaldb, self.clock, self.tenure, ip, str(folder), lambda: list(self.keepers.values())
        )
        self.gm_rate = Buckets(GM_RATE, GM_BURST)
        self.declare_rate = Buckets(DECLARE_RATE, DECLARE_BURST)
        self.memos = Memos()
        self._gm_listeners: dict[str, Callable[[list[Answer]], object]] = {}
        self._progress_listeners: dict[str, Callable[[str, str], object]] = {}
        self._listeners: dict[str, Callable[[Outcome], object]] = {}
        self.atlas = Atlas(globaldb, self.configuration, ip)
        observer = Observer(globaldb, self.clock, self.presence)
        self.gallery = Gallery(ip, self.atlas, observer, self.rights, self.clock)
        self.applications = Applications()
        self.applications.on_change = self._application_changed
        spawner = Spawner(folder, daemon_address=own_address)
        self.seal = spawner.seal
        self._means = Means(spawner, Journal(folder), self.applications)
        self.events = EventStream(globaldb, self.rights, self.presence, self.process_of)
        self.agenda = Agenda(ip, globaldb, self.keepers, self.applications, lambda: self.tenure.ours)

    # ---- processes of this machine ---------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Before anything else: every process that runs, or ran when the last daemon died, gets its keeper back."""
        found = adopt(
            self._means.journal.read(),
            self._means.spawner.owner,
            self._means.spawner.seal,
            lambda key: _ip_of(key) == self.ip,
        )
        for key, what in found.items():
            keeper = Keeper(
                key,
                self.configuration.launch_of(key),
                self._means,
                found=what,
                on_change=self.recorder.changed,
            )
            self.keepers[key] = keeper
        alive = sum(1 for what in found.values() if what.alive is not None)
        log.info("adopted %d running processes, %d more are remembered", alive, len(found) - alive)

    def refresh_configuration(self) -> None:
        """Take up what has changed: new processes get a keeper, removed ones that do not run lose theirs."""
        if not self.configuration.refresh():
            return
        new = [key for key in self.configuration.processes if key not in self.keepers]
        if new:
            wishes = self._recorded_wishes(new)
            for key in new:
                if key in self.keepers:
                    continue
                keeper = Keeper(
                    key,
                    self.configuration.launch_of(key),
                    self._means,
                    wanted=wishes.get(key) or DOWN,
                    on_change=self.recorder.changed,
                )
                self.keepers[key] = keeper
                self.recorder.changed(keeper)
        for key in [key for key in self.keepers if key not in self.configuration.processes]:
            keeper = self.keepers[key]
            if keeper.state not in ALIVE and not keeper.leftovers:
                log.info("process %s: no longer configured, forgotten", key)
                del self.keepers[key]
                self.recorder.forget(key)
                keeper.forget()

    def follow_configuration(self) -> None:
        """For ever."""
        while True:
            self.refresh_configuration()
            gevent.sleep(REFRESH_S)

    def process_of(self, key: str) -> Process:
        """As configured, or what its name says of a process that is configured no more."""
        return self.configuration.processes.get(key) or Process(*names.split_key(key), type="")

    def _application_changed(self, application: Application) -> None:
        keeper = self.keepers.get(application.key)
        if keeper is not None:
            keeper.declared(application.incarnation, application.saves)

    def log_path(self, key: str, spec: LaunchSpec) -> str:
        return str(self._means.spawner.log_path(key, spec))

    def close(self) -> None:
        """The processes go on, and their tasks with the next daemon."""
        self.agenda.close()
        for keeper in self.keepers.values():
            keeper.close()

    def _recorded_wishes(self, keys: list[str]) -> dict[str, str | None]:
        try:
            rows = self.globaldb.read_records(keys, ("wanted",))
        except (StoreDown, StoreRefused) as error:
            log.warning("wishes of %d new processes cannot be read: %s", len(keys), error)
            return {}
        return {key: row[0] if row[0] in (UP, DOWN) else None for key, row in zip(keys, rows, strict=True)}

    # ---- the group -------------------------------------------------------------------------------------------------

    def select(self, selection: Selection) -> list[Process]:
        """What a command is about: what is configured, and what runs here although it is configured no more."""
        configured = self.atlas.world_of(selection.machine).select(selection)
        known = {process.key for process in configured}
        extra = [
            self.process_of(key)
            for key, keeper in self.keepers.items()
            if key not in known and key not in self.configuration.processes and keeper.state in ALIVE
        ]
        return configured + [
            process for process in extra if selection.matches(process.region, process.ip, process.name)
        ]

    # ---- progress of commands that run elsewhere --------------------------------------------------------------------

    @contextmanager
    def listening(
        self, command: str, progress: Callable[[Outcome], object], said: Callable[[str, str], object]
    ) -> Iterator[None]:
        """While inside, TargetFinished notices of this command go to `progress`, and what targets say of how far they
        are to `said`, with the target."""
        self._listeners[command], self._progress_listeners[command] = progress, said
        try:
            yield
        finally:
            self._listeners.pop(command, None)
            self._progress_listeners.pop(command, None)

    def heard_of(self, command: str, target: str, words: str) -> None:
        listener = self._progress_listeners.get(command)
        if listener:
            listener(target, words)

    @contextmanager
    def hearing_gm(self, call: str, take: Callable[[list[Answer]], object]) -> Iterator[None]:
        """While inside, verdicts of one machine for one call go to `take`."""
        self._gm_listeners[call] = take
        try:
            yield
        finally:
            self._gm_listeners.pop(call, None)

    def heard_gm(self, call: str, answers: list[Answer]) -> None:
        listener = self._gm_listeners.get(call)
        if listener:
            listener(answers)

    def heard(self, command: str, outcome: Outcome) -> None:
        listener = self._listeners.get(command)
        if listener:
            listener(outcome)


def _ip_of(key: str) -> str:
    return names.split_key(key)[1]
