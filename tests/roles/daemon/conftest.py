"""Real processes for the tests of the process layer; whatever a test started is gone when it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roles.daemon import identity as proc
from roles.daemon import watch
from tests.waiting import until

PROGRAMS = Path(__file__).parents[2] / "programs"


def program(name: str, *words: object) -> list[str]:
    return [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, words)]


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen]]:
    """`run("steady")`: a process with its own session; its whole session is killed when the test ends."""
    started: list[subprocess.Popen] = []

    def start(name: str, *words: object, **options: object) -> subprocess.Popen:
        options = {"start_new_session": True, "stdout": subprocess.PIPE, "text": True, **options}
        started.append(subprocess.Popen(program(name, *words), **options))
        return started[-1]

    yield start
    for process in started:
        end_session(process.pid)
        process.wait()
        if process.stdout:
            process.stdout.close()


def children() -> set[int]:
    """Pids of our children, zombies too."""
    stats = [proc.read_stat(pid) for pid in proc.pids()]
    return {stat.pid for stat in stats if stat and stat.ppid == os.getpid()}


def session(leader: int) -> list[int]:
    """The living pids of a session."""
    stats = [proc.read_stat(pid) for pid in proc.pids()]
    return [stat.pid for stat in stats if stat and stat.session == leader and not stat.gone]


def end_session(leader: int) -> None:
    for pid in session(leader):
        if (who := proc.identify(pid)) and (stat := who.stat()) and stat.session == leader:
            proc.send_signal(who, signal.SIGKILL)


def end_marked(owner: str) -> None:
    """Kill whatever carries the marks of one test's state folder."""
    for pid in proc.pids():
        who = proc.identify(pid)
        if who and proc.read_environ(pid).get("AGENT_OWNER") == owner:
            proc.send_signal(who, signal.SIGKILL)
            until(lambda who=who: not who.alive(), what=f"end of {who}")
            watch.reap(pid)


@pytest.fixture
def standing(valkey, tmp_path):
    """A daemon's state over an empty globaldb; processes it started are gone at the end."""
    from tests.roles.daemon.standing import Standing

    made = Standing(valkey, tmp_path / "state")
    yield made
    made.close()
    end_marked(str(tmp_path / "state"))


@pytest.fixture
def frail(tmp_path):
    """The same over a globaldb of its own, which the test may stop and start."""
    from tests.globaldb_servers import running, valkey_binary
    from tests.roles.daemon.standing import Standing

    with running(valkey_binary(), tmp_path / "globaldb", "appendonly yes") as server:
        made = Standing(server, tmp_path / "state")
        yield made
        made.close()
        end_marked(str(tmp_path / "state"))
