"""The example server in every implementation, started by a real daemon: reports, GM, events, saved stop, drain."""

from collections.abc import Iterator

import pytest

from agent.messages import ReadEvents, TargetProgressed
from tests.scenarios.games import FIRST, call, joined, key, status, task
from tests.scenarios.group import Admin, Group, running
from tests.sdk.servers import IMPLEMENTATIONS
from tests.waiting import until

# one name per implementation; a name has no dot
NAMES = {each.name.replace(".", "").replace("+", "p"): each for each in IMPLEMENTATIONS}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    programs = {
        name: {
            "command": each.build(tmp_path_factory.mktemp("built")),
            "ready": {"report": True},
            "report": "self",
            "heartbeat_s": 0.5,
            "silent_after_s": 10,
        }
        for name, each in NAMES.items()
    }
    machines = {FIRST: [{"type": name, "name": name} for name in NAMES]}
    document = {"programs": programs, "world": {"大区1": machines}}
    with running(tmp_path_factory.mktemp("group"), [FIRST], document) as group:
        outcomes = group.admin(FIRST).operate("start", FIRST, timeout=60)
        assert {outcome.result for outcome in outcomes.values()} == {"ok"}, "ready is: it has reported itself"
        yield group


@pytest.fixture(scope="module")
def admin(group: Group) -> Admin:
    admin = group.admin(FIRST)
    until(lambda: len(joined(admin)) == len(NAMES), 30, "all have joined")
    return admin


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_its_record_is_its_own(group: Group, admin: Admin, name: str) -> None:
    until(
        lambda: '"players": 3' in (info := group.record(key(name)).get("info", "")) or '"players":3' in info,
        20,
        "info",
    )
    assert int(group.record(key(name))["pid"]) in group.pids(key(name))
    assert group.record(key(name))["startcount"] == "1"


def test_arguments_of_every_type_come_and_go(admin: Admin, name: str) -> None:
    words = (
        "-9007199254740993",
        '剑 "长"\\',
        "--count=3",
        "--rate",
        "0.1",
        "--silent",
        "--extra",
        '{"a":[1,null,"é"]}',
    )
    given = call(admin, name, "give", *words)[key(name)]
    assert given == ["answered", {"player": -9007199254740993, "item": '剑 "长"\\', "count": 3, "rate": 0.1,
                                  "silent": True, "extra": {"a": [1, None, "é"]}}, ""]  # fmt: skip


def test_refusals_late_answers_and_ids(admin: Admin, name: str) -> None:
    assert call(admin, name, "kick", "7")[key(name)] == ["refused", None, "no player 7"]
    before = status(admin, name)["executed"]
    assert call(admin, name, "slow", "0.3", id=f"slow-{name}")[key(name)][:2] == ["answered", {"slept": 0.3}]
    assert call(admin, name, "slow", "0.3", id=f"slow-{name}")[key(name)][:2] == ["answered", {"slept": 0.3}]
    assert status(admin, name)["executed"] == before + 1


def test_events_are_kept(group: Group, admin: Admin, name: str) -> None:
    assert call(admin, name, "kick", "1002", "cheating")[key(name)][0] == "answered"

    def kept() -> list:
        return [row[2:] for row in admin.call(ReadEvents(name=name)).events]

    until(lambda: ["player_left", {"player": 1002}] in kept(), 20, "kept")
    assert ["server_started", {"map": "plains"}] in kept()


def test_a_stop_is_a_saved_one_and_a_restart_too(group: Group, admin: Admin) -> None:
    admin.notices.clear()
    restarted = admin.operate("restart", FIRST, timeout=50, command="c1")
    assert {name: restarted[key(name)].result for name in NAMES} == dict.fromkeys(NAMES, "ok"), restarted
    said = [notice for notice in admin.notices if isinstance(notice, TargetProgressed)]
    assert {key(name) for name in NAMES} == {notice.target for notice in said if "/5" in notice.text}
    until(lambda: len(joined(admin)) == len(NAMES), 30, "joined again")


def test_all_are_drained(group: Group, admin: Admin) -> None:
    assert group.admin_command(FIRST, f"drain {FIRST} all --notice bye").returncode == 0
    until(
        lambda: all(task(group, key(name)).get("phase") in ("done", "failed") for name in NAMES),
        50,
        "all done",
    )
    for name in NAMES:
        ended = task(group, key(name))
        assert ended["phase"] == "done" and ended["detail"].startswith("nobody was left; saved, then "), ended
        assert not group.pids(key(name))
        assert "broadcast: bye" in group.log_of(key(name)).read_text(), name
