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
    assert ports.holder(port, "tcp").pid == 0


def test_who_has_it_is_named_with_pid_and_mark(run):
    port = free_port()
    server = serve(run, port, AGENT_PROCESS="大区1.10.0.0.1.game1".encode())
    holder = ports.holder(port, "tcp")
    assert (holder.pid, holder.key) == (server.pid, "大区1.10.0.0.1.game1")
    assert not ports.is_free("127.0.0.1", port, "tcp")


@pytest.mark.parametrize(
    "mark", [b"\xff\xfe", b"a\nb\x1b[2J", b"x" * 50_000], ids=["bytes", "controls", "long"]
)
def test_a_strangers_mark_is_one_line_that_globaldb_takes(run, standing, mark):
    """Bytes that are no text once made every record of the machine unwritable, as long as he had the port."""
    port = free_port()
    serve(run, port, AGENT_PROCESS=mark)
    text = str(ports.holder(port, "tcp"))
    standing.record("大区1.10.0.0.1.game1", exit=text)
    assert text.isprintable() and len(text) < 400
    assert standing.globaldb.read_records(["大区1.10.0.0.1.game1"], ("exit",)) == [(text,)]


def test_udp_is_looked_for_too():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert ports.is_bound(port, "udp") and not ports.is_free("127.0.0.1", port, "udp")
        assert ports.holder(port, "udp").pid == os.getpid()
    assert ports.is_free("127.0.0.1", port, "udp")
