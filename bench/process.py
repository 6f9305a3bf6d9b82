"""What the kernel says about processes, and ending those we started."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent
MB = 1024 * 1024


def cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process, children not counted, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


class Memory(NamedTuple):
    """MB. `rss` counts shared pages in full, `pss` by share, `uss` is what ending the process would give back."""

    rss: float
    pss: float
    uss: float


def memory(pid: int) -> Memory:
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, number, *_ = line.split()
        fields[name.rstrip(":")] = int(number) * 1024
    own = fields["Private_Clean"] + fields["Private_Dirty"]
    return Memory(fields["Rss"] / MB, fields["Pss"] / MB, own / MB)


def children(pid: int) -> list[int]:
    """Direct ones, of all threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [deeper for child in found for deeper in descendants(child)]


def raise_file_limit() -> None:
    """As many sockets as this process may have at all."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def environment(**more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        **more,
    }


@contextmanager
def running(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None, **more: object
) -> Iterator[subprocess.Popen]:
    """A program of ours or a peer's, gone at the end."""
    with open(log, "ab") as file:
        options: dict = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, **more}
        child = subprocess.Popen(command, env=dict(environ or environment()), **options)
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen) -> None:
    """TERM, and KILL for who does not go."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdin, child.stdout):
        if stream:
            stream.close()


def end_pids(pids: Sequence[int]) -> None:
    """KILL, of processes that we know to be ours."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_for_port(port: int, host: str = "127.0.0.1") -> None:
    import socket

    def open_() -> bool:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            return False
        return True

    until(open_, what=f"port {port}")
