"""An admin gets everything at login, then what changes; globaldb is read once per tick for all of them, or never."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from agent import messages
from tests.scenarios.group import PASSWORD, USER, Admin, Group, program, running
from tests.waiting import until

IP, OTHER = "127.0.0.2", "127.0.0.3"
GAME = f"大区1.{IP}.game1"
MANY = [f"seat{number}" for number in range(2000)]  # configured, never started: rows without processes
TICK_S = 2.0


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {"game": program("steady", heartbeat_s=3600, silent_after_s=7200)},
        "regions": {"大区1": {"title": "first"}},
        "world": {
            "大区1": {IP: [{"type": "game", "name": "game1", "port": 0, "color": "blue"}]},
            "大区2": {OTHER: [{"type": "game", "name": "game2"}]},
        },
    }
    with running(tmp_path_factory.mktemp("group"), [IP, OTHER], world) as group:
        yield group


class Watcher(Admin):
    """Follows the picture; `hold` keeps it from reading its socket, as a frozen terminal does."""

    def __init__(self, group: Group, ip: str = IP, user: str = USER) -> None:
        super().__init__(group.daemon_address[ip], user, PASSWORD)
        self.reading = Event()
        self.reading.set()
        consume = self.link.consume

        def read_when_let(data: bytes) -> None:
            self.reading.wait()
            consume(data)

        self.link.consume = read_when_let  # type: ignore[method-assign]
        group._admins.append(self)

    def narrow(self) -> None:
        """A receive buffer that does not grow, as on a slow line."""
        self.link._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)

    def follow(self) -> messages.PictureBegun:
        return self.call(messages.WatchPicture(follow=True))

    def told(self) -> list[messages.PictureChanged]:
        return [notice for notice in self.notices if isinstance(notice, messages.PictureChanged)]

    def rows(self) -> dict[str, dict[str, Any]]:
        """What a receiver that adds up the notices knows."""
        known: dict[str, dict[str, Any]] = {}
        for change in self.told():
            if change.reset:
                known = {}
            for row in change.processes:
                known[row[0]] = dict(zip(messages.PROCESS_COLUMNS, row, strict=True))
        return known


def test_at_login_everything_comes_before_the_answer(group: Group) -> None:
    watcher = Watcher(group)

    begun = watcher.follow()

    assert (begun.processes, begun.problems) == (2, [])
    told = watcher.told()
    assert told[0].reset
    assert {region: told[0].regions[region] for region in ("大区1", "大区2")} == {
        "大区1": {"title": "first"},
        "大区2": {},
    }
    world = {(region, ip): processes for change in told for region, ip, processes in change.world}
    assert world["大区1", IP][0] == {"type": "game", "name": "game1", "port": 0, "color": "blue"}
    machines = {row[0]: row for change in told for row in change.machines}
    assert machines.keys() == {IP, OTHER} and all(row[1] is True for row in machines.values())
    assert "load1" in machines[OTHER][3] and "mem_total" in machines[OTHER][3]
    assert watcher.rows().keys() == {GAME, f"大区2.{OTHER}.game2"}
    watcher.close()


def test_what_changes_is_pushed_within_a_tick_and_nothing_else(group: Group) -> None:
    watcher, admin = Watcher(group), group.admin(OTHER)
    watcher.follow()
    before = len(watcher.told())
    pid = admin.operate("start", IP)[GAME].pid

    until(lambda: watcher.rows()[GAME]["pid"] == pid, TICK_S * 2 + 1)

    pushed = [row[0] for change in watcher.told()[before:] for row in change.processes]
    assert set(pushed) == {GAME}  # not what stayed as it was
    assert not any(change.reset or change.world for change in watcher.told()[before:])
    admin.operate("stop", IP)
    until(lambda: watcher.rows()[GAME]["verdict"] == "STOPPED", TICK_S * 2 + 1)
    watcher.close()


def test_a_change_of_the_world_is_pushed_as_a_whole_new_picture(group: Group) -> None:
    watcher = Watcher(group)
    watcher.follow()
    path = group.folder / "world.json"
    old = path.read_text()
    new = json.loads(old)
    new["world"]["大区2"][OTHER].append({"type": "game", "name": "new"})
    group.configure(new)
    try:
        until(lambda: f"大区2.{OTHER}.new" in watcher.rows(), TICK_S * 2 + 1)
    finally:
        group.configure(json.loads(old))
    until(lambda: f"大区2.{OTHER}.new" not in watcher.rows(), TICK_S * 2 + 1)
    watcher.close()


def reads(group: Group) -> dict[str, int]:
    """How often globaldb was asked what pictures ask for; the daemons' own work asks little of it here."""
    with group.globaldb.client() as client:
        stats = client.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hgetall", "hmget")}


def reads_during(group: Group, seconds: float) -> dict[str, int]:
    before = reads(group)
    gevent.sleep(seconds)
    return {name: count - before[name] for name, count in reads(group).items()}


def test_globaldb_is_read_once_per_tick_however_many_look_and_not_at_all_for_nobody(group: Group) -> None:
    ticks = 2
    nobody = reads_during(group, ticks * TICK_S)
    first = Watcher(group)
    first.follow()
    one = reads_during(group, ticks * TICK_S)
    others = [Watcher(group) for _ in range(9)]
    for other in others:
        other.follow()
    ten = reads_during(group, ticks * TICK_S)
    for watcher in (first, *others):
        watcher.close()
    nobody_again = reads_during(group, ticks * TICK_S)

    # both daemons look after their own configuration: one HGETALL of `program` each 2 s
    # and after its own records: two passes at most in this time, over two processes in all
    own = 2 * 2
    assert nobody["hmget"] <= own
    assert nobody_again["hmget"] <= own  # one tick that nobody looks at would be as many again
    assert abs(nobody["hgetall"] - nobody_again["hgetall"]) <= 2
    per_tick = 2 + 2  # records of two processes, of two machines
    assert per_tick * (ticks - 1) <= one["hmget"] <= per_tick * (ticks + 1) + own, one
    assert abs(ten["hmget"] - one["hmget"]) <= per_tick + own, (one, ten)
    assert abs(ten["hgetall"] - one["hgetall"]) <= 8, (one, ten)


def test_who_does_not_read_gets_the_newest_picture_and_no_backlog_and_delays_nobody(group: Group) -> None:
    """With records as large as applications make them, so that what changes at first fills every buffer on the way."""
    world = json.loads((group.folder / "world.json").read_text())
    seats = [{"type": "game", "name": name} for name in MANY]
    group.configure({**world, "world": {**world["world"], "大区3": {OTHER: seats}}})
    slow, quick = Watcher(group), Watcher(group)
    slow.narrow()
    try:
        slow.follow()
        quick.follow()
        slow.notices.clear()
        slow.reading.clear()
        longest, rounds = 0.0, 4
        for number in range(1, rounds + 1):
            some = MANY if number == 1 else MANY[:50]
            write_records(group, number, some)
            began = time.monotonic()
            until(lambda number=number, some=some: rounds_of(quick, some) == {number}, 15)
            longest = max(longest, time.monotonic() - began)
        assert longest < 4 * TICK_S, f"the quick admin had to wait {longest:.1f} s"

        slow.reading.set()

        until(lambda: rounds_of(slow, MANY[:50]) == {rounds} and rounds_of(slow, MANY[50:]) == {1}, 15)
        seen = {row[8].get("round") for change in slow.told() for row in change.processes}
        assert not seen & set(range(2, rounds)), f"of {seen} only the first and the last are no backlog"
    finally:
        group.configure(world)
        slow.close()
        quick.close()


def write_records(group: Group, number: int, seats: list[str]) -> None:
    """A round of reports of so many applications, 4 KB each."""
    with group.globaldb.client() as client:
        pipeline = client.pipeline(transaction=False)
        for name in seats:
            info = f'{{"round": {number}, "map": "{name * 500}"}}'
            pipeline.hset(f"process:大区3.{OTHER}.{name}", mapping={"info": info, "lastupdate": time.time()})
        pipeline.execute()


def rounds_of(watcher: Watcher, seats: list[str]) -> set[int]:
    """The rounds that the picture which this admin has now is from; none while it is coming."""
    rows = watcher.rows()
    found = [row for name in seats if (row := rows.get(f"大区3.{OTHER}.{name}"))]
    return {row["info"].get("round", 0) for row in found} if len(found) == len(seats) else set()
