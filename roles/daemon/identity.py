"""Who a process is: boot id + pid + start time, straight from /proc; and the only way a signal leaves us.

A pid alone is nobody: the kernel hands it out again. So every signal is sent like this, and not otherwise:

    open a pidfd for the pid  ->  read /proc/PID/stat and compare  ->  pidfd_send_signal
    (from here on the fd        (so the fd is that very process,      (a process that ended meanwhile
     is one process)             or we leave it alone)                 gives ESRCH, never a stranger)

On a kernel without pidfd (before 5.3) the comparison comes right before os.kill: a window of microseconds.
A zombie counts as gone.
"""

import os
import signal
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

HAS_PIDFD = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcStat(NamedTuple):
    """What /proc/PID/stat says, the fields we use."""

    pid: int
    name: str
    state: str  # R S D T t Z X ...
    ppid: int
    group: int
    session: int
    utime_ticks: int
    stime_ticks: int
    threads: int
    start_ticks: int
    rss_bytes: int
    exit_status: int  # of a zombie, as wait(2) has it; 0 where we may not look

    @property
    def gone(self) -> bool:
        """A zombie. Not one: a leader that called pthread_exit while its other threads go on."""
        return self.state in "XZ" and self.threads <= 1

    @property
    def stopped(self) -> bool:
        """By SIGSTOP, or by a debugger."""
        return self.state in "Tt"

    @property
    def cpu_s(self) -> float:
        return (self.utime_ticks + self.stime_ticks) / TICKS_PER_S


def parse_stat(data: bytes) -> ProcStat:
    """The name stands in parentheses and may hold anything, `)` and spaces too: the last `)` ends it."""
    pid, _, rest = data.partition(b" (")
    name, _, tail = rest.rpartition(b") ")
    field = tail.split()  # field[0] is the 3rd field of proc(5)
    return ProcStat(
        pid=int(pid),
        name=name.decode(errors="replace"),
        state=field[0].decode(),
        ppid=int(field[1]),
        group=int(field[2]),
        session=int(field[3]),
        utime_ticks=int(field[11]),
        stime_ticks=int(field[12]),
        threads=int(field[17]),
        start_ticks=int(field[19]),
        rss_bytes=int(field[21]) * PAGE_BYTES,
        exit_status=int(field[49]) if len(field) > 49 else 0,
    )


def _read(path: str, most: int = 65536) -> bytes | None:
    """A small file of /proc, or None where the process is gone or not ours to read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(handle, most)
    except OSError:
        return None
    finally:
        os.close(handle)


def read_stat(pid: int) -> ProcStat | None:
    """None if there is no such process; a zombie has a stat (`.gone`)."""
    data = _read(f"/proc/{pid}/stat", 4096)
    return parse_stat(data) if data else None


def read_environ(pid: int) -> dict[str, str]:
    """What the process was given at its start; {} where it is gone or not ours to read."""
    data = bytearray()
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            while chunk := file.read(131072):
                data += chunk
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in bytes(data).split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def read_uids(pid: int) -> set[int]:
    """Real, effective, saved and file system user; {-1} where it is gone. (Who owns /proc/PID may say otherwise.)"""
    for line in (_read(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"Uid:"):
            return {int(uid) for uid in line.split()[1:]}
    return {-1}


def pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


@lru_cache(maxsize=1)
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Identity(NamedTuple):
    """One process of one boot of this host; never another one that got its pid later."""

    boot_id: str
    pid: int
    start_ticks: int

    def stat(self) -> ProcStat | None:
        """Its present stat; None when it is gone (zombies too) or the pid is another's now."""
        if self.boot_id != boot_id():
            return None
        stat = read_stat(self.pid)
        if stat is None or stat.gone or stat.start_ticks != self.start_ticks:
            return None
        return stat

    def alive(self) -> bool:
        return self.stat() is not None

    def age_s(self) -> float:
        """Since its start, as the kernel has it: no change of the clock matters. Of a process of this boot."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / TICKS_PER_S)


def identify(pid: int) -> Identity | None:
    """Who has this pid now, zombies too (a child of ours that ended at once keeps its pid till we reap it)."""
    stat = read_stat(pid)
    return Identity(boot_id(), pid, stat.start_ticks) if stat else None


def open_pidfd(identity: Identity) -> int | None:
    """A descriptor of exactly this process, readable when it ends; None if it is gone. Raises OSError (EMFILE)."""
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identity.alive():
        return handle
    os.close(handle)
    return None


def send_signal(identity: Identity, number: int) -> bool:
    """True if this process was alive and has the signal now; PermissionError where it is not ours to signal."""
    if not HAS_PIDFD:
        return _send_signal_unpinned(identity, number)
    handle = open_pidfd(identity)
    if handle is None:
        return False
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _send_signal_unpinned(identity: Identity, number: int) -> bool:
    if not identity.alive():
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True


def signal_number(name: str | int) -> int:
    """15 for "TERM", "SIGTERM" and 15; ValueError for what is none."""
    text = str(name).strip().upper()
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    number = getattr(signal, text if text.startswith("SIG") else f"SIG{text}", None)
    if not isinstance(number, signal.Signals):
        raise ValueError(f'"{name}" is no signal')
    return int(number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)
