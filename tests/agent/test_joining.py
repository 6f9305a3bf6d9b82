"""An application's way in over real sockets: one frame, told yes or no."""

import gevent
import pytest
from gevent import socket

from agent import codec, wire
from agent.address import Address
from agent.certificate import own_certificate
from agent.errors import Refused, WireError
from agent.handshake import Identity
from agent.joining import Admitted, admit
from agent.listener import Listener
from agent.messages import Error, Hello, Join, Joined
from tests.agent.test_handshake import SERVER, Door

JOIN = Join(1, "大区1.10.0.0.1.game1", "9f86", "6b51", 7, "python 0.1")
JOINED = Joined("10.0.0.1", "0.1.0", 5.0, "redis://10.0.0.9:6379")


class Admission:
    """Takes whoever has the token, from 127.0.0.1 only."""

    def __init__(self):
        self.asked = []

    def is_from_here(self, host):
        return host == "127.0.0.1"

    def admit(self, asked):
        self.asked.append(asked)
        if asked.token != JOIN.token:
            raise Refused("forbidden", "the token is not that of this run")
        return Admitted(Identity("app", asked.key, asked.sdk, 0), JOINED)


@pytest.fixture
def admission():
    return Admission()


@pytest.fixture
def ends():
    pair = socket.socketpair()
    yield pair
    for end in pair:
        end.close()


def frame(message, kind=wire.REQUEST, seq=9):
    return wire.pack(kind, seq, b"", b"", codec.encode(message))


def hung_up(sock):
    """Without having said anything; what was sent to a closed socket and not read is a reset."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def answer(sock):
    (came,) = wire.Decoder().feed(sock.recv(65536))
    return came.kind, came.seq, codec.decode(came.body)[0]


def test_who_has_the_token_is_let_in_and_not_one_byte_more_is_read(ends, admission):
    application, daemon = ends
    application.sendall(frame(JOIN) + b"what follows")
    assert admit(daemon, admission, "127.0.0.1") == Identity("app", JOIN.key, "python 0.1", 0)
    assert answer(application) == (wire.REPLY, 9, JOINED) and admission.asked == [JOIN]
    assert daemon.recv(100) == b"what follows"


def test_a_frame_from_another_machine_is_not_looked_at(ends, admission):
    application, daemon = ends
    application.sendall(frame(JOIN))
    with pytest.raises(WireError, match="another machine"):
        admit(daemon, admission, "127.0.0.9")
    assert not admission.asked and daemon.recv(4) == frame(JOIN)[:4]
    daemon.close()
    assert hung_up(application), "it is told nothing"


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (frame(Join(1, JOIN.key, "9f86", "other")), "forbidden", "the token is not that of this run"),
        (frame(Join(2, JOIN.key, "9f86", "6b51")), "bad_request", "protocol 2 is not spoken here, only 1"),
        (
            wire.pack(wire.REQUEST, 9, b"", b"", b'["no.such", {}]'),
            "bad_request",
            "unknown message 'no.such'",
        ),
        (
            wire.pack(wire.REQUEST, 9, b"", b"", b'["session.join", {"key": 5}]'),
            "bad_request",
            "field key is not str",
        ),
        (
            wire.pack(wire.REQUEST, 9, b"", b"", b'["session.join", {"protocol": 1}]'),
            "bad_request",
            "is missing",
        ),
    ],
)
def test_a_refusal_is_told(ends, admission, sent, code, text):
    application, daemon = ends
    application.sendall(sent)
    with pytest.raises(Refused, match=text) as refused:
        admit(daemon, admission, "127.0.0.1")
    kind, seq, told = answer(application)
    assert (kind, seq, told.code, told.text) == (wire.ERROR, 9, code, str(refused.value))


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (frame(Hello(1, "admin", "ada", "n,,")), "Hello came where Join belongs"),
        (frame(JOIN, wire.NOTICE), "Join came where Join belongs"),
        (frame(Error("forbidden", "x"), wire.ERROR), "Error came where Join belongs"),
        (wire.pack(wire.REQUEST, 9, b"", b"", b"rubbish"), "is not JSON"),
        (frame(Join(1, "k" * 5000, "", "")), "the limit is 4096"),
        (b"\x7f" * 64, "the limit is 4096"),
    ],
)
def test_what_is_no_join_is_hung_up_on_without_a_word(ends, admission, sent, complaint):
    application, daemon = ends
    application.sendall(sent)
    with pytest.raises(WireError, match=complaint):
        admit(daemon, admission, "127.0.0.1")
    assert not admission.asked
    daemon.close()
    assert hung_up(application)


# ---- the listener in front of it


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return own_certificate(tmp_path_factory.mktemp("joining"))


@pytest.fixture
def listening(certificate):
    made = []

    def listen(admission):
        guests = []

        def serve(sock, identity, address):
            guests.append(identity)
            sock.close()

        made.append(Listener(Address("127.0.0.1", 0), certificate, Door().gate(), SERVER, serve, admission))
        made[-1].guests = guests
        return made[-1]

    yield listen
    for listener in made:
        listener.stop()


def say(listener, sent, source="127.0.0.1"):
    """What it answers until it hangs up."""
    with (
        gevent.Timeout(5),
        socket.create_connection(("127.0.0.1", listener.port), source_address=(source, 0)) as sock,
    ):
        sock.sendall(sent)
        heard = b""
        try:
            while data := sock.recv(65536):
                heard += data
        except ConnectionResetError:
            pass
        return [codec.decode(each.body)[0] for each in wire.Decoder().feed(heard)]


def test_one_port_takes_applications_in_plain_text(listening, admission):
    listener = listening(admission)
    assert say(listener, frame(JOIN)) == [JOINED]
    assert listener.guests == [Identity("app", JOIN.key, JOIN.sdk, 0)]
    assert say(listener, frame(Join(1, JOIN.key, "", ""))) == [
        Error("forbidden", "the token is not that of this run")
    ]
    assert say(listener, frame(JOIN), "127.0.0.2") == [] and len(listener.guests) == 1


def test_who_has_no_applications_takes_no_plain_text(listening):
    assert say(listening(None), frame(JOIN)) == []
