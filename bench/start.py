"""200 processes started on another machine, until globaldb says that all of them run."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import redis

from bench import peer, process, supervisord
from bench.figure import Figure, alternately, at_least, at_most, side_by_side
from bench.group import SLEEP, SLEEP_S, TYPED_ON, WORKS, keys, of_sleeps
from tests.scenarios.group import Admin
from tests.waiting import until

SLEEPS = 200
POLL_S = 0.005


def started(folder: Path, quick: bool) -> list[Figure]:
    sleeps, runs = (5, 1) if quick else (SLEEPS, 7)
    folder.mkdir(exist_ok=True)
    with of_sleeps(folder, sleeps) as group, group.globaldb.client() as client:
        admin = group.admin(TYPED_ON)
        ours = by_us(admin, client, keys(sleeps))
        floor = lambda: bare(sleeps)  # noqa: E731
        ours(), floor()
        if peer.supervisor():
            with supervisord.running(folder, sleeps) as other:
                mine, bares, theirs = alternately(runs, ours, floor, lambda: by_supervisord(other))
        else:
            (mine, bares), theirs = alternately(runs, ours, floor), []
    what = f"start {sleeps} processes elsewhere, all RUNNING in globaldb"
    speed_up = [1 / s for s in mine], [1 / s for s in theirs]
    return [
        side_by_side(what, "s", mine, f"bare posix_spawn ×{sleeps}", bares, reach=at_most(3), aim=at_most(1.5)),
        side_by_side(f"{what} (speed)", "/s", speed_up[0], "supervisorctl start all", speed_up[1],
                     reach=at_least(3)),
    ]  # fmt: skip


def by_us(admin: Admin, client: redis.Redis, keys: list[str]) -> Callable[[], float]:
    """Seconds from the command to the last record that says RUNNING with its startcount raised; then all stopped."""
    counted = 0

    def run() -> float:
        nonlocal counted
        counted += 1
        began = time.perf_counter()
        asked = gevent.spawn(admin.operate, "start", WORKS)
        # looked at one by one, in the order of their start, so that our looking costs the machine next to nothing
        waiting = keys[::-1]
        while waiting:
            if client.hmget(f"process:{waiting[-1]}", "state", "startcount") == ["RUNNING", str(counted)]:
                waiting.pop()
                continue
            gevent.sleep(POLL_S)
            if asked.ready() and time.perf_counter() - began > 20:
                raise RuntimeError(f"not all are RUNNING: {asked.get()}")
        took_s = time.perf_counter() - began
        if bad := [outcome for outcome in asked.get().values() if outcome.result != "ok"]:
            raise RuntimeError(f"start: {bad}")
        admin.operate("stop", WORKS)
        return took_s

    return run


def bare(sleeps: int) -> float:
    """The floor: nothing but the processes."""
    environ = process.environment()
    began = time.perf_counter()
    pids = [os.posix_spawn(SLEEP, [SLEEP, SLEEP_S], environ, setsid=True) for _ in range(sleeps)]
    took_s = time.perf_counter() - began
    process.end_pids(pids)
    for pid in pids:
        os.waitpid(pid, 0)
    return took_s


def by_supervisord(other: supervisord.Supervisord) -> float:
    took_s = other.control("start", "all")
    other.control("stop", "all")
    until(lambda: not process.children(other.pid), what="supervisord's processes gone")
    return took_s
