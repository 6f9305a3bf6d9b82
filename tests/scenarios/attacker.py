"""What an attacker has: raw connections from any address, half a login, a machine's key, a certificate of his own."""

import os
import resource
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import gevent
from gevent import socket
from gevent.ssl import SSLContext

from agent import codec, dialer, entrance, messages, wire
from agent.address import Address
from agent.certificate import own_certificate
from agent.handshake import Identity
from agent.key import read_machine_key
from tests.scenarios.group import Group

_incarnations = count(1)


@contextmanager
def many_files(wanted: int) -> Iterator[None]:
    """This process may open so many files meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard >= wanted, f"ulimit -Hn is {hard}; this test wants {wanted}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def call(where: Address, source: str = "127.0.0.1") -> socket.socket:
    """A raw connection that says nothing yet."""
    return socket.create_connection((where.host, where.port), source_address=(source, 0))


def call_tls(where: Address, source: str = "127.0.0.1", timeout: float = 10.0):
    """TLS, and no login."""
    with gevent.Timeout(timeout):
        return client_context().wrap_socket(call(where, source))


def client_context() -> SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """The first record of a TLS handshake that will go no further."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


def hung_up(sock, timeout: float = 20.0) -> bool:
    """Reads whatever still comes; True when the other side closed."""
    try:
        with gevent.Timeout(timeout):
            while sock.recv(65536):
                pass
        return True
    except OSError:
        return True
    except gevent.Timeout:
        return False


class Machine:
    """A daemon that was broken into: it has its machine's key, is admitted by the router, and says what it likes."""

    def __init__(self, group: Group, ip: str) -> None:
        path = group.folder / f"machine-{ip}.key"
        key = read_machine_key(path if path.exists() else group.make_machine_key(ip))[1]
        me = Identity("daemon", ip, "evil\n1.0", os.getpid() * 1_000_000 + next(_incarnations))
        self.ip = ip
        self.sock, _ = dialer.connect(group.router_address, me, key, source_ip=ip)
        self._decoder = wire.Decoder()
        self._heard: list[wire.Frame] = []
        self._beat = gevent.spawn(self._beat_for_ever)

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def request(self, message: object, dst: str, *, src: str | None = None, seq: int = 1) -> bytes:
        return frame(wire.REQUEST, codec.encode(message, 10.0), dst, self.ip if src is None else src, seq)

    def ask(self, message: object, dst: str, seq: int = 1, src: str | None = None) -> object:
        """The reply or Error to it."""
        self.send(self.request(message, dst, seq=seq, src=src))
        return codec.decode(self.hear(seq).body)[0]

    def hear(self, seq: int, timeout: float = 10.0) -> wire.Frame:
        """The answer to `seq`; whatever else comes meanwhile is dropped."""
        with gevent.Timeout(timeout):
            while True:
                for each in self._heard:
                    if each.seq == seq and each.kind in (wire.REPLY, wire.ERROR):
                        self._heard.clear()
                        return each
                data = self.sock.recv(65536)
                assert data, "the router hung up"
                self._heard = list(self._decoder.feed(data))

    def hear_request(self, timeout: float = 10.0) -> wire.Frame:
        """The next request that somebody sends to this machine."""
        with gevent.Timeout(timeout):
            while True:
                data = self.sock.recv(65536)
                assert data, "the router hung up"
                for each in self._decoder.feed(data):
                    if each.kind == wire.REQUEST:
                        return each

    def _beat_for_ever(self) -> None:
        ping = wire.pack(wire.NOTICE, 0, b"", b"", codec.encode(messages.Ping()))
        while True:
            gevent.sleep(3)
            try:
                self.sock.sendall(ping)
            except OSError:
                return

    def close(self) -> None:
        self._beat.kill()
        self.sock.close()


def frame(kind: int, body: bytes, dst: str, src: str, seq: int = 1) -> bytes:
    return wire.pack(kind, seq, dst.encode(), src.encode(), body)


class Between:
    """A relay that ends TLS with a certificate of its own and passes on what it reads, in both directions."""

    def __init__(self, folder: Path, target: Address) -> None:
        context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own_certificate(folder))
        self._context, self._target = context, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self.from_client, self.from_server = bytearray(), bytearray()
        self._run = gevent.spawn(self._serve)

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            gevent.spawn(self._relay, sock)

    def _relay(self, sock: socket.socket) -> None:
        client = self._context.wrap_socket(sock, server_side=True)
        server = client_context().wrap_socket(call(self._target, "127.0.0.99"))
        pumps = [
            gevent.spawn(pump, client, server, self.from_client),
            gevent.spawn(pump, server, client, self.from_server),
        ]
        gevent.joinall(pumps, count=1)
        for end in (client, server):
            end.close()

    def close(self) -> None:
        self._run.kill()
        self._listener.close()


def pump(source, target, kept: bytearray) -> None:
    try:
        while data := source.recv(65536):
            kept += data
            target.sendall(data)
    except OSError:
        return


class Recorder:
    """A socket that keeps what was sent through it."""

    def __init__(self, sock) -> None:
        self.sock = sock
        self.sent: list[bytes] = []
        self.recv = sock.recv

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)
        self.sock.sendall(data)


def record_login(where: Address, user: str, password: str) -> list[bytes]:
    """The frames of a login that succeeded."""
    with call_tls(where, "127.0.0.40") as sock:
        recorder = Recorder(sock)
        entrance.enter(recorder, sock.getpeercert(True), Identity("admin", user, "", 0), password)
        return recorder.sent


def converse(where: Address, frames: Iterable[bytes], source: str = "127.0.0.1") -> list[wire.Frame]:
    """Every frame that comes back until they hang up, one question after the other."""
    decoder, heard = wire.Decoder(), []
    with call_tls(where, source) as sock, gevent.Timeout(15):
        try:
            for each in frames:
                sock.sendall(each)
                answered = len(heard)
                while len(heard) == answered:
                    data = sock.recv(65536)
                    if not data:
                        return heard
                    heard += decoder.feed(data)
            while data := sock.recv(65536):
                heard += decoder.feed(data)
        except OSError:
            pass
    return heard


def memory_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
