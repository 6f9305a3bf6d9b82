"""The router dies and comes back: daemons find it again by themselves, and meanwhile say what they could not do."""

from collections.abc import Iterator

import gevent
import pytest

from tests.scenarios.group import Admin, Group, alive, program, running
from tests.waiting import until

HERE, THERE = "127.0.0.2", "127.0.0.3"
NEAR, FAR = f"大区1.{HERE}.game", f"大区1.{THERE}.game"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {
            "game": program("steady", heartbeat_s=0.5),
            "slow": program("deaf", "3", stop_timeout_s=20, ready={"spawn": 0.5}),
        },
        "world": {
            "大区1": {
                HERE: [{"type": "game", "name": "game"}],
                THERE: [{"type": "game", "name": "game"}, {"type": "slow", "name": "saving"}],
            }
        },
    }
    with running(tmp_path_factory.mktemp("group"), [HERE, THERE], world) as group:
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(HERE)
    yield admin
    admin.close()
    if group.roles["router"].child.poll() is not None:
        restart_router(group)


def restart_router(group: Group) -> None:
    """On the same port; back when both daemons have found it."""
    since = group.roles["router"].said
    group.start_router()
    for ip in (HERE, THERE):
        group.roles["router"].wait_for(f"machine {ip}: online", since, timeout=15)


def test_daemons_come_back_by_themselves(group: Group, admin: Admin) -> None:
    pids = {key: outcome.pid for key, outcome in admin.operate("start", "*", "game").items()}
    for _ in range(2):
        group.roles["router"].kill()
        group.daemon(HERE).wait_for("trying again")

        restart_router(group)

        until(lambda: admin.operate("start", THERE, "game")[FAR].result == "already")
    assert {key: group.pids(key) for key in pids} == {key: [pid] for key, pid in pids.items()}


def test_without_it_a_command_for_another_machine_fails_and_says_why_and_that_nothing_was_sent(
    group: Group, admin: Admin
) -> None:
    pid = admin.operate("start", THERE, "game")[FAR].pid
    group.roles["router"].kill()
    until(lambda: admin.operate("stop", HERE, "game")[NEAR].good)

    far = until(lambda: _told_unreachable(admin))

    assert (
        f"router {group.router_address}" in far.detail or f"connect to {group.router_address}" in far.detail
    ), far
    assert f"nothing was sent to {THERE}" in far.detail
    scripted = group.admin_command(HERE, f"stop {THERE} game")
    assert scripted.returncode == 1 and "nothing was sent" in scripted.stdout, scripted
    assert alive(pid)


def _told_unreachable(admin: Admin):
    outcome = admin.operate("stop", THERE, "game")[FAR]
    return outcome if outcome.result == "failed" else None


def test_without_it_a_machine_goes_on_obeying_its_own_admins(group: Group, admin: Admin) -> None:
    group.roles["router"].kill()

    started = admin.operate("start", HERE, "game")
    everywhere = admin.operate("restart", "*", "game")

    assert started[NEAR].good
    assert everywhere[NEAR].result == "ok" and everywhere[FAR].result == "failed", everywhere
    assert admin.operate("stop", HERE, "game")[NEAR].result == "ok"


def test_a_command_under_way_when_it_dies_is_unknown_and_has_its_effect_later(
    group: Group, admin: Admin
) -> None:
    key = f"大区1.{THERE}.saving"
    pid = admin.operate("start", THERE, "saving")[key].pid

    asked = gevent.spawn(admin.operate, "stop", THERE, "saving")
    group.daemon(THERE).wait_for(f"process {key}: running -> stopping")
    group.roles["router"].kill()

    (outcome,) = asked.get(timeout=10).values()
    assert outcome.result == "unknown" and "was lost" in outcome.detail, outcome
    assert alive(pid)
    until(lambda: not alive(pid), 10)
    until(lambda: group.record(key)["state"] == "STOPPED")


def test_one_that_stops_in_order_says_goodbye_and_is_found_again(group: Group, admin: Admin) -> None:
    assert group.roles["router"].stop() == 0

    restart_router(group)

    assert until(lambda: admin.operate("start", THERE, "game")[FAR].good)
