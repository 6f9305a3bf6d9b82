"""A command inside a session: admin → daemon A → router → daemon B and back, beside the same path of bare sockets."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gevent import socket

from agent import codec, messages, wire
from bench import process
from bench.figure import Figure, alternately, at_most, side_by_side
from bench.group import REGION, TYPED_ON, WORKS, keys, of_sleeps
from tests.globaldb_servers import free_port

HOPS = 3  # daemon A, router, daemon B


def commanded(folder: Path, quick: bool) -> list[Figure]:
    runs, calls = (1, 20) if quick else (9, 500)
    folder.mkdir(exist_ok=True)
    (key,) = keys(1)
    describe = messages.DescribeProcess(key)
    start = messages.OperateGroup("start", REGION, WORKS, "sleep1")
    with of_sleeps(folder, 1) as group, bare_path(folder, HOPS) as sock:
        admin = group.admin(TYPED_ON)
        admin.call(start)
        size = len(wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(start, 20.0)))
        bare = lambda: timed(calls, lambda: there_and_back(sock, size))  # noqa: E731
        who = messages.ReadSessions(everywhere=True)
        measures = [lambda: timed(calls, lambda: admin.call(who)),
                    lambda: timed(calls, lambda: admin.call(start)),
                    lambda: timed(calls, lambda: admin.call(describe)), bare]  # fmt: skip
        for measure in measures:
            measure()
        found: list[list[Any]] = alternately(runs, *measures)
    floor = bare_hops(HOPS)
    return [
        side_by_side(f"command round trip, {what}, {percentile}", "ms", [run[at] for run in mine], floor,
                     [run[at] for run in found[-1]], reach=at_most(4), aim=at_most(2))
        for what, mine in zip(("who", "start of what runs", "describe a process"), found, strict=False)
        for at, percentile in enumerate(("p50", "p99"))
    ]  # fmt: skip


def timed(calls: int, call: Callable[[], object]) -> Any:
    """(p50, p99) in milliseconds."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), sorted(took)[max(0, round(len(took) * 0.99) - 1)]


def bare_hops(hops: int) -> str:
    return f"the same path of {hops} bare gevent programs"


@contextmanager
def bare_path(folder: Path, hops: int) -> Iterator[Any]:
    """A socket whose bytes go through so many programs and come back the same way."""
    ports = [free_port() for _ in range(hops)]
    with ExitStack() as stack:
        for at in reversed(range(hops)):
            words = [str(port) for port in ports[at : at + 2]]
            command = [sys.executable, "-m", "bench.hop", *words]
            stack.enter_context(process.running(command, folder / f"hop{hops}-{at}.log", cwd=process.ROOT))
            process.wait_for_port(ports[at])
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", ports[0])))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def there_and_back(sock: Any, size: int) -> None:
    sock.sendall(b"x" * size)
    left = size
    while left:
        left -= len(sock.recv(left))
