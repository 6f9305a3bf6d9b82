"""Every verdict about a process has a name, and is true though daemons die, processes hang and clocks are wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios.group import PROGRAMS, Admin, Group, alive, program
from tests.waiting import until

HERE, THERE = "127.0.0.2", "127.0.0.3"
TAKEN_PORT = 47123
QUICK = {"heartbeat_s": 0.5, "silent_after_s": 2.5}
LIBFAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def key(name: str, ip: str = THERE) -> str:
    return f"大区1.{ip}.{name}"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    group = Group(tmp_path_factory.mktemp("group"), [HERE, THERE])
    reporter = program("reporter", str(group.globaldb.port), "0.3", **QUICK)
    world = {
        "programs": {
            "agent": program("steady", report="agent", **QUICK),
            "auto": program("steady", **QUICK),
            "self": {**reporter, "report": "self", "ready": {"report": True}},
            "selfmade": {**reporter, "command": [*reporter["command"], "late"]},
            "crashy": program("crashy", "0.5", "SEGV", **QUICK),
            "leaving": program("crashy", "0.5", "0", **QUICK),
            "port": program("port_server", str(TAKEN_PORT), ready={"port": TAKEN_PORT}, **QUICK),
        },
        "world": {
            "大区1": {
                HERE: [{"type": "agent", "name": "agent"}],
                THERE: [
                    *({"type": t, "name": t} for t in ("agent", "auto", "self", "selfmade")),
                    *({"type": t, "name": t} for t in ("crashy", "leaving")),
                    {"type": "port", "name": "port", "port": TAKEN_PORT},
                ],
            }
        },
    }
    try:
        group.configure(world)
        group.start()
        yield group
    finally:
        group.close()


LIVING = ("agent", "auto", "self", "selfmade")


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    """At the other machine's daemon, so that everything seen is seen through globaldb."""
    admin = group.admin(HERE)
    outcomes = admin.operate("start", THERE, ",".join(LIVING))
    assert all(outcome.good for outcome in outcomes.values()), outcomes
    until_verdicts(admin, dict.fromkeys(LIVING, "RUNNING"))
    yield admin
    admin.close()


def until_verdicts(admin: Admin, wanted: dict[str, str], timeout: float = 12) -> None:
    seen: dict[str, str] = {}

    def so() -> bool:
        found = admin.verdicts()
        seen.update({name: found[key(name)] for name in wanted})
        return seen == wanted

    try:
        until(so, timeout)
    except AssertionError:
        raise AssertionError(f"wanted {wanted}, got {seen}") from None


def holds(admin: Admin, wanted: dict[str, str], seconds: float) -> None:
    """At every look for so long."""
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: {name: admin.verdicts()[key(name)] for name in wanted} != wanted, seconds)


@pytest.mark.parametrize("name", LIVING)
def test_a_hung_process_is_silent_and_runs_again_when_it_goes_on(
    group: Group, admin: Admin, name: str
) -> None:
    pid = admin.picture()[key(name)]["pid"]
    if name == "selfmade":  # from its first own report on it is its own silence that counts
        until(lambda: admin.picture()[key(name)]["info"].get("players"))
    os.kill(pid, signal.SIGSTOP)
    try:
        until_verdicts(admin, {name: "SILENT"})
        row = admin.picture()[key(name)]
        assert row["pid"] == pid and row["age_s"] > QUICK["silent_after_s"]
    finally:
        os.kill(pid, signal.SIGCONT)

    until_verdicts(admin, {name: "RUNNING"})
    assert admin.picture()[key(name)]["pid"] == pid


def test_without_its_daemon_who_reports_himself_runs_and_the_others_are_lost(
    group: Group, admin: Admin
) -> None:
    until(lambda: admin.picture()[key("selfmade")]["info"].get("players"))
    pids = {name: admin.picture()[key(name)]["pid"] for name in LIVING}
    group.daemon(THERE).kill()

    after = {"agent": "LOST", "auto": "LOST", "self": "RUNNING", "selfmade": "RUNNING"}
    until_verdicts(admin, after)
    holds(admin, after, 3)
    assert all(alive(pid) for pid in pids.values())
    machines = json.loads(group.admin_command(HERE, "list machine", more=["--json"]).stdout)["machines"]
    assert {machine["ip"]: machine["online"] for machine in machines} == {HERE: True, THERE: False}

    group.start_daemon(THERE)
    until_verdicts(admin, dict.fromkeys(LIVING, "RUNNING"))
    assert {name: admin.picture()[key(name)]["pid"] for name in LIVING} == pids


def test_an_end_has_its_reason(group: Group, admin: Admin) -> None:
    admin.operate("start", THERE, "crashy,leaving")
    until_verdicts(admin, {"crashy": "DEAD", "leaving": "EXITED"})
    picture = admin.picture()
    assert picture[key("crashy")]["exit"] == "signal SEGV"
    assert picture[key("leaving")]["exit"] == "code 0"
    assert picture[key("crashy")]["wanted"] == "up"


def test_a_stranger_on_its_port_makes_it_foreign_until_he_leaves(group: Group, admin: Admin) -> None:
    stranger = subprocess.Popen([sys.executable, str(PROGRAMS / "port_server.py"), str(TAKEN_PORT)])
    try:
        until(lambda: _answers(TAKEN_PORT))
        refused = admin.operate("start", THERE, "port")[key("port")]
        assert refused.result == "failed", refused
        assert f"port {TAKEN_PORT} is taken by pid {stranger.pid}" in refused.detail
        assert "which the agent did not start" in refused.detail
        until_verdicts(admin, {"port": "FOREIGN"})
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    until_verdicts(admin, {"port": "FATAL"})
    assert f"port {TAKEN_PORT} is taken by" in admin.picture()[key("port")]["exit"]
    assert admin.operate("start", THERE, "port")[key("port")].result == "ok"
    until_verdicts(admin, {"port": "RUNNING"})
    assert admin.operate("stop", THERE, "port")[key("port")].result == "ok"


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


@pytest.mark.skipif(not LIBFAKETIME, reason="libfaketime is not installed (apt-get install libfaketime)")
@pytest.mark.parametrize("minutes", [10, -10])
def test_a_clock_that_is_ten_minutes_off_does_no_harm(group: Group, admin: Admin, minutes: int) -> None:
    """The clock of the whole machine: of its daemon, and of the applications that it starts."""
    admin.operate("stop", THERE)
    group.daemon(THERE).stop()
    wrong = {
        "LD_PRELOAD": str(LIBFAKETIME[0]),
        "FAKETIME": f"{minutes * 60:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    group.start_daemon(THERE, environ=wrong)
    try:
        started = until(lambda: _all_good(admin.operate("start", THERE, ",".join(LIVING))))
        until_verdicts(admin, dict.fromkeys(LIVING, "RUNNING"))
        lastupdate = float(group.record(key("self"))["lastupdate"])
        assert abs(lastupdate - time.time() - minutes * 60) < 60  # the clock is wrong indeed
        holds(admin, dict.fromkeys(LIVING, "RUNNING"), 4)
        row = admin.picture()[key("agent")]
        assert row["age_s"] < 3 and abs(row["since_at"] - time.time()) < 30
        way = "ahead" if minutes > 0 else "behind"
        until(lambda: f"clock 10m {way}" in _listed(group) or f"clock 10m00s {way}" in _listed(group))

        seen_from_there = group.admin(THERE).verdicts()
        assert {seen_from_there[key(name)] for name in LIVING} == {"RUNNING"}

        os.kill(started[key("agent")].pid, signal.SIGSTOP)
        until_verdicts(admin, {"agent": "SILENT"})
        os.kill(started[key("agent")].pid, signal.SIGCONT)

        group.daemon(THERE).kill()
        until_verdicts(admin, {"agent": "LOST", "auto": "LOST", "self": "RUNNING"})
        group.daemon(HERE).stop()  # and so sees it one who comes later and has no history of it
        group.start_daemon(HERE)
        later = group.admin(HERE)
        until(lambda: later.verdicts()[key("agent")] == "LOST", 6)
        assert later.verdicts()[key("self")] == "RUNNING"
    finally:
        group.daemon(THERE).kill()
        group.start_daemon(THERE)


def _all_good(outcomes: dict) -> dict | None:
    return outcomes if all(outcome.good for outcome in outcomes.values()) else None


def _listed(group: Group) -> str:
    return group.admin_command(HERE, "list machine").stdout
