"""The only writer of this machine's records: what the daemon knows goes to globaldb, batched, in one greenlet.

Nothing waits for it. While globaldb is away changes collect here (only the newest of each process counts) and starts
are counted on disk; when it is back every record is brought up to date and `startcount` raised to what it should be.
"""

import logging
import time
from collections.abc import Callable

import gevent
import ujson
from gevent.event import Event

from agent.build import short_name
from agent.errors import StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.lifecycle import BACKOFF, FATAL, STOPPING
from agent.line import one_line
from agent.trouble import Trouble
from agent.verdict import FOREIGN
from roles.daemon import machine
from roles.daemon.clock import GroupClock
from roles.daemon.keeper import Keeper
from roles.daemon.report import Reports
from roles.daemon.tenure import Held, Tenure

log = logging.getLogger("agent.recorder")

COLLECT_S = 0.005  # 200 processes that start together make a handful of exchanges
TICK_S = 1.0
MACHINE_S = 5.0
RETRY_S = 1.0
HELD_S = 0.1
VERIFY_S = 3.0
VERIFIED = ("state", "wanted", "incarnation", "pid")


class Recorder:
    def __init__(
        self,
        globaldb: GlobalDb,
        clock: GroupClock,
        tenure: Tenure,
        ip: str,
        folder: str,
        keepers: Callable[[], list[Keeper]],
    ) -> None:
        self._globaldb = globaldb
        self._clock = clock
        self._tenure = tenure
        self._ip = ip
        self._folder = folder
        self._keepers = keepers
        self._version = short_name()
        self._reports = Reports()
        self._changed: dict[str, Keeper] = {}
        self._indexed: set[str] = set()
        self._wake = Event()
        self._machine_due = 0.0
        self._verify_due = 0.0
        self._trouble = Trouble()
        self._foreign_hand = Trouble()

    def changed(self, keeper: Keeper) -> None:
        """To be recorded soon; never blocks."""
        self._changed[keeper.key] = keeper
        self._wake.set()

    def forget(self, key: str) -> None:
        self._changed.pop(key, None)
        self._indexed.discard(key)
        self._reports.forget(key)

    def record(self) -> None:
        """For ever."""
        while True:
            self._wake.wait(TICK_S)
            self._wake.clear()
            gevent.sleep(COLLECT_S)
            try:
                if self._tenure.check():
                    self._all_anew()
                self._record_changes()
                self._verify()
                self._record_heartbeats()
                self._record_machine()
            except (StoreDown, StoreRefused) as error:
                if self._trouble.is_news(error):
                    log.warning("records wait: %s", error)
                gevent.sleep(RETRY_S)
                continue
            except Held:
                self._wake.set()  # else a daemon that the router admits at once would be slow to say so
                gevent.sleep(HELD_S)
                continue
            if self._trouble.is_over():
                log.info("records: globaldb is back, all are brought up to date")
                self._all_anew()

    def _all_anew(self) -> None:
        keepers = self._keepers()
        self._reports.in_doubt(keeper.key for keeper in keepers)  # another daemon may have written meanwhile
        for keeper in keepers:
            self.changed(keeper)

    def _verify(self) -> None:
        """What we wrote still stands there; what another hand has put in its place is written again."""
        if time.monotonic() < self._verify_due:
            return
        self._verify_due = time.monotonic() + VERIFY_S
        keepers = {keeper.key: keeper for keeper in self._keepers() if keeper.key in self._indexed}
        rows = self._globaldb.read_records(list(keepers), VERIFIED)
        spoilt = [
            (keeper, row)
            for keeper, row in zip(keepers.values(), rows, strict=True)
            if keeper.key not in self._changed and not self._stands(keeper, row)
        ]
        if not spoilt:
            self._foreign_hand.is_over()
            return
        (first, row), *_ = spoilt
        if self._foreign_hand.is_news(Exception("another hand")):
            log.error(
                "records: another hand wrote into %d of ours (%s: state %s, not %s), they are written again: "
                "is there a second daemon for %s?",
                len(spoilt), first.key, one_line(str(row[0])), _state(first), self._ip,
            )  # fmt: skip
        for keeper, row in spoilt:
            if row[0] is None:
                self._indexed.discard(keeper.key)
            self.changed(keeper)

    def _stands(self, keeper: Keeper, row: tuple[str | None, ...]) -> bool:
        state, wanted, incarnation, pid = row
        return (state, wanted, incarnation or "") == (_state(keeper), keeper.wanted, keeper.incarnation) and (
            pid == str(keeper.pid) or (keeper.pid > 0 and self._reports.by_itself(keeper))
        )

    def _look_for_strangers(self) -> None:
        """Has whoever had a port of ours left?"""
        for keeper in self._keepers():
            if keeper.foreign and not keeper.check_foreign():
                self.changed(keeper)

    def _record_changes(self) -> None:
        if not self._changed:
            return
        changed, self._changed = self._changed, {}
        try:
            new = [key for key in changed if key not in self._indexed]
            self._globaldb.write_records({key: self._fields(keeper) for key, keeper in changed.items()})
            self._globaldb.add_to_index(new, time.time())
            self._indexed.update(new)
            self._machine_due = min(self._machine_due, time.monotonic() + TICK_S)  # its counts have changed
            self._count_starts([keeper for keeper in changed.values() if keeper.starts.pending])
        except BaseException:
            self._changed = changed | self._changed
            self._reports.in_doubt(changed)
            raise

    def _count_starts(self, keepers: list[Keeper]) -> None:
        targets = {keeper: keeper.starts.target for keeper in keepers if keeper.starts.base is not None}
        unknown = [keeper for keeper in keepers if keeper not in targets]
        held = self._globaldb.read_startcounts([keeper.key for keeper in unknown])
        for keeper in unknown:
            targets[keeper] = keeper.note_base(held[keeper.key])
        # None: our disk could not remember what globaldb held, so a later daemon could not repeat this harmlessly
        known = {keeper: target for keeper, target in targets.items() if target is not None}
        self._globaldb.raise_startcounts({keeper.key: target for keeper, target in known.items()})
        for keeper, target in known.items():
            keeper.note_confirmed(target)

    def _record_heartbeats(self) -> None:
        due = self._reports.due(self._keepers())
        if not due:
            return
        watched = [keeper.key for keeper in due if keeper.spec.report != "agent"]
        rows = self._globaldb.read_records(watched, ("lastupdate",))
        lastupdates = {key: row[0] for key, row in zip(watched, rows, strict=True)}
        records = self._reports.fields(due, lastupdates)
        try:
            self._globaldb.write_records(records)
        except BaseException:
            self._reports.in_doubt(records)
            raise

    def _record_machine(self) -> None:
        now = time.monotonic()
        if now < self._machine_due:
            return
        self._machine_due = now + MACHINE_S
        self._look_for_strangers()
        self._clock.measure()
        keepers = self._keepers()
        info = {
            **machine.statistics(self._folder),
            "version": self._version,
            "incarnation": self._tenure.incarnation,
            "skew_s": None if self._clock.skew_s is None else round(self._clock.skew_s, 3),
            "processes_up": sum(1 for keeper in keepers if keeper.pid),
            "processes_wanted": sum(1 for keeper in keepers if keeper.wanted == "up"),
        }
        self._globaldb.write_machine(self._ip, ujson.dumps(info), round(time.time(), 3))

    def _fields(self, keeper: Keeper) -> dict[str, object]:
        fields: dict[str, object] = {
            "wanted": keeper.wanted,
            "state": _state(keeper),
            "since": round(keeper.since_at, 3),
            "exit": _exit(keeper),
            "started": round(keeper.started_at, 3) if keeper.pid else 0,
            "incarnation": keeper.incarnation,
            "pid": keeper.pid,
        }
        opening = self._reports.opening(keeper)
        if opening:
            fields["lastupdate"] = opening
        return fields


def _state(keeper: Keeper) -> str:
    return FOREIGN if keeper.foreign else keeper.state


def _exit(keeper: Keeper) -> str:
    """Why it is down; of one that runs, how the last run crashed."""
    if keeper.foreign:
        return keeper.foreign
    if keeper.state in (FATAL, BACKOFF, STOPPING):
        return keeper.reason or keeper.exit
    return keeper.exit or keeper.reason
