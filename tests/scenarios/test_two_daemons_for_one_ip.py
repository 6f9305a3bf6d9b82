"""Somebody starts a second daemon for a machine: the newest one wins, and everybody hears of it loudly."""

import json
import time
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


KEY = f"大区1.{IP}.game"


def written(group: Group) -> tuple[str, str, str]:
    record = group.record(KEY)
    return record["state"], record["wanted"], record["pid"]


def test_a_second_daemon_that_no_router_admits_spoils_no_record(group: Group) -> None:
    assert group.admin(IP).operate("start", IP)[KEY].good
    before = until(lambda: written(group) if written(group)[0] == "RUNNING" else None)
    since = group.daemon(IP).said

    second = group.start_daemon(
        IP, name="second", listen=f"{IP}:{free_port()}", router=f"127.0.0.1:{free_port()}"
    )
    second.wait_for("nothing is written into globaldb: another daemon")

    assert written(group) == before
    assert "another hand" not in group.daemon(IP).text()[since:]


def test_a_daemon_that_starts_again_without_a_router_waits_for_nobody(group: Group) -> None:
    group.daemon(IP).kill()
    group.roles["router"].kill()
    began = time.monotonic()
    again = group.start_daemon(IP)

    assert group.admin(IP).operate("start", IP)[KEY].good
    until(lambda: group.record(KEY).get("state") == "RUNNING")
    assert time.monotonic() - began < 10
    assert "nothing is written" not in again.text()


def test_what_another_hand_writes_into_a_record_is_put_right(group: Group) -> None:
    assert group.admin(IP).operate("start", IP)[KEY].good
    before = until(lambda: written(group) if written(group)[0] == "RUNNING" else None)

    with group.globaldb.client() as client:
        client.hset(f"process:{KEY}", mapping={"state": "STOPPED", "pid": 0, "wanted": "down"})

    group.daemon(IP).wait_for("another hand wrote into 1 of ours")
    until(lambda: written(group) == before, 5)
    with group.globaldb.client() as client:
        client.delete(f"process:{KEY}")
        client.hdel("process", KEY)
        until(lambda: group.record(KEY).get("state") == "RUNNING" and client.hexists("process", KEY), 10)


def test_a_daemon_that_was_replaced_writes_nothing_until_it_is_admitted_again(group: Group) -> None:
    older = group.daemon(IP)
    assert group.admin(IP).operate("start", IP)[KEY].good
    newer = group.start_daemon(IP, name="second", listen=f"{IP}:{free_port()}")
    older.wait_for("nothing is written into globaldb:")
    with group.globaldb.client() as client:
        client.hset(f"process:{KEY}", "state", "FATAL")
    newer.wait_for("another hand")

    newer.stop()

    older.wait_for(f"this daemon writes those of {IP} now")
    until(lambda: written(group)[0] == "RUNNING", 10)


def test_a_second_daemon_on_the_same_state_folder_does_not_start(group: Group) -> None:
    second = group.start_daemon(IP, wait=False, listen=f"{IP}:{free_port()}")

    assert second.child.wait(15) != 0
    assert "another daemon" in second.text(), second.text()
