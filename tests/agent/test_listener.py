"""The listening side over real TLS on loopback; strangers come from 127.0.0.x."""

import os
import ssl

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from agent import dialer
from agent import listener as listener_module
from agent.address import Address
from agent.certificate import own_certificate
from agent.errors import ConfigError, ConnectFailed, LoginRefused
from agent.handshake import Identity
from agent.listener import Listener
from tests.agent.test_handshake import ADA, PASSWORD, SERVER, Door
from tests.waiting import until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return own_certificate(tmp_path_factory.mktemp("listener"))


@pytest.fixture
def serving(certificate):
    """`serving(door)`: a listener that keeps whoever logs in; `.guests` are those."""
    made = []

    def make(door=None):
        guests, over = [], Event()

        def serve(sock, identity, address):
            guests.append((identity, address))
            over.wait()
            sock.close()

        listener = Listener(Address("127.0.0.1", 0), certificate, (door or Door()).gate(), SERVER, serve)
        listener.guests = guests
        made.append((listener, over))
        return listener

    yield make
    for listener, over in made:
        listener.stop()
        over.set()


@pytest.fixture
def call():
    """`call(listener, source)`: a raw connection that says nothing."""
    socks = []

    def make(listener, source="127.0.0.1"):
        socks.append(socket.create_connection(("127.0.0.1", listener.port), source_address=(source, 0)))
        return socks[-1]

    yield make
    for sock in socks:
        sock.close()


def log_in(listener, source="127.0.0.1", password=PASSWORD):
    sock, who = dialer.connect(Address("127.0.0.1", listener.port), ADA, password, source_ip=source)
    return sock, who


def hung_up(sock, timeout=5.0):
    sock.settimeout(timeout)
    try:
        return sock.recv(100) == b""
    except ConnectionError:
        return True


def files():
    return len(os.listdir("/proc/self/fd"))


def test_who_logs_in_is_served_and_is_no_stranger_any_more(serving):
    listener = serving()
    sock, who = log_in(listener, "127.0.0.5")
    assert who == Identity("daemon", "10.0.0.2", "2.0", 0)
    until(lambda: listener.guests)
    (identity, address), *_ = listener.guests
    assert identity == ADA and address.startswith("127.0.0.5:")
    assert (listener._strangers, listener._strangers_of) == (0, {})
    sock.close()


def test_no_older_tls_is_spoken(serving):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    listener = serving()
    with pytest.raises(OSError):
        context.wrap_socket(socket.create_connection(("127.0.0.1", listener.port)))


@pytest.mark.parametrize(
    "bytes_",
    [b"\x00\x00\x00\x10", b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff", bytes(range(1, 255)) * 2],
)
def test_garbage_is_hung_up_on_and_leaves_nothing_behind(serving, call, monkeypatch, bytes_):
    monkeypatch.setattr(listener_module, "LOGIN_S", 0.3)
    listener = serving()
    before = files()
    socks = [call(listener) for _ in range(20)]
    for sock in socks:
        sock.sendall(bytes_)
    for sock in socks:
        while not hung_up(sock):
            pass
        sock.close()
    until(lambda: files() <= before and not listener._strangers)
    assert not listener.guests


def test_who_sends_a_byte_now_and_then_is_cut_at_the_deadline(serving, call, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(listener_module, "LOGIN_S", 0.4)
    listener = serving()
    sock = call(listener)

    def trickle():
        for byte in b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + bytes(1000):
            sock.sendall(bytes([byte]))
            gevent.sleep(0.05)

    talking = gevent.spawn(trickle)
    began = gevent.get_hub().loop.now()
    assert hung_up(sock)
    assert 0.2 < gevent.get_hub().loop.now() - began < 2
    assert "not done within 0 s" in caplog.text
    talking.kill()


def test_half_open_handshakes_end_at_the_deadline_and_leave_nothing_behind(serving, call, monkeypatch):
    monkeypatch.setattr(listener_module, "LOGIN_S", 0.5)
    monkeypatch.setattr(listener_module, "STRANGERS_PER_ADDRESS", 1000)
    listener = serving()
    before = files()
    hello = client_hello()
    socks = [call(listener) for _ in range(200)]
    for sock in socks:
        sock.sendall(hello)
    until(lambda: listener._strangers == 200)
    log_in(listener)[0].close()
    until(lambda: not listener._strangers, 10)
    for sock in socks:
        sock.close()
    until(lambda: files() <= before + 2)


def client_hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="x").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


def test_one_address_has_so_many_places_and_no_more(serving, call, monkeypatch):
    monkeypatch.setattr(listener_module, "STRANGERS_PER_ADDRESS", 5)
    listener = serving()
    first = [call(listener, "127.0.0.9") for _ in range(5)]
    until(lambda: listener._strangers == 5)
    assert all(hung_up(call(listener, "127.0.0.9")) for _ in range(3))
    log_in(listener, "127.0.0.8")[0].close()
    assert listener._strangers_of.keys() == {"127.0.0.9"} and len(first) == 5


def test_a_flood_crowds_out_itself_and_not_the_one_who_comes_from_elsewhere(serving, call, monkeypatch):
    monkeypatch.setattr(listener_module, "STRANGERS", 40)
    listener = serving()
    for number in range(80):
        call(listener, f"127.0.1.{number % 8 + 1}")
    until(lambda: listener._strangers == 40)
    until(lambda: {len(crowd) for crowd in listener._strangers_of.values()} == {5})
    before = files()
    for number in range(10):
        sock, _ = log_in(listener, f"127.0.2.{number + 1}")
        sock.close()
    until(lambda: len(listener.guests) == 10)
    assert listener._strangers <= 40 and files() <= before + 12


def test_a_process_that_may_open_few_files_takes_fewer_strangers(serving, monkeypatch):
    monkeypatch.setattr(listener_module.resource, "getrlimit", lambda _: (100, 100))
    assert serving()._most == 50


def test_a_flood_of_failed_logins_does_not_fill_the_log(serving, caplog):
    caplog.set_level("INFO", "agent.listener")
    listener = serving()
    for _ in range(listener_module.LINES + 5):
        with pytest.raises(LoginRefused):
            log_in(listener, password="wrong")
    until(lambda: not listener._strangers)
    lines = [record.getMessage() for record in caplog.records if record.name == "agent.listener"]
    assert len(lines) == listener_module.LINES
    assert "no more about this address for" in lines[-1] and "no more" not in lines[-2]


def test_a_taken_port_is_told_in_words(serving, certificate):
    listener = serving()
    with pytest.raises(ConfigError, match=r"cannot listen on .*is another agent running here\?"):
        Listener(Address("127.0.0.1", listener.port), certificate, Door().gate(), SERVER, print)


def test_a_port_that_speaks_no_tls_is_told_in_words():
    with socket.create_server(("127.0.0.1", 0)) as plain:
        gevent.spawn(lambda: plain.accept()[0].sendall(b"220 mail.example ESMTP\r\n"))
        with pytest.raises(ConnectFailed, match=r"no TLS with it .*is that port an agent's\?"):
            dialer.connect(Address("127.0.0.1", plain.getsockname()[1]), ADA, PASSWORD)
