"""Somebody starts a second daemon for a machine: the newest one wins, and everybody hears of it loudly."""

import json
from collections.abc import Iterator

import pytest

from tests.globaldb_servers import free_port
from tests.scenarios.group import Group, program, running
from tests.waiting import until

IP, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def group(tmp_path) -> Iterator[Group]:
    world = {
        "programs": {"game": program("steady", heartbeat_s=0.5)},
        "world": {"大区1": {ip: [{"type": "game", "name": "game"}] for ip in (IP, OTHER)}},
    }
    with running(tmp_path, [IP, OTHER], world) as group:
        yield group


def test_the_newest_wins_and_the_older_one_is_reported_by_router_daemon_and_admin(group: Group) -> None:
    router, older = group.roles["router"], group.daemon(IP)
    told = older.said

    newer = group.start_daemon(IP, name="second", listen=f"{IP}:{free_port()}")

    router.wait_for("TWO DAEMONS")
    assert "was replaced by the one from" in router.text()
    older.wait_for("replaced by a newer connection", told)
    older.wait_for(f"a newer daemon for {IP} is connected from", told)
    assert "refused" not in newer.text()

    def note() -> str:
        listed = group.admin_command(OTHER, "list machine", more=["--json"])
        (machine,) = (machine for machine in json.loads(listed.stdout)["machines"] if machine["ip"] == IP)
        return machine["rival"]

    until(note, 10, "the rival in list machine")
    assert note().startswith(f"{IP}:")
    assert "TWO DAEMONS claim this ip" in group.admin_command(OTHER, "list machine").stdout


def test_the_older_one_takes_over_again_when_the_newer_one_has_gone(group: Group) -> None:
    router, older = group.roles["router"], group.daemon(IP)
    newer = group.start_daemon(IP, name="second", listen=f"{IP}:{free_port()}")
    router.wait_for("TWO DAEMONS")
    since = router.said

    newer.stop()

    router.wait_for(f"machine {IP}: online", since)
    assert older.child.poll() is None
    assert until(lambda: group.admin(OTHER).operate("start", IP)[f"大区1.{IP}.game"].good)


def test_a_second_daemon_on_the_same_state_folder_does_not_start(group: Group) -> None:
    second = group.start_daemon(IP, wait=False, listen=f"{IP}:{free_port()}")

    assert second.child.wait(15) != 0
    assert "another daemon" in second.text(), second.text()
