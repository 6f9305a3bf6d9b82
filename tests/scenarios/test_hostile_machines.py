"""A machine that was broken into has a key and a link to the router. It can hurt itself, and nobody else."""

import statistics
import time
from collections.abc import Iterator

import gevent
import pytest

from agent import codec, messages, wire
from agent.errors import Refused
from agent.outcome import UNKNOWN
from tests.scenarios.attacker import Machine, frame, hung_up, memory_bytes
from tests.scenarios.group import USER, Group, program, running
from tests.waiting import until

ONE, TWO, THREE, EVIL = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.66"
MIB = 1024 * 1024


def key(ip: str, name: str = "game") -> str:
    return f"大区1.{ip}.{name}"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    game = [{"type": "game", "name": "game"}]
    world = {
        "programs": {"game": program("steady")},
        "world": {"大区1": dict.fromkeys((ONE, TWO, THREE, EVIL), game)},
    }
    with running(tmp_path_factory.mktemp("group"), [ONE, TWO, THREE], world) as group:
        group.add_user("vic", "list on *")
        yield group
        for name in ("router", f"daemon-{ONE}", f"daemon-{TWO}"):
            assert "Traceback" not in group.roles[name].text()


@pytest.fixture
def evil(group: Group) -> Iterator[Machine]:
    made = Machine(group, EVIL)
    group.roles["router"].wait_for(f"machine {EVIL}: online")
    yield made
    made.close()
    links(group)


def links(group: Group) -> None:
    """The honest machines are still together: a command goes from one to the other."""
    admin = group.admin(ONE)
    assert all(outcome.good for outcome in admin.operate("start", f"{ONE},{TWO}").values())
    admin.close()


def times_online(group: Group) -> int:
    return group.roles["router"].text().count(": online from 127.0.0.2:") + group.roles[
        "router"
    ].text().count(": online from 127.0.0.3:")


ORDER = messages.OperateMachine("stop", [key(TWO)], USER, "x", command="1")


@pytest.mark.parametrize("src", [TWO, ONE, key(ONE), "", "router", f"{EVIL}\n", f"{EVIL} "])
def test_a_frame_in_anothers_name_ends_the_link_and_never_arrives(group, evil, src):
    links(group)
    said = group.daemon(TWO).said
    evil.send(evil.request(ORDER, TWO, src=src))
    assert hung_up(evil.sock)
    group.roles["router"].wait_for("a frame in the name of")
    assert group.pids(key(TWO))
    assert "stop of 1 processes" not in group.daemon(TWO).text()[said:]


def test_an_application_process_of_another_machine_gives_no_orders(group, evil):
    links(group)
    for message in (ORDER, messages.ReadSessions(False, USER), messages.DescribeProcess(key(TWO), USER)):
        reply = evil.ask(message, TWO, src=key(EVIL))
        assert isinstance(reply, messages.Error) and reply.code == "forbidden"
    assert group.pids(key(TWO))


@pytest.mark.parametrize("dst", [key(TWO), key(TWO, "nobody"), f"大区2.{TWO}.x"])
def test_a_frame_for_something_that_is_not_on_a_machine_does_not_cost_it_its_router(group, evil, dst):
    before = times_online(group)
    reply = evil.ask(ORDER, dst)
    assert isinstance(reply, messages.Error) and reply.code == "unknown_target"
    for kind in (wire.NOTICE, wire.REPLY, wire.ERROR):
        evil.send(frame(kind, b"x", dst, EVIL))
    links(group)
    assert times_online(group) == before


@pytest.mark.parametrize(
    "dst", ["127.0.0.77", "nobody", "0.0.0.0", "大区1.127.0.0.77.x", "x" * 255, "\x00\n\x1b[2J"]
)
def test_a_frame_for_nobody_is_answered_by_the_router(evil, dst):
    reply = evil.ask(ORDER, dst)
    assert isinstance(reply, messages.Error) and reply.code == "unreachable"


@pytest.mark.parametrize(
    "bytes_",
    [
        wire.PREFIX.pack(7, 5, 1, 0, 0),
        wire.PREFIX.pack(7, 0, 1, 0, 0),
        wire.PREFIX.pack(7 + 9, 9, 1, len(TWO), 0) + TWO.encode(),
        wire.PREFIX.pack(6, 1, 1, 0, 0),
        wire.PREFIX.pack(7, 1, 1, 255, 255),
        wire.PREFIX.pack(wire.MAX_FRAME_BYTES + 1, 1, 1, 0, 0),
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_broken_frame_ends_the_link_and_is_not_relayed(group, evil, bytes_):
    evil.send(bytes_)
    assert hung_up(evil.sock)
    group.roles["router"].wait_for("protocol error")


BODIES = {
    "no json": b"\xff\xfe\x00",
    "empty": b"",
    "half": b'["machine.operate", {',
    "deep": b"[" * 100_000,
    "huge number": b'["machine.operate", {"verb": ' + b"9" * 100_000 + b"}]",
    "number of 4000 digits": b'["group.operate", {"pid": ' + b"9" * 4000 + b"}]",
    "unknown": b'["' + b"x" * 500_000 + b'", {}]',
    "wrong types": b'["machine.operate", {"verb": [], "targets": 5, "user": null, "origin": {}}]',
    "odd targets": b'["machine.operate", {"verb": "stop", "targets": [5, null, {}, ["a"], "\\ud800", "a\\nb"],'
    b' "user": "ada", "origin": "\\n\\u001b[2J\\ud800"}]',
    "odd user": b'["machine.operate", {"verb": "stop", "targets": [], "user": "a\\nb\\ud800", "origin": "x"}]',
    "odd time": b'["sessions.read", {"user": "ada", "left_s": -1' + b"0" * 400 + b"}]",
    "nan": b'["sessions.read", {"user": "ada", "left_s": NaN}]',
    "an error": b'["error", {"code": "x", "text": "\\u001b[2J"}]',
    "a farewell": b'["link.goodbye", {"text": "bye\\n2026 forged", "code": "replaced"}]',
    "progress": b'["target.finished", {"command": "1", "outcome": [[], {}, 5]}]',
}


@pytest.mark.parametrize(
    "kind", [wire.REQUEST, wire.REPLY, wire.ERROR, wire.NOTICE], ids="request reply error notice".split()
)
@pytest.mark.parametrize("what", BODIES)
def test_an_odd_body_breaks_no_link_of_others_and_forges_no_line(group, evil, what, kind):
    before, said = times_online(group), group.daemon(TWO).said
    evil.send(frame(kind, BODIES[what], TWO, EVIL, seq=5))
    if kind == wire.REQUEST:
        assert evil.hear(5).kind in (wire.ERROR, wire.REPLY)
    assert isinstance(evil.ask(messages.ReadSessions(False, USER), TWO, seq=6), messages.Sessions)
    links(group)
    assert times_online(group) == before
    text = group.daemon(TWO).text()[said:]
    assert "\x1b" not in text and not any(
        line.startswith(("2026 forged", "b'")) for line in text.splitlines()
    )
    assert max(map(len, text.splitlines()), default=0) < 5000


FOR_ADMINS = [
    messages.OperateGroup("stop", "*", "*", wide=True),
    messages.WatchPicture(follow=True),
    messages.ReadAudit(),
]
FOR_THE_ROUTER = [
    messages.PresenceChanged({"127.0.0.99": {}}, [TWO]),
    messages.PresenceChanged({}, [ONE, TWO]),
]


@pytest.mark.parametrize("message", [*FOR_ADMINS, *FOR_THE_ROUTER], ids=lambda m: codec.NAME_OF[type(m)])
def test_a_daemon_that_says_what_only_others_may_is_refused(group, evil, message):
    links(group)
    reply = evil.ask(message, TWO)
    assert isinstance(reply, messages.Error) and reply.code == "forbidden"
    evil.send(frame(wire.NOTICE, codec.encode(message), TWO, EVIL))
    links(group)
    assert group.pids(key(TWO))


def test_the_router_itself_obeys_no_daemon(group, evil):
    for message in (ORDER, *FOR_ADMINS, *FOR_THE_ROUTER):
        reply = evil.ask(message, "", src="")
        assert isinstance(reply, messages.Error) and reply.code == "bad_request"


@pytest.mark.parametrize("message", [ORDER, *FOR_THE_ROUTER], ids=lambda m: codec.NAME_OF[type(m)])
def test_an_admin_that_says_what_only_daemons_may_is_refused(group, message):
    links(group)
    admin = group.admin(ONE)
    with pytest.raises(Refused) as refused:
        admin.link.call(message, 10)
    assert refused.value.code == "forbidden"
    admin.link.notify(message)
    links(group)
    assert group.pids(key(TWO))


def test_an_admin_that_speaks_for_somebody_else_or_to_somebody_else_loses_his_link(group):
    for dst, src in ((TWO, ""), (key(ONE), ""), ("", TWO), ("", "root")):
        admin = group.admin(ONE)
        admin.link.push(frame(wire.REQUEST, codec.encode(ORDER), dst, src))
        until(lambda admin=admin: admin.link.closed_why)
    links(group)


def test_an_order_in_the_name_of_a_user_who_may_not_is_refused_where_it_executes(group, evil):
    links(group)
    order = messages.OperateMachine("stop", [key(TWO)], "vic", "x")
    (row,) = evil.ask(order, TWO).outcomes
    assert row[1] == "refused"
    nobody = evil.ask(messages.OperateMachine("stop", [key(TWO)], "nobody", "x"), TWO)
    assert isinstance(nobody, messages.Error) and nobody.code == "forbidden"
    assert group.pids(key(TWO))
    assert f"asked by daemon {EVIL}" in group.daemon(TWO).text()


def test_a_daemon_that_answers_for_others_is_not_believed(group, evil):
    admin = group.admin(ONE)
    asked = gevent.spawn(admin.operate, "start", f"{TWO},{EVIL}")
    order = evil.hear_request()
    lie = codec.encode(messages.Outcomes([[key(TWO), "failed", "all is lost", 0], [key(ONE), "ok", "", 1]]))
    evil.send(
        frame(
            wire.NOTICE,
            codec.encode(messages.TargetFinished("x", [key(TWO), "failed", "lost", 0])),
            ONE,
            EVIL,
        ),
        frame(wire.REPLY, lie, ONE, EVIL, order.seq),
    )
    found = asked.get(timeout=20)
    assert found[key(TWO)].good and found[key(EVIL)].result == UNKNOWN and key(ONE) not in found


def test_a_reply_in_the_name_of_another_daemon_ends_the_link(group, evil):
    evil.send(frame(wire.REPLY, codec.encode(messages.Outcomes([[key(TWO), "ok", "", 1]])), ONE, TWO, 7))
    assert hung_up(evil.sock)


def round_trips(group: Group, seconds: float) -> list[float]:
    """How long each of many commands took from the daemon of ONE through the router to that of TWO and back."""
    admin, took, over = group.admin(ONE), [], time.monotonic() + seconds
    while time.monotonic() < over:
        began = time.monotonic()
        admin.call(messages.DescribeProcess(key(TWO)))
        took.append(time.monotonic() - began)
    admin.close()
    return took


@pytest.mark.timeout(120)
def test_a_stopped_daemon_that_is_flooded_delays_no_other_and_its_queue_is_bounded(group, evil):
    links(group)
    router, victim = group.roles["router"], group.daemon(THREE)
    calm, said = round_trips(group, 1.0), router.said
    memory = memory_bytes(router.pid)
    victim.freeze()
    try:
        flooding = gevent.spawn(flood, evil, frame(wire.NOTICE, b"x" * 60_000, THREE, EVIL) * 4)
        busy = round_trips(group, 4.0)
        grown = memory_bytes(router.pid) - memory
        router.wait_for("bytes were waiting to be read by it", said)
        flooding.kill()
    finally:
        victim.thaw()
    usual, flooded = statistics.median(calm), statistics.median(busy)
    assert len(busy) > 20
    assert flooded < max(0.25, 20 * usual) and max(busy) < 2.0, (usual, flooded, max(busy))
    assert grown < 150 * MIB
    router.wait_for(
        f"machine {THREE}: online", router.text().index("bytes were waiting to be read by it", said)
    )
    until(lambda: group.admin(ONE).operate("start", THREE)[key(THREE)].good)


def flood(evil: Machine, chunk: bytes) -> None:
    while True:
        evil.sock.sendall(chunk)


def test_a_machine_that_makes_up_names_costs_the_router_little(group, evil):
    links(group)
    memory = memory_bytes(group.roles["router"].pid)
    for start in range(0, 60_000, 1000):
        evil.send(*(frame(wire.NOTICE, b"", TWO, f"r.{EVIL}.g{n}") for n in range(start, start + 1000)))
    reply = evil.ask(messages.ReadPresence(), "", src="")
    assert {ONE, TWO, EVIL} <= set(reply.machines)
    assert memory_bytes(group.roles["router"].pid) - memory < 40 * MIB
    assert "\n" not in reply.machines[EVIL]["version"] or "\x1b" not in group.roles["router"].text()
