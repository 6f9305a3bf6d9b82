"""The calling side against real sockets: what it says when it cannot connect, and how it comes back."""

import time
from itertools import pairwise

import gevent
import pytest
from gevent import socket

from agent import dialer as dialer_module
from agent.address import Address
from agent.backoff import Backoff
from agent.certificate import own_certificate
from agent.dialer import Dialer, connect
from agent.dispatch import SHARED, Table
from agent.errors import ConnectFailed, LoginRefused
from agent.link import Link
from agent.listener import Listener
from tests.agent.test_handshake import ADA, PASSWORD, SERVER, Door
from tests.globaldb_servers import free_port
from tests.waiting import until


class Server:
    """A listener whose links can be cut."""

    def __init__(self, folder, port):
        self.links = []
        self.listener = Listener(
            Address("127.0.0.1", port), own_certificate(folder), Door().gate(), SERVER, self._serve
        )

    def _serve(self, sock, identity, address):
        self.links.append(make_link(sock, identity.role, identity.name, address))
        self.links[-1].run()

    def stop(self):
        self.listener.stop()
        for link in self.links:
            link.close("the server stopped")


def make_link(sock, role="daemon", name="x", address="test"):
    return Link(sock, local=b"", role=role, name=name, address=address, table=Table(SHARED), state=None)


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def server(tmp_path, port):
    """`server()` starts it, again too."""
    made = []

    def start():
        made.append(Server(tmp_path, port))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.fixture
def dialing(port, monkeypatch):
    """`dialing(password)`: a Dialer at work; `.joined` are the links it has had."""
    monkeypatch.setattr(dialer_module, "Backoff", lambda *_: Backoff(0.02, 0.1))
    running = []

    def start(password=PASSWORD, joined=lambda link: None):
        had = []
        made = Dialer(
            "router", Address("127.0.0.1", port), ADA, password,
            open_link=lambda sock, who: had.append(make_link(sock)) or had[-1], joined=joined,
        )  # fmt: skip
        made.had = had
        running.append((gevent.spawn(made.run), made))
        return made

    yield start
    for greenlet, made in running:
        greenlet.kill()
        for link in made.had:
            link.close("test over")


def test_it_tries_until_the_server_is_there_and_again_when_it_comes_back(server, dialing, caplog):
    caplog.set_level("INFO", "agent.dialer")
    dialer = dialing()
    until(lambda: "refused" in dialer.trouble.lower())
    assert dialer.link is None
    first = server()
    until(lambda: dialer.link)
    first.stop()
    until(lambda: dialer.link is None)
    assert "link lost" in dialer.trouble or "cannot connect" in dialer.trouble
    server()
    until(lambda: dialer.link)
    assert len(dialer.had) == 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(set(lines)) + 1, "the same trouble is said once, `connected` twice"


def test_whoever_it_joins_is_told_in_a_greenlet_that_ends_with_the_link(server, dialing):
    greeted, ended = [], []

    def joined(link):
        greeted.append(link)
        try:
            gevent.sleep(60)
        finally:
            ended.append(link)

    one = server()
    dialer = dialing(joined=joined)
    until(lambda: greeted)
    assert greeted == [dialer.link]
    one.links[0].close("test")
    until(lambda: ended)


def test_a_refusal_is_the_trouble_and_it_tries_on(server, dialing):
    server()
    dialer = dialing("wrong")
    until(lambda: "login refused: wrong name or credentials" in dialer.trouble)
    assert dialer.link is None and not dialer.had


def test_a_server_that_lets_us_in_and_hangs_up_at_once_is_not_asked_a_hundred_times(tmp_path, port, dialing):
    logins = []

    def hang_up(sock, _identity, _address):
        logins.append(time.monotonic())
        sock.close()

    listener = Listener(Address("127.0.0.1", port), own_certificate(tmp_path), Door().gate(), SERVER, hang_up)
    dialing()
    try:
        until(lambda: len(logins) >= 8)
    finally:
        listener.stop()
    gaps = [later - earlier for earlier, later in pairwise(logins[3:])]
    assert min(gaps) > 0.04, gaps


def refuse(answer):
    """The address of a server that answers this to whoever calls, and keeps the line."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept = []

    def serve():
        while True:
            sock, _ = listener.accept()
            sock.sendall(answer)
            kept.append(sock)

    gevent.spawn(serve)
    return Address("127.0.0.1", listener.getsockname()[1])


def test_nobody_there_is_told_with_the_address():
    address = Address("127.0.0.1", free_port())
    with pytest.raises(ConnectFailed, match=rf"cannot connect to {address}: Connection refused"):
        connect(address, ADA, PASSWORD)


def test_a_name_that_nobody_knows_is_told():
    with pytest.raises(ConnectFailed, match=r"cannot connect to no\.such\.host\.invalid:1"):
        connect(Address("no.such.host.invalid", 1), ADA, PASSWORD)


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "..", "x" * 300, "\u2603.invalid"])
def test_a_name_that_cannot_be_one_is_told(host):
    with pytest.raises(ConnectFailed):
        connect(Address(host, 1), ADA, PASSWORD, timeout_s=5)


def test_silence_is_told_with_the_time():
    address = refuse(b"")
    with pytest.raises(ConnectFailed, match=rf"{address} did not answer within 0 s"):
        connect(address, ADA, PASSWORD, timeout_s=0.2)


def test_a_wrong_password_is_a_refused_login_with_the_address(server, port):
    server()
    with pytest.raises(LoginRefused, match=f"127.0.0.1:{port}: login refused: wrong name or credentials"):
        connect(Address("127.0.0.1", port), ADA, "wrong")


def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(ConnectFailed, match="Cannot assign requested address"):
        connect(Address("127.0.0.1", 1), ADA, PASSWORD, source_ip="192.0.2.1")
