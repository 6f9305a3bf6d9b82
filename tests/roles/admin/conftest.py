"""A stand-in daemon in a process of its own, and `agent admin` as a script calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roles.admin.stand_in import PASSWORD

ROOT = Path(__file__).parents[3]


class StandIn:
    """May be killed and started again on the same port, as a daemon is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, password: str = PASSWORD) -> None:
        module = "tests.roles.admin.stand_in"
        command = [sys.executable, "-m", module, str(self.port), str(self.folder), password]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def daemon(tmp_path):
    """One that this test may change or kill."""
    stand_in = StandIn(tmp_path)
    stand_in.start()
    yield stand_in
    stand_in.kill()


@pytest.fixture(scope="module")
def quiet_daemon(tmp_path_factory):
    """For tests that change nothing."""
    stand_in = StandIn(tmp_path_factory.mktemp("daemon"))
    stand_in.start()
    yield stand_in
    stand_in.kill()


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "AGENT_USER": "ada", "AGENT_PASSWORD": PASSWORD, **more}


def admin(address: str, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess:
    """`agent admin ADDRESS WORDS…`; a word that begins with no dash is a command."""
    argv = [sys.executable, "-m", "agent", "admin", address]
    for word in words:
        argv += [word] if word.startswith("-") else ["-c", word]
    return subprocess.run(
        argv, env=environment(**env), input=stdin, capture_output=True, text=True, timeout=30
    )
