"""An admin logs in to a group of 1,000 machines with 20 processes each; then what each look at the group costs.

One daemon is real. The records of all the others are written by bench.writer, every record once in 5 s as a group's
own daemons do.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import redis

from agent import messages
from agent.link import Link
from bench import process, writer
from bench.figure import Figure, alternately, at_most, side_by_side
from bench.group import command
from roles.daemon.gallery import TICK_S
from roles.daemon.observer import FIELDS
from tests.scenarios.group import Admin, Group

OWN_IP = "127.0.0.2"
FOLLOWERS = 20
CHUNK = 500
AT = re.compile(rb'\["picture.changed",{"at":([0-9.]+)')


def pictured(folder: Path, quick: bool) -> list[Figure]:
    machines, runs, watch_s = (10, 1, 4.5) if quick else (1000, 7, 30.0)
    folder.mkdir(exist_ok=True)
    places = writer.places(machines, OWN_IP)
    of = f"{machines:,} machines × {writer.PROCESSES} processes"
    with one_daemon(folder, machines) as group, group.globaldb.client() as client:
        read = lambda: read_all(client, places)  # noqa: E731
        first = [picture(group)]
        heard: list[int] = []
        mine, floors = alternately(
            runs, lambda: picture(group, heard), lambda: spent(time.perf_counter, read)
        )
        peer = "pipelined read of the records, redis-py + hiredis"
        bounds = {"reach": at_most(3), "aim": at_most(1.5)}
        figures = [
            side_by_side(f"login to {of}: the full picture", "s", mine, peer, floors, **bounds),
            side_by_side(f"login to {of}: the first one after the daemon's start", "s", first, peer, floors),
            Figure(f"login to {of}: sent", "MB", heard[-1] / 1e6, "", None),
        ]
        with refreshed(folder, group, machines):
            floors = [spent(time.process_time, read) * 1000 for _ in range(runs)]
            admins: list[Admin] = []
            for followers in (0, 1, FOLLOWERS):
                while len(admins) < followers:
                    admins.append(follower(group))
                cpu_ms = tick_ms(group, admins, watch_s)
                what = f"CPU of the daemon per tick of {of}, {followers} admins follow"
                figures.append(
                    side_by_side(what, "ms", [cpu_ms] * runs, peer, floors, **(bounds if followers else {}))
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


def spent(clock: Callable[[], float], what: Callable[[], object]) -> float:
    began = clock()
    what()
    return clock() - began


def read_all(client: redis.Redis, places: list[writer.Place]) -> None:
    """The same records and fields, as anybody would read them who has nothing else to do."""
    keys = [
        f"process:{region}.{ip}.{process['name']}"
        for region, ip, processes in places
        for process in processes
    ]
    for at in range(0, len(keys), CHUNK):
        pipeline = client.pipeline(transaction=False)
        for key in keys[at : at + CHUNK]:
            pipeline.hmget(key, *FIELDS)
        pipeline.execute()
    pipeline = client.pipeline(transaction=False)
    for _region, ip, _processes in places:
        pipeline.hmget(f"machine:{ip}", "info", "lastupdate")
    pipeline.execute()


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
