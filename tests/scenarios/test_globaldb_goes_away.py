"""globaldb comes late, goes away, is killed in the middle: everybody goes on, nothing is lost or counted twice."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from agent.errors import Refused
from tests.globaldb_servers import redis_binary, valkey_binary
from tests.scenarios.group import Admin, Group, alive, program
from tests.waiting import until

IP, OTHER = "127.0.0.2", "127.0.0.3"
NAMES = [f"game{number}" for number in range(12)]
KEYS = [f"大区1.{IP}.{name}" for name in NAMES]
BINARIES = {"valkey": valkey_binary, "redis": redis_binary}


def world(folder: Path) -> dict:
    return {
        "programs": {
            # ready when it has surely written down its start
            "game": program("steady", str(folder / "starts-{name}"), ready={"spawn": 0.5}, heartbeat_s=0.5),
            "always": program("steady", restart="always", backoff_s=0.5),
        },
        "world": {
            "大区1": {
                IP: [
                    {"type": "always", "name": "always"},
                    *({"type": "game", "name": name} for name in NAMES),
                ],
                OTHER: [{"type": "game", "name": "far"}],
            }
        },
    }


@pytest.fixture(scope="module", params=BINARIES)
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder = tmp_path_factory.mktemp(request.param)
    group = Group(folder, [IP, OTHER], globaldb_binary=BINARIES[request.param]())
    try:
        group.configure(world(folder))
        group.start()
        yield group
    finally:
        group.close()


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(IP)
    admin.operate("stop", "*")
    yield admin
    admin.close()


def real_starts(group: Group) -> dict[str, int]:
    """Counted by the processes themselves."""
    files = {key: group.folder / f"starts-{key.rpartition('.')[2]}" for key in KEYS}
    return {key: len(file.read_text().splitlines()) if file.exists() else 0 for key, file in files.items()}


def counted_starts(group: Group) -> dict[str, int]:
    return {key: int(group.record(key).get("startcount", 0)) for key in KEYS}


def assert_counted_exactly(group: Group) -> None:
    until(lambda: counted_starts(group) == real_starts(group), 20)
    gevent.sleep(1.5)  # a recorder's turn and more: a count that is too high would come late
    assert counted_starts(group) == real_starts(group)


def test_a_router_that_waits_for_globaldb_ends_in_order_when_told_to(tmp_path: Path) -> None:
    group = Group(tmp_path, [IP])
    try:
        group.globaldb.stop()
        router = group.start_router(wait=False)
        router.wait_for("Connection refused (is it running?")
        assert router.stop() == 0
        assert "router stopped" in router.text()
    finally:
        group.close()


def test_router_and_daemon_that_are_there_first_wait_and_say_so(tmp_path: Path) -> None:
    group = Group(tmp_path, [IP])
    try:
        group.configure({**world(tmp_path), "world": {"大区1": {IP: [{"type": "game", "name": "game0"}]}}})
        group.globaldb.stop()
        router = group.start_router(wait=False)
        daemon = group.start_daemon(IP)
        router.wait_for("Connection refused (is it running?")
        daemon.wait_for("Connection refused (is it running?")
        assert router.child.poll() is None and " serving " not in router.text()

        group.globaldb.start()

        router.wait_for(" serving ")
        router.wait_for(f"machine {IP}: online")
        daemon.wait_for("globaldb is back")
        assert group.admin(IP).operate("start", IP)[KEYS[0]].result == "ok"
    finally:
        group.close()


def test_while_it_is_away_processes_live_and_operators_can_start_and_stop(group: Group, admin: Admin) -> None:
    living = admin.operate("start", IP, "game0,game1")
    admin.operate("start", OTHER)
    group.globaldb.stop()

    started = admin.operate("start", IP, "game2")
    stopped = admin.operate("stop", IP, "game1")
    far = admin.operate("stop", OTHER, "far")
    new = group.admin_command(IP, f"start {IP} game3")  # a login that was there before still works

    assert [o.result for o in (*started.values(), *stopped.values(), *far.values())] == ["ok"] * 3
    assert new.returncode == 0, new
    assert alive(living[KEYS[0]].pid) and not alive(living[KEYS[1]].pid)

    group.globaldb.start()
    wanted = {0: "RUNNING", 1: "STOPPED", 2: "RUNNING", 3: "RUNNING"}
    until(lambda: {n: group.record(KEYS[n]).get("state") for n in wanted} == wanted, 20)
    assert group.record(KEYS[2])["pid"] == str(started[KEYS[2]].pid)
    until(lambda: group.record(f"大区1.{OTHER}.far")["state"] == "STOPPED")
    assert_counted_exactly(group)
    done = [line["what"] for line in group.audit()]
    assert f"start {IP} game2" in done and f"stop {IP} game1" in done  # written late, not lost


def test_killed_in_the_middle_of_starts_it_counts_every_start_once(group: Group, admin: Admin) -> None:
    for pause_s in (0.01, 0.05, 0.15):
        gevent.spawn_later(pause_s, group.globaldb.stop)
        restarted = admin.operate("restart", IP, timeout=30)
        assert {outcome.result for outcome in restarted.values()} == {"ok"}, restarted
        gevent.sleep(0.3)
        group.globaldb.start()

    assert_counted_exactly(group)


def test_starts_of_a_daemon_that_died_while_it_was_away_are_counted_too(group: Group, admin: Admin) -> None:
    group.globaldb.stop()
    assert all(outcome.good for outcome in admin.operate("restart", IP).values())
    group.daemon(IP).kill()
    group.start_daemon(IP)
    group.globaldb.start()

    assert_counted_exactly(group)
    until(lambda: {group.record(key)["state"] for key in KEYS} == {"RUNNING"})


def test_a_daemon_that_starts_while_it_is_away_keeps_its_processes_and_says_what_it_cannot_do(
    group: Group, admin: Admin
) -> None:
    pid = admin.operate("start", IP, "game0")[KEYS[0]].pid
    from_elsewhere = group.admin(OTHER)
    from_elsewhere.picture()
    since = group.roles["router"].said
    group.globaldb.stop()
    group.daemon(IP).kill()

    group.start_daemon(IP)

    group.roles["router"].wait_for(
        f"machine {IP}: online", since
    )  # known machines are admitted all the while
    stopped = from_elsewhere.operate("stop", IP, "game0")[KEYS[0]]
    assert stopped.result == "failed" and "users cannot be read" in stopped.detail, stopped
    assert alive(pid)
    group.globaldb.start()
    until(lambda: from_elsewhere.operate("stop", IP, "game0")[KEYS[0]].result == "ok", 20)
    assert not alive(pid)


def test_what_a_daemon_never_read_is_not_known_rather_than_empty(group: Group, admin: Admin) -> None:
    group.daemon(OTHER).stop()
    group.start_daemon(OTHER)
    fresh = group.admin(OTHER)
    group.globaldb.stop()
    try:
        with pytest.raises(Refused, match=r"is not known to daemon .* yet: globaldb"):
            fresh.operate("stop", IP, "game0")
        assert fresh.operate("stop", OTHER, "far")[f"大区1.{OTHER}.far"].result == "already"
    finally:
        group.globaldb.start()


def test_a_restart_that_falls_into_the_gap_is_made_up_for_when_it_is_back(group: Group, admin: Admin) -> None:
    """A new daemon does not know how to start what it should, and does not give up on it."""
    pid = admin.operate("start", IP, "always")[f"大区1.{IP}.always"].pid
    group.globaldb.stop()
    group.daemon(IP).kill()
    group.start_daemon(IP)
    os.kill(pid, signal.SIGKILL)
    group.daemon(IP).wait_for("is not known yet")

    group.globaldb.start()

    (again,) = until(lambda: group.pids(f"大区1.{IP}.always"), 20)
    assert again != pid


@pytest.mark.parametrize("group", ["valkey"], indirect=True)
def test_one_that_hangs_delays_nobody_for_long(group: Group, admin: Admin) -> None:
    """Stopped with SIGSTOP it takes connections and never answers, whatever its make."""
    group.globaldb.freeze()
    try:
        began = time.monotonic()
        outcome = admin.operate("start", IP, "game5", timeout=30)[KEYS[5]]
        assert outcome.result == "ok", outcome
        assert time.monotonic() - began < 9
    finally:
        group.globaldb.thaw()
    until(lambda: group.record(KEYS[5])["state"] == "RUNNING", 20)
    assert_counted_exactly(group)
