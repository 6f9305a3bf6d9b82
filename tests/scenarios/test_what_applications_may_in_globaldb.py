"""Applications get an address of globaldb that is good for their records and nothing else, as docs/security.md says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.scenarios.games import FIRST, game, joined, key
from tests.scenarios.group import ROOT, Group
from tests.waiting import until

RULES = re.search(r"ACL SETUSER (game on .*)", (ROOT / "docs" / "security.md").read_text())


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path, [FIRST])
    try:
        group.configure(
            {"programs": {"game": game()}, "world": {"大区1": {FIRST: [{"type": "game", "name": "game1"}]}}}
        )
        yield group
    finally:
        group.close()


def start(group: Group, told: str) -> None:
    group.start_router()
    group.start_daemon(FIRST, environ={"AGENT_APP_GLOBALDB": told})
    admin = group.admin(FIRST)
    assert admin.operate("start", FIRST)[key("game1")].result == "ok"
    until(lambda: key("game1") in joined(admin), 20, "joined")


def test_a_user_who_may_write_records_is_enough(group: Group) -> None:
    assert RULES
    with group.globaldb.client() as client:
        client.execute_command("ACL", "SETUSER", *RULES[1].split())
    start(group, group.globaldb.url.replace("//", "//game:PASSWORD@"))
    until(lambda: '"players"' in group.record(key("game1")).get("info", ""), 20, "it reports itself")
    with redis.Redis(port=group.globaldb.port, username="game", password="PASSWORD", protocol=2) as stranger:
        for words in (
            ("HGETALL", "user"),
            ("HMSET", "program", "game", "{}"),
            ("HSET", "world", "x", "{}"),
            ("KEYS", "*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                stranger.execute_command(*words)


def test_none_tells_nothing_and_the_daemon_goes_on_reporting(group: Group) -> None:
    start(group, "none")
    until(lambda: group.record(key("game1")).get("state") == "RUNNING", 20, "RUNNING")
    before = group.record(key("game1"))["lastupdate"]
    until(lambda: group.record(key("game1"))["lastupdate"] != before, 20, "the daemon's heartbeat")
    assert "players" not in group.record(key("game1"))["info"]
