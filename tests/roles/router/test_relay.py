"""The relay against a router so slow and plain that anybody sees it is right."""

import json

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from agent import codec, wire
from agent.dispatch import SHARED, Table
from agent.errors import WireError
from roles.router import relay as relay_module
from roles.router.relay import RelayLink

OWN, NEAR, FAR, AWAY = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"
FORGED = {b"", b"10.0.0.2", "大区1.10.0.0.2.game1".encode(), b"\xff", b"10.0.0.1x"}
GOOD_SRC = {OWN.encode(), f"大区1.{OWN}.game1".encode(), f"大区1.{OWN}.game2".encode()}
DST = {
    b"",
    NEAR.encode(),
    FAR.encode(),
    f"大区1.{NEAR}.game1".encode(),
    AWAY.encode(),
    b"\xff\xfe",
    b"nobody",
}

frames = st.builds(
    wire.Frame,
    kind=st.sampled_from(sorted(wire.KINDS)),
    seq=st.integers(0, wire.MAX_SEQ),
    dst=st.sampled_from(sorted(DST)),
    src=st.sampled_from(sorted(GOOD_SRC)),
    body=st.binary(max_size=40),
)
bad_frames = st.builds(
    wire.Frame._replace, frames, src=st.sampled_from(sorted(FORGED)), dst=st.just(FAR.encode())
)
bad_bytes = st.sampled_from(
    [
        wire.PREFIX.pack(7, 5, 0, 0, 0),  # a kind that is none
        wire.PREFIX.pack(7, 0, 0, 0, 0),
        wire.PREFIX.pack(6, 1, 0, 0, 0),
        wire.PREFIX.pack(8, 1, 0, 9, 9) + b"x",
        wire.PREFIX.pack(wire.MAX_FRAME_BYTES + 1, 1, 0, 0, 0),
        b"GET / HTTP/1.1\r\n\r\n",
    ]
)


class Pipe(RelayLink):
    """A link that notes what would be written to its socket."""

    def __init__(self, ip: str) -> None:
        a, self.far_end = socket.socketpair()
        super().__init__(
            a, local=b"", role="daemon", name=ip, address="test", table=Table(SHARED), state=None
        )
        self.received: list[wire.Frame] = []

    def receive(self, frame: wire.Frame) -> None:
        self.received.append(frame)

    def written(self) -> list[wire.Frame]:
        return list(wire.Decoder().feed(b"".join(self._out)))

    def end(self) -> None:
        self.close("test over")
        self.far_end.close()


@pytest.fixture
def links():
    made = join()
    yield made
    part(made)


def join() -> dict[str, Pipe]:
    links = {ip: Pipe(ip) for ip in (OWN, NEAR, FAR)}
    for link in links.values():
        link.relay_between(links)
    return links


def part(links: dict[str, Pipe]) -> None:
    for link in links.values():
        link.end()


def plain_router(sent: list[wire.Frame]) -> dict[str, list]:
    """ip -> what comes to it, and under "router" what is for the router itself."""
    arrives: dict[str, list] = {"router": [], OWN: [], NEAR: [], FAR: []}
    for frame in sent:
        if not frame.dst:
            arrives["router"].append(frame)
        elif frame.dst == FAR.encode():
            arrives[FAR].append(frame)
        elif frame.dst in (NEAR.encode(), f"大区1.{NEAR}.game1".encode()):
            arrives[NEAR].append(frame)
        elif frame.kind == wire.REQUEST:
            arrives[OWN].append((frame.seq, frame.src))  # a refusal
    return arrives


@given(
    st.lists(frames, max_size=12),
    st.lists(bad_frames.map(lambda f: wire.pack(*f)) | bad_bytes, max_size=1),
    st.data(),
)
def test_it_relays_what_a_plain_router_would_however_the_stream_is_cut(sent, bad, data):
    links = join()
    try:
        stream = b"".join(wire.pack(*frame) for frame in sent) + b"".join(bad)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
        refused = False
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            try:
                links[OWN].consume(stream[start:end])
            except WireError:
                refused = True
                break
        expected = plain_router(sent)
        assert refused == bool(bad)
        assert links[OWN].received == expected["router"]
        assert {ip: links[ip].written() for ip in (NEAR, FAR)} == {ip: expected[ip] for ip in (NEAR, FAR)}
        refusals = links[OWN].written()
        assert [(frame.seq, frame.dst) for frame in refusals] == expected[OWN]
        assert all(frame.kind == wire.ERROR and not frame.src for frame in refusals)
    finally:
        part(links)


def test_a_forged_src_never_reaches_its_target_even_behind_a_good_frame(links):
    good = wire.pack(wire.NOTICE, 0, FAR.encode(), OWN.encode(), b"good")
    for src in sorted(FORGED):
        with pytest.raises(WireError, match="in the name of"):
            links[OWN].consume(good + wire.pack(wire.NOTICE, 0, FAR.encode(), src, b"forged"))
    assert {frame.body for frame in links[FAR].written()} == {b"good"}


def test_bodies_are_never_read(links):
    nasty = [
        b"",
        b"\xff" * 50,
        b"[" * 5000,
        b'["x", {"n": ' + b"9" * 10_000 + b"}]",
        json.dumps(["error", {}]).encode(),
    ]
    for body in nasty:
        links[OWN].consume(wire.pack(wire.REQUEST, 1, FAR.encode(), OWN.encode(), body))
    assert [frame.body for frame in links[FAR].written()] == nasty


def test_a_machine_that_makes_up_names_costs_a_bounded_memory(links, monkeypatch):
    monkeypatch.setattr(relay_module, "MAX_ROUTES", 100)
    for number in range(1000):
        src = f"r.{OWN}.game{number}".encode()
        links[OWN].consume(wire.pack(wire.NOTICE, 0, FAR.encode(), src, b""))
        assert len(links[OWN]._routes) <= 100
    assert len(links[FAR].written()) == 1000


def test_a_target_that_does_not_read_is_dropped_and_the_asker_is_told(links):
    run = gevent.spawn(links[FAR].run)
    run.kill()
    links[FAR].closed_why = ""
    links[FAR]._queue_bytes = 500
    request = wire.pack(wire.REQUEST, 5, FAR.encode(), OWN.encode(), b"x" * 200)
    for _ in range(3):
        links[OWN].consume(request)
    (refusal,) = links[OWN].written()
    error, _ = codec.decode(refusal.body)
    assert (refusal.kind, refusal.seq, error.code) == (wire.ERROR, 5, "overloaded")
    assert "were not read" in links[FAR].closed_why
    assert f"daemon {FAR}" in error.text and "nothing was sent" in error.text


def test_a_link_that_was_replaced_is_heard_no_more(links):
    links[OWN].retire()
    links[OWN].consume(wire.pack(wire.NOTICE, 0, FAR.encode(), OWN.encode(), b"late"))
    assert not links[FAR].written()
