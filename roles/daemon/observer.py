"""What globaldb's records mean: one row per process with its verdict, one per machine, as this daemon sees them now.

A look costs one read of the records and some microseconds per process; other greenlets get their turn in between.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import gevent
import ujson

from agent import codec
from agent.globaldb import GlobalDb
from agent.process import Process
from agent.verdict import Freshness, Judged, judge
from agent.world import World
from roles.daemon.clock import GroupClock
from roles.daemon.presence import Presence

FIELDS = ("info", "pid", "lastupdate", "startcount", "wanted", "state", "since", "exit", "usage", "started")
TURN = 500  # rows between two turns of the hub
SILENT_AFTER_S = 15.0


class Seen(NamedTuple):
    """`raw` decides whether anything is new; `row` is what travels (messages.PROCESS_COLUMNS, Picture.machines)."""

    raw: tuple[object, ...]
    row: list[Any]


class Observer:
    def __init__(self, globaldb: GlobalDb, clock: GroupClock, presence: Presence) -> None:
        self._globaldb = globaldb
        self._clock = clock
        self._presence = presence
        self._processes = Freshness()
        self._machines = Freshness()

    def machines(self, ips: Sequence[str]) -> dict[str, Seen]:
        """By ip. Raises StoreDown, StoreRefused."""
        records = self._globaldb.read_machines(ips)
        now, group_now = time.monotonic(), self._clock.now()
        seen: dict[str, Seen] = {}
        for ip in ips:
            text, lastupdate = records[ip]
            info = _json(text)
            age_s = self._machines.age_s(ip, _number(lastupdate), now, group_now, _number(info.get("skew_s")))
            online = self._presence.online(ip)
            rival = self._presence.about(ip).get("rival")
            if rival:
                info["rival"] = rival
            seen[ip] = Seen((text, lastupdate, online, rival), [ip, online, age_s, info])
        return seen

    def keep_only(self, keys: Iterable[str], ips: Iterable[str]) -> None:
        """Forget what is configured no more."""
        self._processes.keep_only(keys)
        self._machines.keep_only(ips)

    def processes(
        self, processes: Sequence[Process], world: World, machines: dict[str, Seen]
    ) -> dict[str, Seen]:
        """By key; `machines` are those of `processes`. Raises StoreDown, StoreRefused."""
        records = self._globaldb.read_records([process.key for process in processes], FIELDS)
        now, group_now = time.monotonic(), self._clock.now()
        silent_after = {
            kind: _number(program.get("silent_after_s")) or SILENT_AFTER_S
            for kind, program in world.programs.items()
        }
        skews = {ip: _number(seen.row[3].get("skew_s")) for ip, seen in machines.items()}
        online = {ip: seen.row[1] for ip, seen in machines.items()}
        seen: dict[str, Seen] = {}
        for count, (process, record) in enumerate(zip(processes, records, strict=True)):
            if count % TURN == TURN - 1:
                gevent.sleep(0)
            info, pid, lastupdate, startcount, wanted, state, since, exit_, usage, started = record
            skew_s = skews.get(process.ip)
            age_s = self._processes.age_s(process.key, _number(lastupdate), now, group_now, skew_s)
            limit_s = _number(process.fields.get("silent_after_s")) or silent_after.get(
                process.type, SILENT_AFTER_S
            )
            stale = self._processes.is_stale(process.key, now, limit_s)
            verdict = judge(Judged(state, wanted, exit_, stale, online.get(process.ip)))
            about = _json(info)
            if usage:
                about = {**_json(usage), **about}
            started_at = _number(started) or 0.0
            row = [process.key, verdict, wanted or "", _whole(pid), age_s, _whole(startcount),
                   (_number(since) or 0.0) - (skew_s or 0.0), exit_ or "", about,
                   started_at - (skew_s or 0.0) if started_at else 0.0]  # fmt: skip
            seen[process.key] = Seen((verdict, *record), row)
        return seen


def _json(text: str | None) -> dict[str, Any]:
    """An object that an application may have written; anything else is nothing."""
    if not text:
        return {}
    try:
        value = ujson.loads(text)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    # nested deeper than a reader takes: only then is it worth the walk
    return codec.tame(value) if text.count("{") + text.count("[") > codec.MAX_DEPTH else value


def _number(value: object) -> float | None:
    """Of a text or a JSON value that anybody may have written; what is not finite is none."""
    if value is None:  # the usual case where nothing stands
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int:
    try:
        return int(text or 0)
    except ValueError:
        return 0
