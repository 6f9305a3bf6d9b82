"""drain and restart --when-empty: entry closed, players told, none left, ended; over deaths, never twice."""

import json
from collections.abc import Iterator

import pytest

from tests.scenarios.games import FIRST, SECOND, call, game, key, playing, start, status, task
from tests.scenarios.group import Admin, Group, alive
from tests.waiting import until

PLACES = {FIRST: ["game1", "game2"], SECOND: ["full1"]}
FULL = key("full1", SECOND)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    full = game()
    full["env"] = {"GAME_STAY": "1"}  # its players do not leave by themselves
    with playing(tmp_path_factory.mktemp("group"), {"game": game(), "full": full}, PLACES) as group:
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(FIRST)
    start(group, PLACES)
    for process in (key("game1"), FULL):
        until(
            lambda process=process: '"players"' in group.record(process).get("info", ""),
            15,
            "players reported",
        )
    yield admin
    admin.close()
    group.admin(FIRST).operate("cancel", "*")


def phase(group: Group, process: str) -> str:
    return task(group, process).get("phase", "")


def reaches(group: Group, process: str, *phases: str, timeout: float = 30) -> dict:
    until(
        lambda: phase(group, process) in phases,
        timeout,
        f"{process} reaches {phases}: {task(group, process)}",
    )
    return task(group, process)


def test_a_drain_closes_tells_waits_saves_and_stops(group: Group, admin: Admin) -> None:
    done = group.admin_command(SECOND, 'drain game1 --deadline 5m --notice "维护将在15分钟后开始"')
    assert done.returncode == 0 and "begun (3 players" in done.stdout, done
    again = group.admin_command(SECOND, "drain game1")
    assert again.returncode == 0 and "already" in again.stdout
    ended = reaches(group, key("game1"), "done", "failed")
    assert (ended["phase"], ended["players"]) == ("done", 0), ended
    assert ended["detail"] == "nobody was left; saved, then code 0"
    assert not group.pids(key("game1")) and group.record(key("game1"))["wanted"] == "down"
    told = group.log_of(key("game1")).read_text()
    assert told.count("broadcast: 维护将在15分钟后开始") == 1, told
    shown = group.admin_command(FIRST, "tasks").stdout
    assert "drain" in shown and "nobody was left" in shown


def test_a_drain_can_be_cancelled_and_entry_is_open_again(group: Group, admin: Admin) -> None:
    assert group.admin_command(FIRST, "drain full1").returncode == 0
    until(lambda: status(admin, "full1")["open"] is False, 15, "closed")
    done = group.admin_command(FIRST, "cancel full1")
    assert done.returncode == 0 and "cancelled" in done.stdout, done
    reaches(group, FULL, "cancelled")
    until(lambda: status(admin, "full1")["open"] is True, 15, "open again")
    assert group.admin_command(FIRST, "cancel full1", more=["--json"]).stdout.count('"already"') >= 1


def test_the_deadline_stops_it_with_whoever_is_left(group: Group, admin: Admin) -> None:
    assert group.admin_command(FIRST, "drain full1 --deadline 2s").returncode == 0
    ended = reaches(group, FULL, "done", "failed")
    assert ended["phase"] == "done" and "3 players were still there; saved" in ended["detail"], ended


def test_a_restart_when_empty_waits_for_nobody_and_restarts_once(group: Group, admin: Admin) -> None:
    starts = int(group.record(key("game2"))["startcount"])
    (pid,) = group.pids(key("game2"))
    assert group.admin_command(FIRST, f"restart {FIRST} game2 --when-empty").returncode == 0
    reaches(group, key("game2"), "waiting")
    for player in ("1001", "1002", "1003"):
        assert call(admin, "game2", "kick", player)[key("game2")][0] == "answered"
    ended = reaches(group, key("game2"), "done", "failed")
    assert ended["phase"] == "done" and ended["detail"].startswith("nobody was there; pid "), ended
    assert not alive(pid)
    until(lambda: int(group.record(key("game2"))["startcount"]) == starts + 1, what="startcount")


def test_restart_when_empty_leaves_it_at_the_deadline(group: Group, admin: Admin) -> None:
    (pid,) = group.pids(FULL)
    assert group.admin_command(FIRST, f"restart {SECOND} full1 --when-empty --deadline 1s").returncode == 0
    ended = reaches(group, FULL, "done", "failed")
    assert ended["phase"] == "failed" and "3 players were still there; nothing was done" in ended["detail"]
    assert group.pids(FULL) == [pid] and status(admin, "full1")["open"] is True


@pytest.mark.parametrize("when", ["waiting", "ending"])
def test_daemon_and_router_may_die_and_it_is_done_once(group: Group, admin: Admin, when: str) -> None:
    starts = int(group.record(key("game1"))["startcount"])
    assert group.admin_command(FIRST, f"restart {FIRST} game1 --when-empty").returncode == 0
    reaches(group, key("game1"), "waiting")
    if when == "ending":
        _empty(admin)
        reaches(group, key("game1"), "ending", "done")
    group.daemon(FIRST).kill()
    group.roles["router"].kill()
    group.start_router()
    group.start_daemon(FIRST)
    fresh = group.admin(FIRST)
    start(group, PLACES)
    if when == "waiting":
        _empty(fresh)
    ended = reaches(group, key("game1"), "done", "failed")
    assert ended["phase"] == "done", ended
    until(lambda: int(group.record(key("game1"))["startcount"]) == starts + 1, 15, "started once more")
    assert len(group.pids(key("game1"))) == 1


def _empty(admin: Admin) -> None:
    for player in ("1001", "1002", "1003"):
        until(lambda player=player: call(admin, "game1", "kick", player)[key("game1")][0] in ("answered", "refused"),
              20, "kicked")  # fmt: skip


def test_an_older_copy_of_globaldb_does_not_run_a_task_again(group: Group, admin: Admin) -> None:
    assert group.admin_command(FIRST, "drain game2").returncode == 0
    old = json.dumps(reaches(group, key("game2"), "waiting"))
    reaches(group, key("game2"), "done")
    assert admin.operate("start", FIRST, "game2")[key("game2")].result == "ok"
    (pid,) = group.pids(key("game2"))
    with group.globaldb.client() as client:
        client.hset("task", key("game2"), old)
    group.daemon(FIRST).kill()
    group.start_daemon(FIRST)
    ended = reaches(group, key("game2"), "done")
    assert "before" in ended["detail"] and group.pids(key("game2")) == [pid]


def test_what_cannot_be_drained_is_told_at_once(group: Group, admin: Admin) -> None:
    group.add_user("drainer", "list,stop on *")
    refused = group.admin_command(FIRST, 'drain game1 --notice "x"', user="drainer")
    assert refused.returncode == 4, refused
    assert admin.operate("stop", FIRST, "game1")[key("game1")].result in ("ok", "already")
    failed = group.admin_command(FIRST, "drain game1")
    assert failed.returncode == 1 and "it is STOPPED" in failed.stdout, failed
    assert group.admin_command(FIRST, "drain game1 --deadline soon").returncode == 2
    assert group.admin_command(FIRST, "drain nobody1").returncode == 2
