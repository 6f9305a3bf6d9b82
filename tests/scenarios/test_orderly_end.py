"""Each role ends in order when it is told to, within seconds; killed with -9 it leaves nothing behind but the games."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import psutil
import pytest

from agent import messages
from tests.globaldb_servers import free_port
from tests.scenarios.group import Group, Role, alive, program, running
from tests.waiting import until

IP = "127.0.0.2"
GAME, DEAF, SLOW = (f"大区1.{IP}.{name}" for name in ("game", "deaf", "slow"))
WITHIN_S = 6.0


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {
            "game": program("steady", heartbeat_s=0.5),
            "deaf": program("deaf", "4", stop_timeout_s=30),
            "slow": program("steady", ready={"spawn": 20}),
        },
        "world": {"大区1": {IP: [{"type": t, "name": t} for t in ("game", "deaf", "slow")]}},
    }
    with running(tmp_path_factory.mktemp("group"), [IP], world) as group:
        yield group


def end(role: Role, number: int) -> int:
    """The exit code, after at most WITHIN_S."""
    began = time.monotonic()
    role.child.send_signal(number)
    code = role.child.wait(WITHIN_S)
    assert time.monotonic() - began < WITHIN_S
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_daemon_ends_in_order_and_leaves_its_processes_running(group: Group, number: int) -> None:
    admin = group.admin(IP)
    admin.call(messages.WatchPicture(follow=True))
    pid = admin.operate("start", IP, "game")[GAME].pid
    since = group.daemon(IP).said

    assert end(group.daemon(IP), number) == 0

    assert f"daemon: stopping on {signal.Signals(number).name}" in group.daemon(IP).text()[since:]
    assert group.daemon(IP).text().endswith("daemon stopped\n")
    assert "Traceback" not in group.daemon(IP).text()
    assert alive(pid)
    group.roles["router"].wait_for(f"machine {IP}: offline")
    until(lambda: admin.link.closed_why, 2)
    group.start_daemon(IP)
    assert group.pids(GAME) == [pid]


def test_a_daemon_that_ends_in_the_middle_of_a_command_says_so(group: Group) -> None:
    admin = group.admin(IP)
    deaf = admin.operate("start", IP, "deaf")[DEAF].pid
    until(lambda: "deaf" in group.log_of(DEAF).read_text())
    stop = gevent.spawn(admin.operate, "stop", IP, "deaf")
    start = gevent.spawn(admin.operate, "start", IP, "slow")
    (slow,) = until(lambda: group.pids(SLOW))
    group.daemon(IP).wait_for(f"process {DEAF}: running -> stopping")

    assert end(group.daemon(IP), signal.SIGTERM) == 0

    for asked in (stop, start):
        asked.join(5)
        assert asked.ready()
        told = str(asked.exception or asked.value)
        assert "outcome unknown" in told or "the daemon is stopping" in told, told
    assert alive(slow)
    group.start_daemon(IP)
    until(lambda: not alive(deaf), 8)  # it had been asked, and ends when it has saved
    until(lambda: group.record(DEAF)["state"] == "STOPPED")
    assert group.admin(IP).operate("stop", IP, "slow")[SLOW].result == "ok"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_router_ends_in_order(group: Group, number: int) -> None:
    router = group.roles["router"]
    since = router.said

    assert end(router, number) == 0

    assert router.text()[since:].endswith("router stopped\n") and "Traceback" not in router.text()
    group.start_router()
    group.roles["router"].wait_for(f"machine {IP}: online", since)


def test_roles_end_in_order_while_globaldb_is_away(group: Group) -> None:
    group.globaldb.stop()
    try:
        gevent.sleep(1.5)
        assert end(group.daemon(IP), signal.SIGTERM) == 0
        assert end(group.roles["router"], signal.SIGTERM) == 0
    finally:
        group.globaldb.start()
        since = group.roles["router"].said
        group.start_router()
        group.start_daemon(IP)
        group.roles["router"].wait_for(f"machine {IP}: online", since)


def test_globaldb_ends_in_order_and_leaves_nothing_behind_when_killed(group: Group, tmp_path: Path) -> None:
    command = [*group.command, "globaldb", "--dir", str(tmp_path / "data"), "--listen"]
    first = Role([*command, f"127.0.0.1:{free_port()}"], tmp_path / "first.log", group.environ)
    first.wait_for(" serving")
    assert end(first, signal.SIGTERM) == 0

    second = Role([*command, f"127.0.0.1:{free_port()}"], tmp_path / "second.log", group.environ)
    second.wait_for(" serving")
    second.kill()

    until(
        lambda: not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])]
    )


def test_killed_roles_leave_no_process_of_ours(group: Group) -> None:
    admin = group.admin(IP)
    pid = admin.operate("restart", IP, "game")[GAME].pid
    since = group.daemon(IP).said
    script = subprocess.Popen(
        [*group.command, "admin", str(group.daemon_address[IP]), "--user", "ada",
         "--password-file", str(group.password_file()), "-c", f"watch {IP}"],
        env=group.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    group.daemon(IP).wait_for("admin ada", since)
    roles = [group.roles["router"].pid, group.daemon(IP).pid, script.pid]
    ours = {child.pid for role in roles for child in psutil.Process(role).children(recursive=True)}

    script.kill()
    script.wait()
    group.daemon(IP).kill()
    group.roles["router"].kill()

    left = {child for child in ours if alive(child)}
    games = {game for key in (GAME, DEAF, SLOW) for game in group.pids(key)}
    assert left == games and pid in games
    assert group.mine() == games
    group.start_router()
    group.start_daemon(IP)


def test_a_closed_terminal_ends_no_role(group: Group) -> None:
    for role in (group.roles["router"], group.daemon(IP)):
        os.kill(role.pid, signal.SIGHUP)
    assert group.admin(IP).operate("start", IP, "game")[GAME].good
    assert all(role.child.poll() is None for role in (group.roles["router"], group.daemon(IP)))
