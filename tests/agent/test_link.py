import gevent
import pytest
from gevent import socket
from gevent.event import Event

from agent import certificate, codec, dialer, listener, messages, wire
from agent import link as link_module
from agent.dispatch import SHARED, Table
from agent.errors import LinkLost, NoReply, Refused, StoreDown
from tests.agent.ends import Ends, make_link
from tests.waiting import until


@pytest.fixture
def table():
    return Table(SHARED)


@pytest.fixture
def joined(table):
    made = []

    def make(**more):
        made.append(Ends(table, **more))
        return made[-1]

    yield make
    for ends in made:
        ends.close()


def serve(table, function, ask=("admin",)):
    table.on(messages.ReadPresence, ask=ask)(lambda state, peer, message: function(peer))


def test_a_call_returns_the_reply(table, joined):
    serve(table, lambda peer: messages.Presence({"asked by": {"name": peer.name}}))
    assert joined().left.call(messages.ReadPresence(), 5) == messages.Presence({"asked by": {"name": "ada"}})


def test_many_calls_at_once_each_get_their_own_reply(table, joined):
    numbers = iter(range(100))

    def slow_for_even(peer):
        number = next(numbers)
        gevent.sleep(0.02 if number % 2 == 0 else 0)
        return messages.Presence({"n": {"n": number}})

    serve(table, slow_for_even)
    ends = joined()
    calls = [gevent.spawn(ends.left.call, messages.ReadPresence(), 5) for _ in range(20)]
    gevent.joinall(calls, raise_error=True)
    assert sorted(call.value.machines["n"]["n"] for call in calls) == list(range(20))


def test_the_handler_knows_how_long_its_asker_still_waits(table, joined):
    serve(table, lambda peer: messages.Presence({"left": {"s": peer.left_s()}}))
    assert 6.0 < joined().left.call(messages.ReadPresence(), 7).machines["left"]["s"] <= 7.0


@pytest.mark.parametrize(
    ("failure", "code", "text"),
    [
        (Refused("unknown_target", "no such machine"), "unknown_target", "no such machine"),
        (StoreDown("globaldb redis://x: refused"), "unavailable", "globaldb redis://x: refused"),
        (RuntimeError("secret path /root"), "internal", "internal error in 10.0.0.2: see its log"),
    ],
)
def test_a_failing_handler_reaches_the_asker_as_a_refusal_and_a_bug_stays_in_the_log(
    table, joined, failure, code, text, caplog
):
    def fail(peer):
        raise failure

    serve(table, fail)
    with pytest.raises(Refused) as refused:
        joined().left.call(messages.ReadPresence(), 5)
    assert (refused.value.code, str(refused.value)) == (code, text)
    assert ("secret path" in caplog.text) == (code == "internal")


def test_a_handler_that_returns_the_wrong_reply_is_a_bug(table, joined):
    serve(table, lambda peer: messages.Ping())
    with pytest.raises(Refused, match="internal error"):
        joined().left.call(messages.ReadPresence(), 5)


def test_no_reply_in_time_says_who_was_silent(table, joined):
    serve(table, lambda peer: gevent.sleep(10))
    ends = joined()
    with pytest.raises(
        NoReply, match=r"no reply from daemon 10\.0\.0\.2 at test within 0 s: outcome unknown"
    ):
        ends.left.call(messages.ReadPresence(), 0.05)
    assert not ends.left._calls


def test_an_outer_timeout_passes_through_a_call(table, joined):
    serve(table, lambda peer: gevent.sleep(10))
    ends = joined()
    with pytest.raises(gevent.Timeout) as outer, gevent.Timeout(0.05) as mine:
        ends.left.call(messages.ReadPresence(), 5)
    assert outer.value is mine


def test_a_link_that_ends_tells_every_waiting_caller(table, joined):
    serve(table, lambda peer: gevent.sleep(10))
    ends = joined()
    calls = [gevent.spawn(ends.left.call, messages.ReadPresence(), 5) for _ in range(3)]
    gevent.sleep(0.02)
    ends.right.close("test")
    gevent.joinall(calls, timeout=5)
    assert all(
        isinstance(call.exception, LinkLost) and "outcome unknown" in str(call.exception) for call in calls
    )


def test_a_call_on_a_closed_link_says_that_nothing_was_sent(joined):
    ends = joined()
    ends.left.close("gone fishing")
    with pytest.raises(Refused, match=r"gone fishing.*nothing was sent") as refused:
        ends.left.call(messages.ReadPresence(), 5)
    assert refused.value.code == "unreachable"


def test_a_slow_handler_delays_nobody_else(table, joined):
    release = Event()
    serve(table, lambda peer: release.wait(5) and messages.Presence({}))
    table.on(messages.ReadAudit, ask=("admin",))(lambda *_: messages.AuditLines([]))
    ends = joined()
    slow = gevent.spawn(ends.left.call, messages.ReadPresence(), 5)
    gevent.sleep(0.01)
    assert ends.left.call(messages.ReadAudit(), 5) == messages.AuditLines([])
    assert not slow.ready()
    release.set()
    assert slow.get(timeout=5) == messages.Presence({})


def test_a_reply_from_somebody_else_is_dropped():
    """Daemon C cannot answer in the name of daemon B: `src` of a reply must be whom we asked."""
    a, b = socket.socketpair()
    link = make_link(a, b"10.0.0.1", "router", "")
    run = gevent.spawn(link.run)
    call = gevent.spawn(link.call, messages.ReadPresence(), 5, b"10.0.0.9")
    (request,) = wire.Decoder().feed(b.recv(1000))
    for src, who in ((b"10.0.0.8", "forged"), (b"10.0.0.9", "true")):
        body = codec.encode(messages.Presence({who: {}}))
        b.sendall(wire.pack(wire.REPLY, request.seq, b"10.0.0.1", src, body))
    assert call.get(timeout=5) == messages.Presence({"true": {}})
    b.close()
    run.join(5)


def test_a_forged_src_ends_the_link(table, joined):
    ends = joined()
    ends.left.push(wire.pack(wire.REQUEST, 1, b"", b"10.0.0.7", codec.encode(messages.ReadPresence())))
    until(lambda: ends.right.closed_why)
    assert "in the name of b'10.0.0.7'" in ends.right.closed_why


def test_a_frame_for_somebody_else_ends_a_link_that_relays_nothing(table, joined):
    ends = joined()
    ends.left.push(wire.pack(wire.NOTICE, 1, b"10.0.0.7", b"", codec.encode(messages.Ping())))
    until(lambda: ends.right.closed_why)
    assert "which relays nothing" in ends.right.closed_why


def test_garbage_ends_the_link_with_a_reason(joined):
    ends = joined()
    ends.left.push(b"GET / HTTP/1.0\r\n\r\n")
    until(lambda: ends.right.closed_why)
    assert "protocol error" in ends.right.closed_why


def test_a_peer_that_does_not_read_loses_its_link_and_its_queue_stays_bounded():
    a, b = socket.socketpair()
    link = make_link(a, b"", "daemon", "10.0.0.2", queue_bytes=100_000)
    run = gevent.spawn(link.run)
    pushed = 0
    while link.push(b"x" * 1000):
        pushed += 1
        assert link.queued_bytes <= 100_000
        gevent.sleep(0)
    assert pushed >= 100 and "were not read" in link.closed_why
    run.join(5)
    b.close()


def test_a_peer_that_never_stops_speaking_leaves_turns_to_others(table):
    reads, turns = 3200, []
    a, b = socket.socketpair()
    ping = wire.pack(wire.NOTICE, 0, b"", b"", codec.encode(messages.Ping()))
    talker = make_link(a, b"", "daemon", "10.0.0.2", table)
    talker._sock = Talker([ping] * reads)
    others = gevent.spawn(lambda: [turns.append(gevent.sleep(0)) for _ in range(reads)])
    with a, b:
        talker.run()
    others.kill()
    assert len(turns) >= reads / link_module.TURN_READS / 2


class Talker:
    """A socket on which there is always more to read, until there is nothing for ever."""

    def __init__(self, chunks):
        self.chunks = chunks

    def recv(self, _most):
        return self.chunks.pop() if self.chunks else b""

    def shutdown(self, how):
        pass

    def close(self):
        pass


def test_a_tls_link_closed_just_as_something_comes_ends_without_a_fault(tmp_path, monkeypatch, table):
    a, b = socket.socketpair()
    server_side = listener._server_context(certificate.own_certificate(tmp_path))
    serving = gevent.spawn(server_side.wrap_socket, b, server_side=True)
    tls = dialer._client_context().wrap_socket(a)
    client = make_link(tls, b"", "daemon", "10.0.0.2", table)
    read = tls.read

    def closed_meanwhile(count):
        client.close("enough")
        return read(count)

    monkeypatch.setattr(tls, "read", closed_meanwhile)
    with serving.get(timeout=5):
        assert client.run() == "enough"


def test_silence_ends_a_link(monkeypatch):
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(link_module, "SILENCE_S", 0.2)
    a, b = socket.socketpair()
    link = make_link(a, b"", "daemon", "10.0.0.2")
    assert "silent for" in gevent.spawn(link.run).get(timeout=5)
    b.close()


def test_heartbeats_keep_an_idle_link(monkeypatch, table, joined):
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(link_module, "SILENCE_S", 0.3)
    ends = joined(left_table=Table(SHARED))
    gevent.sleep(0.8)
    assert not ends.left.closed_why and not ends.right.closed_why


def test_goodbye_reaches_the_other_side_as_its_reason(table, joined):
    ends = joined(left_table=Table(SHARED))
    gevent.sleep(0.01)
    ends.right.goodbye("replaced by a newer connection", "replaced")
    until(lambda: ends.left.closed_why)
    assert ends.left.closed_why == "replaced by a newer connection"
    assert ends.left.farewell == messages.Goodbye("replaced by a newer connection", "replaced")


def test_requests_under_way_are_limited(monkeypatch, table, joined):
    monkeypatch.setattr(link_module, "MAX_HANDLERS", 3)
    serve(table, lambda peer: gevent.sleep(0.2) or messages.Presence({}))
    ends = joined()
    calls = [gevent.spawn(ends.left.call, messages.ReadPresence(), 5) for _ in range(5)]
    gevent.joinall(calls)
    assert sorted(getattr(call.exception, "code", "ok") for call in calls) == ["ok"] * 3 + ["too_many"] * 2


@pytest.fixture
def routed():
    """A daemon's link to the router, and the router's end of its socket."""
    made = []

    def make(table=None):
        a, b = socket.socketpair()
        link = make_link(a, b"10.0.0.1", "router", "", table)
        made.append((link, b, gevent.spawn(link.run)))
        return link, b

    yield make
    for link, sock, run in made:
        link.close("test over")
        sock.close()
        run.join(5)


def hear(sock):
    decoder = wire.Decoder()
    while data := sock.recv(65536):
        if frames := list(decoder.feed(data)):
            return frames[0]
    raise AssertionError("the link was closed")


def test_a_frame_that_another_machine_sent_astray_does_not_cost_us_the_router(routed):
    link, router = routed(Table(SHARED))
    for dst in ("大区1.10.0.0.1.game1".encode(), b"\xff\xfe", b"10.0.0.9"):
        router.sendall(wire.pack(wire.REQUEST, 7, dst, b"10.0.0.8", codec.encode(messages.ReadPresence())))
        refusal = hear(router)
        assert (refusal.kind, refusal.seq, refusal.dst) == (wire.ERROR, 7, b"10.0.0.8")
        assert codec.decode(refusal.body)[0].code == "unknown_target"
        router.sendall(wire.pack(wire.NOTICE, 0, dst, b"10.0.0.8", b"x"))
    assert not link.closed_why


def test_an_application_process_of_another_machine_is_no_daemon(routed):
    table = Table()
    table.on(messages.ReadPresence, ask=("daemon",))(lambda *_: messages.Presence({}))
    _, router = routed(table)
    for src, kind in ((b"10.0.0.8", wire.REPLY), ("大区1.10.0.0.8.game1".encode(), wire.ERROR)):
        router.sendall(wire.pack(wire.REQUEST, 7, b"10.0.0.1", src, codec.encode(messages.ReadPresence())))
        assert hear(router).kind == kind


def test_a_reply_of_the_wrong_kind_is_no_reply(routed):
    link, router = routed()
    call = gevent.spawn(link.call, messages.ReadPresence(), 5, b"10.0.0.9")
    asked = hear(router)
    body = codec.encode(messages.Sessions([]))
    router.sendall(wire.pack(wire.REPLY, asked.seq, b"10.0.0.1", b"10.0.0.9", body))
    with pytest.raises(Refused, match="sessions came as the reply; the outcome is unknown"):
        call.get(timeout=5)


def test_one_machine_that_floods_takes_no_turn_from_another(monkeypatch, routed):
    monkeypatch.setattr(link_module, "MAX_HANDLERS", 3)
    table = Table()
    table.on(messages.ReadPresence, ask=("daemon",))(lambda *_: gevent.sleep(5) or messages.Presence({}))
    table.on(messages.ReadAudit, ask=("daemon",))(lambda *_: messages.AuditLines([]))
    link, router = routed(table)
    slow = codec.encode(messages.ReadPresence())
    router.sendall(b"".join(wire.pack(wire.REQUEST, n, b"10.0.0.1", b"10.0.0.8", slow) for n in range(1, 5)))
    refused = hear(router)
    assert (refused.kind, refused.dst) == (wire.ERROR, b"10.0.0.8")
    router.sendall(wire.pack(wire.REQUEST, 9, b"10.0.0.1", b"10.0.0.9", codec.encode(messages.ReadAudit())))
    assert (hear(router).kind, len(link._handlers)) == (wire.REPLY, 1)


def test_a_request_that_comes_as_a_notice_does_not_hold_up_the_reader(routed, caplog):
    """Its handler may wait, and a notice is handled in the reader: one speaker would stop all others."""
    handled = []
    table = Table(SHARED)
    table.on(messages.ReadPresence, ask=("daemon",))(lambda *_: handled.append("") or gevent.sleep(60))
    table.on(messages.ReadAudit, ask=("daemon",))(lambda *_: messages.AuditLines([]))
    _, router = routed(table)
    order = wire.pack(wire.NOTICE, 0, b"10.0.0.1", b"10.0.0.8", codec.encode(messages.ReadPresence()))
    ask = wire.pack(wire.REQUEST, 3, b"10.0.0.1", b"10.0.0.9", codec.encode(messages.ReadAudit()))
    router.sendall(order * 1000 + ask)
    assert hear(router).kind == wire.REPLY and not handled
    assert caplog.text.count("presence.read came as a notice") == link_module.COMPLAINTS


def test_a_notice_that_comes_as_a_request_is_refused_and_no_bug_of_ours(routed, caplog):
    link, router = routed(Table(SHARED))
    bye = codec.encode(messages.Goodbye("x", "replaced"))
    router.sendall(wire.pack(wire.REQUEST, 3, b"10.0.0.1", b"", bye))
    assert codec.decode(hear(router).body)[0].code == "bad_request"
    assert link.farewell is None and "bug" not in caplog.text
