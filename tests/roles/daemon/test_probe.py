"""Whether a program serves its port is seen from outside: the kernel answers for one that hangs."""

import fcntl
import os
import signal
import socket
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import pytest

from roles.daemon import ports, probe
from tests.globaldb_servers import free_port
from tests.waiting import until

PROTOCOLS = ["tcp", "udp"]


def serves(port: int, protocol: str, host: str = "127.0.0.1") -> bool:
    return probe.serving({"game": probe.Target(host, port, protocol)})["game"]


def hung(port: int, protocol: str, host: str = "127.0.0.1") -> bool:
    return not serves(port, protocol, host)


def queued(port: int, protocol: str) -> int:
    return sum(ports.queues_of("127.0.0.1", port, ports.queues(protocol)).values())


@contextmanager
def bound(protocol: str, host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, int]]:
    """A socket whose program (this test) takes nothing from it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, _kind(protocol)) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, 0))
        if protocol == "tcp":
            sock.listen()
        yield sock, sock.getsockname()[1]


@contextmanager
def taking(sock: socket.socket) -> Iterator[None]:
    """As a server does."""

    def take() -> None:
        while True:
            if sock.type == socket.SOCK_DGRAM:
                sock.recv(100)
            else:
                sock.accept()[0].close()

    taker = gevent.spawn(take)
    yield
    taker.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hang_shows_and_so_does_its_end(run, protocol):
    port = free_port()
    server = run("hung_server", port, protocol)
    until(lambda: ports.is_bound(port, protocol), 20)
    until(lambda: serves(port, protocol), 20)
    server.send_signal(signal.SIGUSR1)
    until(lambda: hung(port, protocol), 20)
    assert hung(port, protocol), "and stays so"
    server.send_signal(signal.SIGUSR2)
    until(lambda: serves(port, protocol), 20)
    assert queued(port, protocol) == 0


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", "localhost"),
        ("127.0.0.3", "127.0.0.3"),
        ("0.0.0.0", "0.0.0.0"),
        ("0.0.0.0", ""),
        ("::", "127.0.0.1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wherever_it_is_bound(protocol, host, asked):
    with bound(protocol, host) as (sock, port):
        assert hung(port, protocol, asked)
        with taking(sock):
            until(lambda: serves(port, protocol, asked), 20)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hung_program_gets_one_knock_in_all(protocol):
    with bound(protocol) as (_, port):
        assert hung(port, protocol)
        once = queued(port, protocol)
        assert once
        assert hung(port, protocol) and hung(port, protocol)
        assert queued(port, protocol) == once


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_of_two_that_share_a_port_hangs(protocol):
    """Teeworlds and others hold an IPv4 and an IPv6 socket: the empty queue of one says nothing of the other's."""
    with bound(protocol, "127.0.0.1") as (_, port), socket.socket(socket.AF_INET6, _kind(protocol)) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", port))
        if protocol == "tcp":
            other.listen()
        with taking(other):
            assert hung(port, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_hangs_on_the_same_port_of_another_address_is_somebody_else(protocol):
    with bound(protocol, "127.0.0.2") as (_, port), socket.socket(socket.AF_INET, _kind(protocol)) as other:
        assert hung(port, protocol, "127.0.0.2")
        other.bind(("127.0.0.3", port))
        if protocol == "tcp":
            other.listen()
        with taking(other):
            until(lambda: serves(port, protocol, "127.0.0.3"), 20)


def test_a_server_that_is_busy_serves_though_its_queue_is_never_empty():
    with bound("udp") as (sock, port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as crowd:
        crowd.connect(("127.0.0.1", port))
        for _ in range(20):
            crowd.send(b"hello")
        reading = gevent.spawn_later(0.1, lambda: [sock.recv(100) for _ in range(5)])
        assert serves(port, "udp")
        reading.join()
        assert queued(port, "udp") > 0


def test_a_server_that_asks_how_much_there_is_before_it_reads_is_not_jammed():
    """FIONREAD of an empty datagram is 0: it would stay at the head for ever."""
    with bound("udp") as (sock, port):

        def poll() -> None:
            while True:
                if struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]:
                    sock.recv(100)
                gevent.sleep(0.01)

        polling = gevent.spawn(poll)
        until(lambda: serves(port, "udp"), 20)
        polling.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nobody_there_is_nobody_who_serves(protocol):
    assert not serves(free_port(), protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_the_kernel_knows_no_such_socket_it_serves_if_it_takes_the_knock(protocol, monkeypatch):
    """As in a network namespace of its own."""
    monkeypatch.setattr(ports, "TABLES", dict.fromkeys(PROTOCOLS, ("/dev/null", "/no/such/table")))
    with bound(protocol) as (_, port):
        assert serves(port, protocol)
    assert not serves(free_port(), protocol)


def test_a_look_reads_the_tables_once_for_all(monkeypatch):
    looks = []
    queues = ports.queues
    monkeypatch.setattr(ports, "queues", lambda protocol: (looks.append(protocol), queues(protocol))[1])
    with bound("tcp") as (sock, well), bound("tcp") as (_, ill), taking(sock):
        targets = {f"game{n}": probe.Target("127.0.0.1", well, "tcp") for n in range(50)}
        targets["hung"] = probe.Target("127.0.0.1", ill, "tcp")
        found = probe.serving(targets)
    assert [key for key, good in found.items() if not good] == ["hung"]
    assert set(looks) == {"tcp"} and len(looks) <= 6


def test_a_knock_that_takes_long_is_given_up_and_delays_nobody(monkeypatch):
    with bound("udp") as (sock, port), taking(sock):
        gone = []

        def for_ever(host: str, port: int) -> bool:
            try:
                gevent.sleep(50)
            finally:
                gone.append(port)
            return True

        monkeypatch.setattr(ports, "takes_connection", for_ever)
        began = time.monotonic()
        found = probe.serving(
            {"away": probe.Target("127.0.0.1", 1, "tcp"), "here": probe.Target("127.0.0.1", port, "udp")}
        )
    assert found == {"away": False, "here": True}
    assert time.monotonic() - began < 15
    assert gone == [1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_socket_is_left_behind(protocol):
    with bound(protocol) as (_, port):
        before = os.listdir("/proc/self/fd")
        assert hung(port, protocol) and hung(free_port(), protocol)
        assert os.listdir("/proc/self/fd") == before


def test_sockets_that_listen_come_first_in_the_kernels_table():
    """So the rest need not be read."""
    with (
        bound("tcp") as (sock, port),
        bound("tcp") as (other, _),
        socket.create_connection(("127.0.0.1", port)),
        sock.accept()[0],
        bound("tcp") as (late, _),
    ):
        with open("/proc/net/tcp") as file:
            states = [line.split()[3] for line in file][1:]
        assert states.index("01") > max(n for n, state in enumerate(states) if state == "0A")
        found = ports.queues("tcp")
        assert all(each.getsockname()[1] in found for each in (sock, other, late))


def _kind(protocol: str) -> int:
    return socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
