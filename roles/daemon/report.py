"""Reporting for processes that do not do it themselves: their heartbeat, from the pid, its state and a probe of a port.

    report: agent   we refresh `lastupdate` and `info`, as long as the pid lives, is not stopped, and serves its port
    report: auto    the same, until `lastupdate` changes by another hand: from then on it is as with `self`
    report: self    the application does; its silence counts; we only add `usage`

`startcount`, `wanted`, `state` and the like are the recorder's. What we write carries this machine's clock.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ujson

from roles.daemon import probe
from roles.daemon.identity import TICKS_PER_S, ProcStat
from roles.daemon.keeper import Keeper


@dataclass(slots=True)
class _Beat:
    """What we remember of one incarnation between two heartbeats."""

    incarnation: str
    due: float = 0.0  # monotonic
    written: str | None = None  # our last `lastupdate`; None: we have not looked yet
    seen: str | None = None  # what stood there at our first look
    looked: bool = False
    by_itself: bool = False
    cpu_ticks: int = 0
    measured: float = 0.0


class Reports:
    """Which records are due and what to write into them; `Recorder` does the writing."""

    def __init__(self) -> None:
        self._beats: dict[str, _Beat] = {}

    def due(self, keepers: Iterable[Keeper]) -> list[Keeper]:
        """Those with a living pid whose heartbeat has come."""
        now = time.monotonic()
        return [keeper for keeper in keepers if keeper.pid and self._beat(keeper).due <= now]

    def fields(
        self, keepers: list[Keeper], lastupdates: Mapping[str, str | None]
    ) -> dict[str, dict[str, Any]]:
        """What to write for each of the due ones; `lastupdates` is what stands in globaldb now."""
        now = time.monotonic()
        usages: dict[str, str] = {}
        ours: list[Keeper] = []
        records: dict[str, dict[str, Any]] = {}
        for keeper in keepers:
            beat, stat = self._beat(keeper), _stat(keeper)
            beat.due = now + keeper.spec.heartbeat_s
            if stat is None:
                continue
            usage = usages[keeper.key] = ujson.dumps(self._usage(beat, stat, now))
            if self._reports_itself(keeper, beat, lastupdates.get(keeper.key)):
                records[keeper.key] = {"usage": usage}
            elif keeper.spec.report == "auto" and not beat.looked:
                beat.looked = (
                    True  # written by the application, or by the daemon before us: the next look tells
                )
                beat.due = now + min(1.0, keeper.spec.heartbeat_s)
            elif not stat.stopped:
                ours.append(keeper)
        serving = probe.serving({keeper.key: _target(keeper) for keeper in ours if keeper.spec.probe})
        for keeper in ours:
            if serving.get(keeper.key, True):
                beat = self._beat(keeper)
                beat.written = f"{time.time():.3f}"
                records[keeper.key] = {
                    "lastupdate": beat.written,
                    "pid": keeper.pid,
                    "info": usages[keeper.key],
                }
        return records

    def opening(self, keeper: Keeper) -> str | None:
        """The first `lastupdate` of a run that has just begun, written together with its state; None later."""
        beat = self._beat(keeper)
        fresh = time.time() - keeper.started_at < keeper.spec.heartbeat_s
        if not keeper.pid or beat.looked or not fresh or keeper.spec.report == "self":
            return None
        beat.looked = True
        beat.written = f"{time.time():.3f}"
        return beat.written

    def in_doubt(self, keys: Iterable[str]) -> None:
        """A write of ours failed, and what stands there may be older than it: it must not be taken for another's."""
        for key in keys:
            beat = self._beats.get(key)
            if beat is not None and not beat.by_itself:
                beat.looked, beat.due = False, 0.0

    def by_itself(self, keeper: Keeper) -> bool:
        """Whether the application may write its `pid`, which may be another than the one we know."""
        return keeper.spec.report == "self" or self._beat(keeper).by_itself

    def forget(self, key: str) -> None:
        self._beats.pop(key, None)

    def _beat(self, keeper: Keeper) -> _Beat:
        beat = self._beats.get(keeper.key)
        if beat is None or beat.incarnation != keeper.incarnation:
            beat = self._beats[keeper.key] = _Beat(keeper.incarnation)
        return beat

    def _reports_itself(self, keeper: Keeper, beat: _Beat, lastupdate: str | None) -> bool:
        mode = keeper.spec.report
        if mode == "agent":
            return False
        if not beat.looked:
            beat.seen = lastupdate
        elif lastupdate not in (None, beat.seen, beat.written) and not beat.by_itself:
            beat.by_itself = True
            keeper.reported()
        if mode == "self":
            beat.looked = True
            return True
        return beat.by_itself

    def _usage(self, beat: _Beat, stat: ProcStat, now: float) -> dict[str, float | int]:
        ticks = stat.utime_ticks + stat.stime_ticks
        passed_s = now - beat.measured
        cpu = (
            100.0 * (ticks - beat.cpu_ticks) / TICKS_PER_S / passed_s
            if beat.measured and passed_s > 0
            else 0.0
        )
        beat.cpu_ticks, beat.measured = ticks, now
        return {"cpu": round(max(0.0, cpu), 1), "rss": stat.rss_bytes, "threads": stat.threads}


def _stat(keeper: Keeper) -> ProcStat | None:
    return keeper.identity.stat() if keeper.identity else None


def _target(keeper: Keeper) -> probe.Target:
    wanted = keeper.spec.probe or {}
    return probe.Target(keeper.entry.host, wanted["port"], wanted.get("protocol", keeper.spec.protocol))
