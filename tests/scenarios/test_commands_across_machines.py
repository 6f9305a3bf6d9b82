"""An admin on one machine commands the others: one verdict per target, whatever becomes of each machine."""

import json
import time
from collections.abc import Iterator

import gevent
import psutil
import pytest

from agent import messages
from agent.errors import Refused
from agent.outcome import Outcome
from tests.scenarios.group import Admin, Group, alive, program, running
from tests.waiting import until

MINE, SECOND, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
NAMES = ("gate1", "game1", "game2")


def keys(ip: str) -> set[str]:
    return {f"大区1.{ip}.{name}" for name in NAMES}


EVERYWHERE = keys(SECOND) | keys(THIRD)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    processes = [{"type": "game", "name": name} for name in NAMES]
    world = {
        "programs": {"game": program("steady", heartbeat_s=0.5)},
        "world": {"大区1": {SECOND: processes, THIRD: processes}, "大区2": {MINE: []}},
    }
    with running(tmp_path_factory.mktemp("group"), [MINE, SECOND, THIRD], world) as group:
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(MINE)
    admin.operate("stop", "*")
    yield admin
    admin.close()


def test_all_is_started_and_stopped_on_two_machines_from_a_third(group: Group, admin: Admin) -> None:
    started = group.admin_command(MINE, "start 大区1 all", more=["--yes", "--json"])

    assert started.returncode == 0, started
    outcomes = {row["target"]: row for row in json.loads(started.stdout)["outcomes"]}
    assert outcomes.keys() == EVERYWHERE
    assert {row["result"] for row in outcomes.values()} == {"ok"}
    assert {key: [row["pid"]] for key, row in outcomes.items()} == {key: group.pids(key) for key in outcomes}

    stopped = group.admin_command(MINE, "stop 大区1 all", more=["--yes"])
    assert stopped.returncode == 0 and "6 ok" in stopped.stdout, stopped
    assert not any(group.pids(key) for key in EVERYWHERE)


def test_globs_and_lists_choose_what_is_meant(group: Group, admin: Admin) -> None:
    assert set(admin.operate("start", f"{SECOND},{THIRD}", "game*")) == EVERYWHERE - {
        f"大区1.{ip}.gate1" for ip in (SECOND, THIRD)
    }
    assert set(admin.operate("stop", SECOND, "game1,gate1")) == {
        f"大区1.{SECOND}.game1",
        f"大区1.{SECOND}.gate1",
    }
    assert group.pids(f"大区1.{SECOND}.game2") and not group.pids(f"大区1.{SECOND}.game1")


def test_one_machine_that_cannot_be_reached_keeps_no_other_from_being_done(
    group: Group, admin: Admin
) -> None:
    since = group.roles["router"].said
    group.daemon(THIRD).kill()
    group.roles["router"].wait_for(f"machine {THIRD}: offline", since)
    try:
        done = group.admin_command(MINE, "start all all", more=["--yes", "--json"])

        assert done.returncode == 1, done
        outcomes = {row["target"]: row for row in json.loads(done.stdout)["outcomes"]}
        assert outcomes.keys() == EVERYWHERE
        assert {outcomes[key]["result"] for key in keys(SECOND)} == {"ok"}
        assert {outcomes[key]["result"] for key in keys(THIRD)} == {"failed"}
        assert all(
            f"machine {THIRD} is not connected to the router" in outcomes[key]["detail"]
            for key in keys(THIRD)
        )
    finally:
        group.start_daemon(THIRD)
        group.roles["router"].wait_for(f"machine {THIRD}: online", since)


def test_a_daemon_that_freezes_makes_it_unknown_in_time_and_names_the_machine(
    group: Group, admin: Admin
) -> None:
    group.daemon(THIRD).freeze()
    try:
        began = time.monotonic()
        outcomes = admin.operate("start", "*", timeout=5)
        took_s = time.monotonic() - began
    finally:
        group.daemon(THIRD).thaw()

    assert took_s < 5.5
    assert {outcomes[key].result for key in keys(SECOND)} == {"ok"}
    assert {outcomes[key].result for key in keys(THIRD)} == {"unknown"}
    assert all(f"no reply from {THIRD}" in outcomes[key].detail for key in keys(THIRD)), outcomes
    # unknown, not failed: when it wakes up it does what it was told
    until(lambda: all(group.pids(key) for key in keys(THIRD)))


def test_a_script_ends_with_5_when_something_is_unknown(group: Group, admin: Admin) -> None:
    group.daemon(THIRD).freeze()
    try:
        done = group.admin_command(MINE, "start all all", more=["--yes", "--timeout", "4"])
    finally:
        group.daemon(THIRD).thaw()
    assert done.returncode == 5, done
    assert "3 unknown" in done.stdout and THIRD in done.stdout


def test_progress_comes_target_by_target_before_the_end(group: Group, admin: Admin) -> None:
    admin.notices.clear()
    slow = {
        "programs": {
            "game": program("steady", heartbeat_s=0.5),
            "slow": program("steady", ready={"spawn": 2}),
        },
        "world": {
            "大区1": {
                ip: [*({"type": "game", "name": name} for name in NAMES), {"type": "slow", "name": "slow"}]
                for ip in (SECOND, THIRD)
            },
            "大区2": {MINE: []},
        },
    }
    group.configure(slow)
    asked = gevent.spawn(admin.operate, "start", "*", command="c0ffee")

    def told() -> dict[str, Outcome]:
        finished = [notice for notice in admin.notices if isinstance(notice, messages.TargetFinished)]
        assert all(notice.command == "c0ffee" for notice in finished)
        return {notice.outcome[0]: Outcome(*notice.outcome) for notice in finished}

    until(lambda: told().keys() >= EVERYWHERE)
    assert not asked.ready()  # six are done and said to be; two are on their way
    early = told()
    assert {outcome.result for outcome in early.values()} == {"ok"}
    final = asked.get(timeout=10)
    assert early.items() <= final.items() and told() == final
    admin.operate("stop", "*", "slow")


def test_a_plan_does_nothing(group: Group, admin: Admin) -> None:
    planned = group.admin_command(MINE, "plan start 大区1 all", more=["--json"])

    assert planned.returncode == 0, planned
    document = json.loads(planned.stdout)
    assert document["plan"] and {row["target"] for row in document["outcomes"]} >= EVERYWHERE
    assert not any(group.pids(key) for key in EVERYWHERE)
    assert not any(line["what"].startswith("plan") for line in group.audit())


def test_a_wide_command_wants_to_be_confirmed(group: Group, admin: Admin) -> None:
    unsure = group.admin_command(MINE, "start 大区1 all")

    assert unsure.returncode == 2, unsure
    assert "--yes" in unsure.stderr and "2 machines" in unsure.stderr
    with pytest.raises(Refused, match="confirm it"):  # the daemon itself wants it too
        admin.call(messages.OperateGroup("start", "*", "*", "*"))
    assert not any(group.pids(key) for key in EVERYWHERE)
    narrow = group.admin_command(MINE, f"start {SECOND} all")
    assert narrow.returncode == 0, narrow


def test_kill_by_pid_reaches_the_other_machine_and_that_process_only(group: Group, admin: Admin) -> None:
    pids = {key: outcome.pid for key, outcome in admin.operate("start", SECOND).items()}
    victim = f"大区1.{SECOND}.game2"

    wrong = group.admin_command(MINE, f"kill {THIRD} {pids[victim]}")  # right pid, wrong machine
    assert wrong.returncode == 1 and "is not a process that the agent manages" in wrong.stdout + wrong.stderr
    assert alive(pids[victim])
    killed = group.admin_command(MINE, f"kill {SECOND} {pids[victim]}")

    assert killed.returncode == 0, killed
    assert {key for key, pid in pids.items() if not alive(pid)} == {victim}
    listed = group.admin_command(MINE, f"list {pids[f'大区1.{SECOND}.game1']}")
    assert listed.returncode == 0 and f"大区1.{SECOND}.game1" in listed.stdout


def test_tiers_are_started_one_after_the_other_and_stopped_the_other_way_round(
    group: Group, admin: Admin
) -> None:
    """Over machines too: first what the gates need, last the gates."""
    first, last = f"大区3.{THIRD}.group1", f"大区3.{SECOND}.gate1"
    old = json.loads((group.folder / "world.json").read_text())
    tiers = {
        "groupserver": program("steady", ready={"spawn": 1}, tier=-1),
        "gateserver": program("deaf", "1", ready={"spawn": 0.5}, tier=7),
    }
    places = {
        SECOND: [{"type": "gateserver", "name": "gate1"}],
        THIRD: [{"type": "groupserver", "name": "group1"}],
    }
    group.configure(
        {**old, "programs": {**old["programs"], **tiers}, "world": {**old["world"], "大区3": places}}
    )

    started = admin.operate("start", "*", region="大区3")

    assert {outcome.result for outcome in started.values()} == {"ok"}, started
    born = {key: psutil.Process(outcome.pid).create_time() for key, outcome in started.items()}
    assert born[last] - born[first] > 0.9
    stopped = admin.operate("stop", "*", region="大区3")
    assert {outcome.result for outcome in stopped.values()} == {"ok"}, stopped
    until(lambda: {group.record(key)["state"] for key in (first, last)} == {"STOPPED"})
    assert float(group.record(first)["since"]) >= float(group.record(last)["since"])
    group.configure(old)
