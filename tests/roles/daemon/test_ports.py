"""Who has a port: anybody on the host, with anything in his name and his environment."""

import os
import socket

import pytest

from roles.daemon import ports
from tests.globaldb_servers import free_port
from tests.waiting import until


def serve(run, port, **environ):
    server = run("port_server", port, env={**os.environb, **{k.encode(): v for k, v in environ.items()}})
    until(lambda: ports.is_bound(port, "tcp"))
    return server


def test_a_free_port_has_no_holder():
    port = free_port()
    assert ports.is_free("127.0.0.1", port, "tcp") and not ports.is_bound(port, "tcp")
    assert ports.holder("127.0.0.1", port, "tcp").pid == 0


def test_who_has_it_is_named_with_pid_and_mark(run):
    port = free_port()
    server = serve(run, port, AGENT_PROCESS="大区1.10.0.0.1.game1".encode())
    holder = ports.holder("127.0.0.1", port, "tcp")
    assert (holder.pid, holder.key) == (server.pid, "大区1.10.0.0.1.game1")
    assert not ports.is_free("127.0.0.1", port, "tcp")


@pytest.mark.parametrize(
    "mark", [b"\xff\xfe", b"a\nb\x1b[2J", b"x" * 50_000], ids=["bytes", "controls", "long"]
)
def test_a_strangers_mark_is_one_line_that_globaldb_takes(run, standing, mark):
    """Bytes that are no text once made every record of the machine unwritable, as long as he had the port."""
    port = free_port()
    serve(run, port, AGENT_PROCESS=mark)
    text = str(ports.holder("127.0.0.1", port, "tcp"))
    standing.record("大区1.10.0.0.1.game1", exit=text)
    assert text.isprintable() and len(text) < 400
    assert standing.globaldb.read_records(["大区1.10.0.0.1.game1"], ("exit",)) == [(text,)]


@pytest.mark.parametrize(
    ("asked", "seen"),
    [("127.0.0.3", True), ("127.0.0.2", False), ("0.0.0.0", True), ("", True), ("localhost", True)],
)
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_who_has_the_same_port_of_another_address_is_not_named(asked, seen, kind):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.3", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        holder = ports.holder(asked, sock.getsockname()[1], "tcp" if kind == socket.SOCK_STREAM else "udp")
    assert holder.pid == (os.getpid() if seen else 0)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"),
                                              (socket.AF_INET6, "::ffff:127.0.0.3")])  # fmt: skip
def test_who_has_it_of_all_addresses_is_named_for_each(family, host):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        sock.listen()
        port = sock.getsockname()[1]
        assert ports.holder("127.0.0.3", port, "tcp").pid == os.getpid()
        assert (ports.holder("127.0.0.2", port, "tcp").pid > 0) == (host != "::ffff:127.0.0.3")


def test_udp_is_looked_for_too():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert ports.is_bound(port, "udp") and not ports.is_free("127.0.0.1", port, "udp")
        assert ports.holder("127.0.0.1", port, "udp").pid == os.getpid()
    assert ports.is_free("127.0.0.1", port, "udp")
