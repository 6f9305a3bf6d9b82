"""The kernel hands pids out again: who has the pid of a process that ended is never signalled."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ujson

from tests.scenarios.group import PROGRAMS, Group, alive, program, running
from tests.waiting import until

IP = "127.0.0.2"
GAME = f"大区1.{IP}.game"
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {"game": program("steady", stop_timeout_s=1, kill_after_stop=True)},
        "world": {"大区1": {IP: [{"type": "game", "name": "game"}]}},
    }
    with running(tmp_path_factory.mktemp("group"), [IP], world) as group:
        yield group


class Stranger:
    """A process of somebody else, leader of its session; writes a line for each TERM it gets."""

    def __init__(self, heard: Path) -> None:
        self._heard = heard
        self._child = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "deaf.py"), "1000", str(heard)],
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        self.pid = self._child.pid

    def wait(self) -> "Stranger":
        assert self._child.stdout and self._child.stdout.readline() == b"deaf\n"
        return self

    @property
    def unharmed(self) -> bool:
        return alive(self.pid) and not self._heard.exists()

    def end(self) -> None:
        self._child.kill()
        self._child.wait()
        assert self._child.stdout
        self._child.stdout.close()


@pytest.fixture
def dead_daemon(group: Group) -> int:
    """The pid of a game that has ended while its daemon was dead."""
    if group.daemon(IP).child.poll() is not None:
        group.start_daemon(IP)
    admin = group.admin(IP)
    pid = admin.operate("start", IP)[GAME].pid
    admin.close()
    group.daemon(IP).kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists())
    return pid


def order_everything(group: Group, pid: int) -> list[str]:
    """What operators may do to a process, with a daemon that is new: start, stop, restart and stop, kill."""
    group.start_daemon(IP)
    admin = group.admin(IP)
    answers = [admin.operate(verb, IP)[GAME].result for verb in ("stop", "start", "restart", "stop")]
    killed = group.admin_command(IP, f"kill {IP} {pid}")
    assert killed.returncode == 1 and "not a process that the agent manages" in killed.stderr, killed
    return answers


def test_a_pid_that_the_kernel_gave_to_a_stranger_is_left_alone(
    group: Group, dead_daemon: int, tmp_path: Path
) -> None:
    stranger = born_with_pid(dead_daemon, tmp_path)
    try:
        assert order_everything(group, dead_daemon) == ["already", "ok", "ok", "ok"]

        assert stranger.unharmed
    finally:
        stranger.end()


@pytest.mark.parametrize("forged", ["pid", "start time", "boot"])
def test_an_identity_that_is_only_nearly_right_is_nobody(
    group: Group, dead_daemon: int, tmp_path: Path, forged: str
) -> None:
    """The journal names a living stranger: by its pid alone, or with a start time one tick off, or of another boot."""
    stranger = Stranger(tmp_path / "heard").wait()
    try:
        ticks = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        rewrite_identity(
            group,
            lambda boot, _pid, old_ticks: {
                "pid": [boot, stranger.pid, old_ticks],
                "start time": [boot, stranger.pid, ticks - 1],
                "boot": ["0f" * 16, stranger.pid, ticks],
            }[forged],
        )

        assert order_everything(group, stranger.pid) == ["already", "ok", "ok", "ok"]

        assert stranger.unharmed
    finally:
        stranger.end()


def born_with_pid(pid: int, folder: Path) -> Stranger:
    """A stranger that the kernel gives exactly this pid."""
    if not os.access(LAST_PID, os.W_OK) or os.geteuid() != 0:
        pytest.skip("only root may choose the next pid")
    for attempt in range(200):  # another process of the host may be quicker
        LAST_PID.write_text(str(pid - 1))
        stranger = Stranger(folder / f"heard-{attempt}")
        if stranger.pid == pid:
            return stranger.wait()
        stranger.end()
    pytest.fail(f"pid {pid} could not be had again")


def rewrite_identity(group: Group, forge) -> None:
    journal = group.folder / f"daemon-{IP}" / "process" / f"{GAME}.jsonl"
    entry = ujson.loads(journal.read_bytes().splitlines()[-1])
    assert entry["identity"] and not entry["ended"], entry
    entry["identity"] = forge(*entry["identity"])
    with journal.open("ab") as file:
        file.write(ujson.dumps(entry, ensure_ascii=False).encode() + b"\n")
