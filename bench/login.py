"""An admin logs in to a group of 1,000 machines with 20 processes each; then what each look at the group costs.

One daemon is real. The records of all the others are written by bench.writer, every record once in 5 s as a group's
own daemons do.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from agent import messages
from agent.link import Link
from bench import process, writer
from bench.figure import Figure, alternately, at_most, side_by_side
from bench.group import command
from roles.daemon.gallery import TICK_S
from tests.scenarios.group import Admin, Group

OWN_IP = "127.0.0.2"
FOLLOWERS = 20
AT = re.compile(rb'\["picture.changed",{"at":([0-9.]+)')


def pictured(folder: Path, quick: bool) -> list[Figure]:
    machines, runs, watch_s = (10, 1, 4.5) if quick else (1000, 7, 30.0)
    folder.mkdir(exist_ok=True)
    of = f"{machines:,} machines × {writer.PROCESSES} processes"
    with one_daemon(folder, machines) as group, reading(folder, group, machines) as read:
        read()
        first = [picture(group)]
        heard: list[int] = []
        mine, floors = alternately(runs, lambda: picture(group, heard), lambda: read()[0])
        peer = "pipelined read of the records, redis-py + hiredis"
        bounds = {"reach": at_most(3), "aim": at_most(1.5)}
        figures = [
            side_by_side(f"login to {of}: the full picture", "s", mine, peer, floors, **bounds),
            side_by_side(f"login to {of}: the first one after the daemon's start", "s", first, peer, floors),
            Figure(f"login to {of}: sent", "MB", heard[-1] / 1e6, "", None),
        ]
        with refreshed(folder, group, machines):
            admins: list[Admin] = []
            for followers in (0, 1, FOLLOWERS):
                while len(admins) < followers:
                    admins.append(follower(group))
                floors = [read()[1] * 1000 for _ in range(runs)]
                cpu_ms = tick_ms(group, admins, watch_s)
                floors += [read()[1] * 1000 for _ in range(runs)]
                what = f"CPU of the daemon per tick of {of}, {followers} admins follow"
                figures.append(
                    side_by_side(
                        what, "ms", [cpu_ms] * len(floors), peer, floors, **(bounds if followers else {})
                    )
                )
    return figures


@contextmanager
def one_daemon(folder: Path, machines: int) -> Iterator[Group]:
    group = Group(folder, [OWN_IP], command())
    try:
        program = {"command": ["/bin/true"]}
        world: dict[str, dict[str, Any]] = {}
        for region, ip, processes in writer.places(machines, OWN_IP):
            world.setdefault(region, {})[ip] = processes
        group.configure({"programs": {"game": program}, "world": world})
        with group.globaldb.client() as client:
            for part in writer.parts(writer.places(machines, OWN_IP)):
                writer.write(client, part)
        group.start()
        yield group
    finally:
        group.close()


@contextmanager
def reading(folder: Path, group: Group, machines: int) -> Iterator[Callable[[], list[float]]]:
    """Seconds of one read of everything: by the clock, of CPU time."""
    command = [sys.executable, "-m", "bench.reader", json.dumps([group.globaldb.port, machines, OWN_IP])]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process.running(command, folder / "reader.log", cwd=process.ROOT, **pipes) as child:

        def read() -> list[float]:
            child.stdin.write(b"\n")
            child.stdin.flush()
            return [float(word) for word in child.stdout.readline().split()]

        yield read


def picture(group: Group, heard: list[int] | None = None) -> float:
    """Seconds from the end of the login to the picture, decoded."""
    admin = group.admin(OWN_IP)
    count = counting(admin.link)
    began = time.perf_counter()
    begun = admin.call(messages.WatchPicture(), 60)
    took_s = time.perf_counter() - began
    rows = sum(len(notice.processes) for notice in admin.notices)
    if rows != begun.processes:
        raise RuntimeError(f"{rows} rows came, {begun.processes} were announced")
    admin.close()
    admin.notices.clear()  # some 100,000 objects that our own collections would walk over from then on
    if heard is not None:
        heard.append(count())
    return took_s


def counting(link: Link) -> Callable[[], int]:
    """How many bytes the link has taken."""
    taken = 0
    consume = link.consume

    def counted(data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        consume(data)

    link.consume = counted  # type: ignore[method-assign]
    return lambda: taken


def follower(group: Group) -> Admin:
    """An admin that takes what it is sent and does not look at it: its own work is not what is measured."""
    admin = group.admin(OWN_IP)
    admin.call(messages.WatchPicture(follow=True), 60)
    at: set[bytes] = set()
    admin.ticks = at  # type: ignore[attr-defined]

    def consume(data: bytes) -> None:
        at.update(AT.findall(data))

    admin.link.consume = consume  # type: ignore[method-assign]
    return admin


def tick_ms(group: Group, admins: list[Admin], watch_s: float) -> float:
    """CPU of the daemon per tick; without admins there is none, and what is told is its CPU per TICK_S."""
    pid = group.roles[f"daemon-{OWN_IP}"].pid
    gevent.sleep(2 * TICK_S)
    for admin in admins:
        admin.ticks.clear()  # type: ignore[attr-defined]
    before, began = process.cpu_s(pid), time.monotonic()
    gevent.sleep(watch_s)
    used_s, passed_s = process.cpu_s(pid) - before, time.monotonic() - began
    # all frames of a tick tell the same time
    ticks = max((len(admin.ticks) for admin in admins), default=0)  # type: ignore[attr-defined]
    return 1000 * used_s / (ticks or passed_s / TICK_S)


@contextmanager
def refreshed(folder: Path, group: Group, machines: int) -> Iterator[None]:
    """Every record written anew every 5 s."""
    order = json.dumps([group.globaldb.port, machines, OWN_IP])
    command = [sys.executable, "-m", "bench.writer", order]
    with process.running(command, folder / "writer.log", cwd=process.ROOT):
        yield
