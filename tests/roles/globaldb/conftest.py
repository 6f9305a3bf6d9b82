"""A real `agent globaldb`, started and stopped by the tests."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.waiting import until


class Server:
    """One run of `agent globaldb`; `log` is what it has said so far."""

    def __init__(self, log: Path, words: list[str]) -> None:
        self._log = log
        # to a file, not a pipe: reading a pipe would stop every greenlet of the tests
        with log.open("wb") as output:
            command = [sys.executable, "-m", "agent", "globaldb", *words]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def serving(self) -> "Server":
        until(lambda: " serving, " in self.log or self.process.poll() is not None, 20)
        assert " serving, " in self.log, self.log
        return self

    @property
    def port(self) -> int:
        return int(re.search(r"globaldb \S+:(\d+) serving", self.log)[1])

    def refused(self) -> str:
        """Waits for its end; what it said."""
        code = self.process.wait(20)
        assert code != 0, self.log
        return self.log

    def client(self, password: str | None = None) -> redis.Redis:
        return redis.Redis(
            port=self.port,
            password=password,
            protocol=2,
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(NoBackoff(), 0),  # the default tries a refused login for seconds
        )

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def globaldb(tmp_path: Path):
    """globaldb(word…) starts one on a free port of loopback with DIR = tmp_path/data unless the words say otherwise."""
    started = []

    def start(*words: str) -> Server:
        given = list(words)
        if "--dir" not in given:
            given += ["--dir", str(tmp_path / "data")]
        if "--listen" not in given:
            given += ["--listen", "127.0.0.1:0"]
        started.append(Server(tmp_path / f"globaldb-{len(started)}.log", given))
        return started[-1]

    yield start
    for server in started:
        server.end()
