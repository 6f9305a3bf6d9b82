"""A pid alone is nobody: who a process is, and that nobody else ever gets its signals."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from roles.daemon import identity as proc
from roles.daemon.identity import Identity
from tests.waiting import until

STAT = (
    b"42 (%s) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 7777 1000000 25 184467 1 1 0 0 0 0 0 0 0 0 0 0"
    b" 17 1 0 0 0 0 0 0 0 0 0 0 0 0 768\n"
)


@pytest.mark.parametrize(
    "name", [b"sleep", b"a b", b")", b"x) R 1 2 (", b"\xff\xfe", b"", b"(((", b"tab\tand\nline"]
)
def test_a_stat_is_read_whatever_the_process_calls_itself(name):
    stat = proc.parse_stat(STAT % name)
    assert stat.name == name.decode(errors="replace")
    assert (stat.pid, stat.state, stat.ppid, stat.session, stat.threads, stat.start_ticks) == (
        42,
        "S",
        1,
        42,
        3,
        7777,
    )
    assert stat.cpu_s == 300 / proc.TICKS_PER_S
    assert stat.rss_bytes == 25 * proc.PAGE_BYTES
    assert stat.exit_status == 768


def test_our_own_stat_is_the_kernels(tmp_path):
    stat = proc.read_stat(os.getpid())
    assert (stat.ppid, stat.session) == (os.getppid(), os.getsid(0))
    assert stat.start_ticks / proc.TICKS_PER_S < float(Path("/proc/uptime").read_text().split()[0])


def test_a_process_is_alive_until_it_ends_and_a_zombie_is_gone(run):
    process = run("steady")
    who = proc.identify(process.pid)
    assert who.alive()
    process.kill()
    until(lambda: not who.alive())
    assert proc.read_stat(process.pid).state == "Z", "not reaped yet, and gone all the same"
    assert not proc.send_signal(who, signal.SIGTERM)
    process.wait()
    assert proc.identify(process.pid) is None


def test_a_leader_whose_other_threads_go_on_is_alive(run):
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit of this thread only
    )
    process = subprocess.Popen(["python3", "-c", script], start_new_session=True)
    try:
        who = proc.identify(process.pid)
        until(lambda: proc.read_stat(process.pid).state == "Z")
        assert who.alive()
        assert proc.send_signal(who, signal.SIGKILL)
        until(lambda: not who.alive())
    finally:
        process.kill()
        process.wait()


def test_a_signal_reaches_its_process(run):
    process = run("steady")
    assert proc.send_signal(proc.identify(process.pid), signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("pidfd", [True, False])
@pytest.mark.parametrize("what", ["start time", "boot"])
def test_a_recycled_pid_is_never_touched(run, monkeypatch, pidfd, what):
    """The pid lives, but it is another's: the identity is of an earlier process, or of an earlier boot."""
    monkeypatch.setattr(proc, "HAS_PIDFD", pidfd and proc.HAS_PIDFD)
    process = run("steady")
    now = proc.identify(process.pid)
    former = (
        now._replace(start_ticks=now.start_ticks - 1) if what == "start time" else now._replace(boot_id="0-0")
    )
    assert not former.alive()
    assert not proc.send_signal(former, signal.SIGKILL)
    assert proc.open_pidfd(former) is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert proc.send_signal(now, signal.SIGKILL), "the guard lets the right one through"


def test_a_pidfd_is_the_process_it_was_opened_for(run):
    process = run("steady")
    handle = proc.open_pidfd(proc.identify(process.pid))
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(handle, 0)
    os.close(handle)


def test_what_never_was_is_nobody():
    assert proc.read_stat(2**22 + 1) is None
    assert proc.identify(2**22 + 1) is None
    assert proc.read_environ(2**22 + 1) == {}
    assert not proc.send_signal(Identity(proc.boot_id(), 2**22 + 1, 1), signal.SIGKILL)


@pytest.mark.parametrize(
    ("name", "number"), [("TERM", 15), ("SIGTERM", 15), ("term", 15), (15, 15), ("9", 9)]
)
def test_a_signal_has_many_spellings(name, number):
    assert proc.signal_number(name) == number
    assert proc.signal_name(number) in ("TERM", "KILL")


@pytest.mark.parametrize("name", ["", "TREM", "0", "-9", "65", "_DFL", "SIG_IGN", "BLOCK"])
def test_what_is_no_signal_is_said(name):
    with pytest.raises(ValueError):
        proc.signal_number(name)
