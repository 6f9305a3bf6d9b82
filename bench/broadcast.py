"""One GM command to the applications of 20 daemons at once, until the last has answered: wall time, and CPU time."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from agent import codec, messages, wire
from bench import process
from bench.figure import Figure, alternately, side_by_side
from bench.gm import call, order
from bench.group import REGION, SLEEP, SLEEP_S, command, pids
from bench.player import TELL, TEXT, playing
from tests.scenarios.group import USER, Admin, Group, running

DAEMONS, EACH = 20, 50
START_S = 180.0
SETTLE_S = 0.3  # after the answers: the audit is written behind them
IDLE_S = 10.0


def told(folder: Path, quick: bool) -> list[Figure]:
    daemons, each, runs, idle_s = (2, 3, 1, 0.5) if quick else (DAEMONS, EACH, 11, IDLE_S)
    folder.mkdir(exist_ok=True)
    count = daemons * each
    with of_applications(folder, daemons, each) as (group, games), bare(folder, count) as floor:
        admin = group.admin(group.ips[0])
        with playing(folder, "broadcast", pids=games):
            ours = by_us(group, admin, count, idle_s)
            ours(), floor()
            found: list[list[Any]] = alternately(runs, ours, floor)
    what = f"broadcast to {count:,} applications on {daemons} daemons"
    peer = f"a bare epoll program and {count:,} sockets"
    mine, bares = ([list(values) for values in zip(*runs_of, strict=True)] for runs_of in found)
    return [
        side_by_side(f"{what}, until the last has answered", "ms", mine[0], peer, bares[0]),
        side_by_side(f"{what}: CPU of the daemons and the router", "ms", mine[1], peer, bares[1]),
        side_by_side(f"{what}: CPU of the daemon asked", "ms", mine[2], peer, bares[1]),
    ]


@contextmanager
def of_applications(folder: Path, daemons: int, each: int) -> Iterator[tuple[Group, list[int]]]:
    """The group, and the pids of all the processes that a player may speak for."""
    ips = [f"127.0.0.{number + 2}" for number in range(daemons)]
    program = {"command": [SLEEP, SLEEP_S], "ready": {"spawn": 0}, "report": "agent"}
    processes = [{"type": "game", "name": f"game{number + 1}"} for number in range(each)]
    document = {"programs": {"game": program}, "world": {REGION: dict.fromkeys(ips, processes)}}
    with running(folder, ips, document, command=command()) as group:
        admin = group.admin(ips[0])
        outcomes = admin.operate("start", "*", timeout=START_S)
        if bad := [outcome for outcome in outcomes.values() if outcome.result != "ok"]:
            raise RuntimeError(f"start: {bad[:3]}")
        yield group, pids(admin, daemons * each)


def by_us(group: Group, admin: Admin, count: int, idle_s: float) -> Callable[[], Any]:
    """Milliseconds of one broadcast: by the clock, of CPU time of all roles, of CPU time of the daemon asked.

    CPU time that they use with nothing to do, in as long a time, does not count.
    """
    roles = [*(group.daemon(ip).pid for ip in group.ips), group.roles["router"].pid]
    idle = [s / idle_s for s in used_s(roles, lambda: gevent.sleep(idle_s))]

    def run() -> Any:
        began, took_s = time.perf_counter(), 0.0

        def broadcast() -> None:
            nonlocal took_s
            call(admin, order("*", "*", "game"), count)
            took_s = time.perf_counter() - began
            gevent.sleep(SETTLE_S)

        used = used_s(roles, broadcast)
        passed_s = time.perf_counter() - began
        own = [1000 * (s - rate * passed_s) for s, rate in zip(used, idle, strict=True)]
        return 1000 * took_s, sum(own), own[0]

    return run


def used_s(pids: Sequence[int], action: Callable[[], object]) -> list[float]:
    """CPU seconds of each of them meanwhile."""
    before = [process.cpu_s(pid) for pid in pids]
    action()
    return [process.cpu_s(pid) - was for pid, was in zip(pids, before, strict=True)]


@contextmanager
def bare(folder: Path, count: int) -> Iterator[Callable[[], Any]]:
    """The floor: milliseconds of one broadcast by the clock, and of CPU time of the program that sends it."""
    asked = messages.ExecuteGm("bench-1", str(TELL["name"]), {"text": TEXT}, USER, False)
    size = len(wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(asked, 20.0)))
    words = [sys.executable, "-m", "bench.crier", str(count), str(size)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        process.running(words, folder / "crier.log", cwd=process.ROOT, **pipes) as child,
        playing(folder, "bare", port=int(child.stdout.readline()), count=count),
    ):

        def run() -> Any:
            child.stdin.write(b"\n")
            child.stdin.flush()
            wall_s, cpu_s = map(float, child.stdout.readline().split())
            return 1000 * wall_s, 1000 * cpu_s

        yield run
