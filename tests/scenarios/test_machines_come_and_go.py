"""Machines and processes are added to the world, changed and removed: nobody is restarted for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Refused
from agent.messages import DescribeProcess
from tests.scenarios.group import Group, alive, program
from tests.waiting import until

FIRST, SECOND, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def world(*ips: str, names: tuple[str, ...] = ("game",), **more: Any) -> dict[str, Any]:
    processes = [{"type": "game", "name": name} for name in names]
    return {
        "programs": {"game": program("steady", heartbeat_s=0.5, **more)},
        "world": {"大区1": dict.fromkeys(ips, processes)},
    }


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    group = Group(tmp_path_factory.mktemp("group"), [FIRST, SECOND, STRANGER])
    try:
        group.configure(world(FIRST))
        group.start_router()
        group.start_daemon(FIRST)
        yield group
    finally:
        group.close()


def test_a_machine_that_is_added_is_admitted_without_a_restart_and_let_go_when_it_is_removed(
    group: Group,
) -> None:
    router = group.roles["router"]
    group.start_daemon(SECOND)
    group.daemon(SECOND).wait_for("refused")
    router.wait_for(f"daemon '{SECOND}' from")
    admin = group.admin(FIRST)
    with pytest.raises(Refused, match=f"no machine {SECOND}"):
        admin.operate("start", SECOND)

    group.configure(world(FIRST, SECOND))

    router.wait_for(f"machine {SECOND}: online")
    far = f"大区1.{SECOND}.game"
    started = until(lambda: _good(admin.operate("start", SECOND)))[far]

    since = router.said
    group.configure(world(FIRST), "--remove-running")

    router.wait_for(f"machine {SECOND}: no longer in the world, let go", since)
    group.daemon(SECOND).wait_for("no longer in the world")
    assert alive(started.pid)  # nobody asked to stop it
    group.configure(world(FIRST, SECOND))
    router.wait_for(f"machine {SECOND}: online", since)
    until(lambda: admin.operate("start", SECOND)[far].result == "already")
    assert group.pids(far) == [started.pid]


def _good(outcomes: dict) -> dict | None:
    return outcomes if all(outcome.good for outcome in outcomes.values()) else None


def test_a_daemon_whose_ip_is_in_no_world_is_refused_says_so_and_goes_on_trying(group: Group) -> None:
    stranger = group.start_daemon(STRANGER)

    stranger.wait_for("login refused: wrong name or credentials; trying on")
    refusals = f"daemon '{STRANGER}' from {STRANGER}"
    router = group.roles["router"]
    until(lambda: router.text().count(refusals) >= 3, 15)
    assert "no machine of the world has this ip" in router.text()
    assert f"machine {STRANGER}: online" not in router.text()
    assert stranger.child.poll() is None
    assert stranger.text().count("login refused") == 1  # once, not at every try
    stranger.stop()


def test_processes_added_and_removed_are_taken_up(group: Group) -> None:
    admin = group.admin(FIRST)
    group.configure(world(FIRST, SECOND, names=("game", "second")))
    assert f"大区1.{FIRST}.second" in admin.picture()
    assert admin.operate("start", FIRST, "second")[f"大区1.{FIRST}.second"].result == "ok"
    assert admin.operate("stop", FIRST, "second")[f"大区1.{FIRST}.second"].result == "ok"

    group.configure(world(FIRST, SECOND))

    with pytest.raises(Refused, match="no process second on"):
        admin.operate("start", FIRST, "second")
    group.daemon(FIRST).wait_for(f"process 大区1.{FIRST}.second: no longer configured, forgotten")
    assert f"大区1.{FIRST}.second" not in admin.picture()


def test_a_changed_launch_touches_nothing_that_runs_and_counts_from_the_next_start_on(
    group: Group, tmp_path: Path
) -> None:
    key = f"大区1.{FIRST}.game"
    admin = group.admin(FIRST)
    pid = admin.operate("start", FIRST, "game")[key].pid

    def told() -> dict[str, Any]:
        return admin.call(DescribeProcess(key)).facts

    assert told()["configuration"] == "as at its start"
    group.configure(world(FIRST, SECOND, cwd=str(tmp_path)))

    until(lambda: "has changed since its start" in told()["configuration"])
    assert told()["pid"] == pid and alive(pid)

    again = admin.operate("restart", FIRST, "game")[key]
    assert again.result == "ok" and again.pid != pid
    assert Path(f"/proc/{again.pid}/cwd").resolve() == tmp_path
    assert told()["configuration"] == "as at its start"
    group.configure(world(FIRST, SECOND))


def test_a_running_process_that_is_removed_can_still_be_stopped_on_its_machine(group: Group) -> None:
    key = f"大区1.{FIRST}.second"
    group.configure(world(FIRST, SECOND, names=("game", "second")))
    admin = group.admin(FIRST)
    pid = admin.operate("start", FIRST, "second")[key].pid
    path = group.folder / "without.json"
    path.write_text((group.folder / "world.json").read_text().replace('"second"', '"third"'))
    refused = group.run("world", "import", str(path), check=False)
    assert refused.returncode == 1 and f"REMOVES {key}" in refused.stderr  # one is told, and asked

    group.configure(world(FIRST, SECOND), "--remove-running")

    until(
        lambda: "is no longer configured" in admin.call(DescribeProcess(key)).facts.get("configuration", "")
    )
    assert alive(pid)
    with pytest.raises(Refused, match="no process second on"):
        group.admin(SECOND).operate("start", FIRST, "second")
    stopped = admin.operate("stop", FIRST, "second")
    assert stopped[key].result == "ok", stopped
    assert not alive(pid)
    group.daemon(FIRST).wait_for(f"process {key}: no longer configured, forgotten")
