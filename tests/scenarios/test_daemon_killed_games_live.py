"""A daemon may die at any moment and no game process notices; the next one knows every one of them again."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from tests.scenarios.group import Group, Role, alive, program, running
from tests.waiting import until

IP = "127.0.0.2"
STEADY, CHATTY, SHORT = (f"大区1.{IP}.{name}" for name in ("steady", "chatty", "short"))

DEATHS: dict[str, Callable[[Role], object]] = {"kill -9": Role.kill, "SIGTERM": Role.stop}


@pytest.fixture(params=DEATHS)
def die(request: pytest.FixtureRequest) -> Callable[[Role], object]:
    return DEATHS[request.param]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder = tmp_path_factory.mktemp("group")
    world = {
        "programs": {
            "steady": program("steady", str(folder / "starts-{name}"), heartbeat_s=0.5),
            "chatty": program("chatty"),
        },
        "world": {
            "大区1": {
                IP: [
                    {"type": "steady", "name": "steady"},
                    {"type": "steady", "name": "short"},
                    {"type": "chatty", "name": "chatty"},
                ]
            }
        },
    }
    with running(folder, [IP], world) as group:
        yield group


@pytest.fixture
def started(group: Group) -> dict[str, int]:
    """All three run: key -> pid."""
    admin = group.admin(IP)
    outcomes = admin.operate("start", IP)
    assert all(outcome.good for outcome in outcomes.values()), outcomes
    admin.close()
    return {key: outcome.pid for key, outcome in outcomes.items()}


def starts(group: Group, key: str) -> list[int]:
    """The pids it had, as each start of it wrote down itself."""
    file = group.folder / f"starts-{key.rpartition('.')[2]}"
    return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_same_pids_go_on_nothing_is_restarted_and_everything_can_be_managed(
    group: Group, started: dict[str, int], die: Callable[[Role], object]
) -> None:
    until(lambda: starts(group, STEADY)[-1:] == [started[STEADY]])
    count = {key: until(lambda key=key: group.record(key).get("startcount")) for key in started}
    before = starts(group, STEADY)

    die(group.daemon(IP))
    since = group.daemon(IP).said
    group.start_daemon(IP)

    assert "adopted 3 running processes" in group.daemon(IP).text()[since:]
    assert {key: group.pids(key) for key in started} == {key: [pid] for key, pid in started.items()}
    assert starts(group, STEADY) == before
    admin = group.admin(IP)
    until(lambda: set(admin.verdicts().values()) == {"RUNNING"})
    assert {key: group.record(key)["startcount"] for key in started} == count
    assert admin.operate("start", IP, "steady")[STEADY].result == "already"
    assert admin.operate("stop", IP, "steady")[STEADY].result == "ok"
    assert not alive(started[STEADY])
    killed = admin.operate("kill", IP, pid=started[CHATTY])
    assert killed[CHATTY].result == "ok", killed
    assert not alive(started[CHATTY])
    again = admin.operate("start", IP, "steady")[STEADY]
    assert again.result == "ok" and again.pid != started[STEADY]


def test_a_game_writes_into_its_log_file_all_the_while(
    group: Group, started: dict[str, int], die: Callable[[Role], object]
) -> None:
    def lines() -> int:
        return group.log_of(CHATTY).read_bytes().count(b"\n")

    die(group.daemon(IP))
    without_daemon = lines()
    until(lambda: lines() > without_daemon + 20)

    group.start_daemon(IP)

    with_the_next_one = lines()
    until(lambda: lines() > with_the_next_one + 20)
    assert alive(started[CHATTY])


def test_an_exit_that_happened_meanwhile_is_noticed(
    group: Group, started: dict[str, int], die: Callable[[Role], object]
) -> None:
    die(group.daemon(IP))
    os.kill(started[SHORT], signal.SIGKILL)
    until(lambda: not alive(started[SHORT]))

    group.start_daemon(IP)

    admin = group.admin(IP)
    until(lambda: admin.verdicts()[SHORT] == "DEAD")
    row = admin.picture()[SHORT]
    assert row["exit"] == "unknown (while the daemon was away)"
    assert (row["pid"], row["wanted"]) == (0, "up")
    assert admin.verdicts()[STEADY] == "RUNNING"


def test_an_exit_under_the_next_daemon_is_noticed_with_its_reason(
    group: Group, started: dict[str, int]
) -> None:
    group.daemon(IP).kill()
    group.start_daemon(IP)
    admin = group.admin(IP)
    until(lambda: admin.verdicts()[SHORT] == "RUNNING")

    os.kill(started[SHORT], signal.SIGSEGV)

    until(lambda: admin.verdicts()[SHORT] == "DEAD")
    assert admin.picture()[SHORT]["exit"] in ("signal SEGV", "unknown (started by an earlier daemon)")


def test_two_deaths_in_a_row_lose_nothing(group: Group, started: dict[str, int]) -> None:
    for _ in range(2):
        group.daemon(IP).kill()
        group.start_daemon(IP, wait=False)
    group.daemon(IP).kill()
    group.start_daemon(IP)

    assert {key: group.pids(key) for key in started} == {key: [pid] for key, pid in started.items()}


def test_a_start_under_way_when_the_daemon_dies_is_finished_by_the_next(tmp_path: Path) -> None:
    slow = program("steady", ready={"spawn": 3}, report="agent", heartbeat_s=0.5)
    world = {"programs": {"slow": slow}, "world": {"大区1": {IP: [{"type": "slow", "name": "slow"}]}}}
    key = f"大区1.{IP}.slow"
    with running(tmp_path, [IP], world) as group:
        admin = group.admin(IP)
        asked = gevent.spawn(admin.operate, "start", IP)
        (pid,) = until(lambda: group.pids(key))
        group.daemon(IP).kill()
        asked.join(5)
        assert "outcome unknown" in str(asked.exception)

        group.start_daemon(IP)

        until(lambda: group.record(key).get("state") == "RUNNING")
        assert group.record(key)["pid"] == str(pid)
        assert group.record(key)["startcount"] == "1"
        assert group.pids(key) == [pid]
