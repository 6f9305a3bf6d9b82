"""Before the login: whatever strangers send, and however many they are, the honest operator gets in and works."""

import time
from collections.abc import Iterator

import gevent
import pytest

from agent import codec, messages, wire
from tests.scenarios.attacker import (
    call,
    call_tls,
    client_hello,
    converse,
    cpu_s,
    hung_up,
    many_files,
    memory_bytes,
    open_files,
)
from tests.scenarios.group import Group, program, running
from tests.waiting import until

IP = "127.0.0.2"
KEY = f"大区1.{IP}.game"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {"game": program("steady")},
        "world": {"大区1": {IP: [{"type": "game", "name": "game"}]}},
    }
    with running(tmp_path_factory.mktemp("group"), [IP], world) as group:
        yield group


@pytest.fixture(params=["daemon", "router"])
def victim(request: pytest.FixtureRequest, group: Group) -> tuple:
    """(address, process) of each server; afterwards it must be alive, and no traceback in its log."""
    role = group.daemon(IP) if request.param == "daemon" else group.roles["router"]
    yield (group.daemon_address[IP] if request.param == "daemon" else group.router_address), role
    assert role.child.poll() is None
    assert "Traceback" not in role.text()


def work(group: Group) -> None:
    """An honest operator logs in and works."""
    admin = group.admin(IP)
    for verb in ("start", "stop"):
        assert admin.operate(verb, IP)[KEY].good
    admin.close()


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "plain frame": wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(messages.Ping())),
    "half a frame": b"\x00\x00",
    "half a record": b"\x16\x03\x01\x02\x00\x01",
    "tls garbage": b"\x16\x03\x01\x02\x00" + bytes(range(256)) * 2,
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "noise": bytes(range(255, 0, -1)) * 40,
    "nothing": b"",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_instead_of_tls_is_hung_up_on(victim, group, what):
    address, role = victim
    before = open_files(role.pid)
    socks = [call(address) for _ in range(20)]
    for sock in socks:
        sock.sendall(GARBAGE[what])
    if what in (
        "nothing",
        "half a frame",
        "half a record",
    ):  # these wait for the deadline, which slowloris tests
        for sock in socks:
            sock.close()
    else:
        assert all(hung_up(sock) for sock in socks)
    until(lambda: open_files(role.pid) <= before)


IN_TLS = {
    "garbage": b"\xff" * 100,
    "unknown kind": wire.PREFIX.pack(7, 77, 1, 0, 0),
    "too short": wire.PREFIX.pack(3, 1, 1, 0, 0),
    "over 4 KiB": wire.pack(wire.REQUEST, 1, b"", b"", b"x" * 5000),
    "4 GiB": b"\xff\xff\xff\xff" + b"\x01" * 7,
    "a command": wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(messages.OperateGroup("stop", "*", "*"))),
    "a notice": wire.pack(wire.NOTICE, 1, b"10.0.0.1", b"10.0.0.2", b"x"),
    "deep json": wire.pack(wire.REQUEST, 1, b"", b"", b"[" * 4000),
    "no fields": wire.pack(wire.REQUEST, 1, b"", b"", b'["session.hello", {}]'),
    "another protocol": wire.pack(
        wire.REQUEST, 1, b"", b"", codec.encode(messages.Hello(99, "admin", "ada", ""))
    ),
    "another role": wire.pack(
        wire.REQUEST, 1, b"", b"", codec.encode(messages.Hello(1, "root\n", "ada", ""))
    ),
}


@pytest.mark.parametrize("what", IN_TLS)
def test_anything_but_a_login_within_tls_is_refused_at_once_and_not_waited_for(victim, what):
    address, _role = victim
    began = time.monotonic()
    frames = converse(address, [IN_TLS[what]])
    assert time.monotonic() - began < 5
    assert len(frames) <= 1 and all(frame.kind == wire.ERROR for frame in frames)


def test_whoever_sends_a_byte_a_second_is_cut_at_the_deadline(victim):
    address, role = victim
    plain, tls = call(address, "127.0.0.77"), call_tls(address, "127.0.0.77")
    hello = wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(messages.Hello(1, "admin", "ada", "x" * 100)))

    def trickle(sock, data):
        try:
            for byte in data:
                sock.sendall(bytes([byte]))
                gevent.sleep(1)
        except OSError:
            return

    talking = [gevent.spawn(trickle, plain, client_hello()), gevent.spawn(trickle, tls, hello)]
    began = time.monotonic()
    assert hung_up(plain) and hung_up(tls)
    assert time.monotonic() - began < 12
    gevent.killall(talking)
    until(lambda: "not done within 8 s" in role.text())


@pytest.mark.timeout(120)
def test_a_thousand_half_open_handshakes_cost_no_login_and_leave_nothing_behind(victim, group):
    address, role = victim
    before = open_files(role.pid)
    hello = client_hello()
    with many_files(4096):
        socks = [call(address, f"127.0.3.{n % 10 + 1}") for n in range(1000)]
        for sock in socks:
            sock.sendall(hello)
        work(group)
        until(lambda: open_files(role.pid) <= before + 3, 30, "the files of half-open handshakes")
        for sock in socks:
            sock.close()


@pytest.mark.timeout(180)
def test_5000_silent_strangers_keep_nobody_out_and_cost_little(victim, group):
    address, role = victim
    work(group)
    files, memory, cpu = open_files(role.pid), memory_bytes(role.pid), cpu_s(role.pid)
    with many_files(12_000):
        socks = []
        for number in range(5000):
            socks.append(call(address, f"127.0.4.{number % 50 + 1}"))
            if number % 100 == 0:
                gevent.sleep(0)
        waits = []
        for _ in range(5):
            began = time.monotonic()
            work(group)
            waits.append(time.monotonic() - began)
        most_files, most_memory = open_files(role.pid), memory_bytes(role.pid)
        for sock in socks:
            sock.close()
    assert most_files - files < 2300, "strangers must not take all files"
    assert most_memory - memory < 100 * MIB
    assert max(waits) < 10, waits
    until(lambda: open_files(role.pid) <= files + 3, 30)
    assert cpu_s(role.pid) - cpu < 30


@pytest.mark.timeout(120)
def test_a_flood_of_connections_that_come_and_go_leaves_nothing_behind(victim, group):
    address, role = victim
    files, memory, lines = open_files(role.pid), memory_bytes(role.pid), role.text().count("\n")
    over = time.monotonic() + 4

    def flood(source):
        made = 0
        while time.monotonic() < over:
            with call(address, source) as sock:
                sock.sendall(b"\x16\x03\x01\x00\x05xxxxx" if made % 2 else b"")
            made += 1
            gevent.sleep(0)
        return made

    floods = [gevent.spawn(flood, f"127.0.5.{n + 1}") for n in range(20)]
    work(group)
    gevent.joinall(floods)
    assert sum(each.value for each in floods) > 500
    until(lambda: open_files(role.pid) <= files + 3, 30)
    assert memory_bytes(role.pid) - memory < 60 * MIB
    assert role.text().count("\n") - lines < 20 * 12 + 50
