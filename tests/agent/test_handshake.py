"""Login without its TLS: both ends are given the certificate that TLS would show them."""

import gevent
import pytest
import scramp
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from agent import codec, entrance, handshake, messages, proof, reception, wire
from agent.errors import AgentError, ConnectFailed, LoginRefused, Refused, WireError
from agent.handshake import Identity, Verifier
from agent.reception import Gate

CERTIFICATE, OTHER_CERTIFICATE = b"the server's", b"of somebody in between"
ADA = Identity("admin", "ada", "1.0", 7)
SERVER = Identity("daemon", "10.0.0.2", "2.0", 0)
PASSWORD = "correct horse"
VERIFIER = Verifier(*scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(PASSWORD, 4096))


class Door:
    """A gate that knows ada, and notes what it is asked."""

    def __init__(self, **refusals):
        self.calls = []
        self.refusals = refusals

    def gate(self):
        return Gate(*(self._part(name) for name in Gate._fields))

    def _part(self, name):
        def asked(*args):
            self.calls.append(name)
            if name in self.refusals:
                raise self.refusals[name]
            return VERIFIER if args == ("admin", "ada") else Verifier(b"s" * 16, b"k" * 32, b"k" * 32, 4096)

        return asked


def log_in(door=None, *, hello=ADA, password=PASSWORD, seen_by_client=CERTIFICATE):
    """(what the client's side returned or raised, the same of the server's)"""
    a, b = socket.socketpair()
    gate = (door or Door()).gate()
    server = gevent.spawn(attempt, b, lambda: reception.receive(b, CERTIFICATE, gate, SERVER, "test"))
    client = gevent.spawn(attempt, a, lambda: entrance.enter(a, seen_by_client, hello, password))
    return client.get(timeout=5), server.get(timeout=5)


def attempt(sock, function):
    try:
        return function()
    except AgentError as error:
        return error
    finally:
        sock.close()


def converse(*frames, door=None):
    """Say these frames to a server, whatever it answers; (its frames, what its side returned or raised)."""
    a, b = socket.socketpair()
    gate = (door or Door()).gate()
    server = gevent.spawn(attempt, b, lambda: reception.receive(b, CERTIFICATE, gate, SERVER, "test"))
    heard = b""
    try:
        for frame in frames:
            a.sendall(frame)
            gevent.sleep(0.01)
        a.shutdown(socket.SHUT_WR)
        while data := a.recv(65536):
            heard += data
    except OSError:
        pass  # the server hung up on us
    finally:
        a.close()
    return list(wire.Decoder().feed(heard)), server.get(timeout=5)


def request(message, seq=1):
    return wire.pack(wire.REQUEST, seq, b"", b"", codec.encode(message))


def hello(client_first, **fields):
    return request(messages.Hello(**{"protocol": wire.PROTOCOL, "role": "admin", "name": "ada", **fields,
                                     "client_first": client_first}))  # fmt: skip


def client_first(name="ada"):
    binding = (proof.BINDING, handshake.binding(CERTIFICATE))
    return scramp.ScramClient([handshake.MECHANISM], name, "x", channel_binding=binding).get_client_first()


def errors(frames):
    return [codec.decode(frame.body)[0] for frame in frames if frame.kind == wire.ERROR]


def test_both_sides_learn_who_the_other_is():
    client, server = log_in()
    assert client == Identity("daemon", "10.0.0.2", "2.0", 0)
    assert server == ADA


def test_a_wrong_password_and_an_unknown_name_are_refused_in_the_same_words_and_frames():
    told = set()
    for name, password in (("ada", "wrong"), ("nobody", PASSWORD), ("ada", ""), ("nobody", "wrong")):
        door = Door()
        client, server = log_in(door, hello=ADA._replace(name=name), password=password)
        assert isinstance(client, LoginRefused) and isinstance(server, Refused)
        assert door.calls == ["greet", "verifier", "greet", "failed"]
        told.add(str(client))
    assert told == {reception.REFUSED_TEXT}


def test_somebody_in_between_fails_and_the_client_says_so():
    door = Door()
    client, server = log_in(door, seen_by_client=OTHER_CERTIFICATE)
    assert isinstance(client, LoginRefused) and "somebody sits in between" in str(client)
    assert isinstance(server, Refused) and "admit" not in door.calls and "failed" not in door.calls


def test_somebody_in_between_who_hides_the_refusal_fails_too():
    a, b = socket.socketpair()
    client = gevent.spawn(attempt, a, lambda: entrance.enter(a, CERTIFICATE, ADA, PASSWORD))
    stream = handshake.Stream(b)
    asked, _ = codec.decode(stream.receive().body)
    server = scramp.ScramMechanism(handshake.MECHANISM).make_server(
        lambda _user: Verifier(b"s" * 16, b"k" * 32, b"k" * 32, 4096),
        (proof.BINDING, handshake.binding(CERTIFICATE)),
    )
    server.set_client_first(asked.client_first)
    stream.send(wire.REPLY, messages.Challenge(server.get_server_first()))
    stream.receive()
    stream.send(wire.REPLY, messages.Welcome("v=" + "A" * 43 + "=", "daemon", "10.0.0.2"))
    refusal = client.get(timeout=5)
    assert isinstance(refusal, LoginRefused) and "could not prove" in str(refusal)
    b.close()


@pytest.mark.parametrize("flag", ["n", "y", "p=tls-unique", "p=tls-exporter", ""])
def test_a_login_without_binding_or_with_another_kind_is_refused(flag):
    _, bare = client_first().split(",,", 1)
    door = Door()
    frames, server = converse(hello(f"{flag},,{bare}"), door=door)
    assert [error.text for error in errors(frames)] == [reception.REFUSED_TEXT]
    assert isinstance(server, Refused) and "admit" not in door.calls


def test_the_name_proved_must_be_the_name_claimed():
    frames, server = converse(hello(client_first("eve")))
    assert [error.text for error in errors(frames)] == [reception.REFUSED_TEXT]
    assert isinstance(server, Refused)


def test_a_recorded_login_played_again_fails():
    a, b = socket.socketpair()
    said = []

    class Recorder:
        def sendall(self, data):
            said.append(data)
            a.sendall(data)

        recv = staticmethod(a.recv)

    server = gevent.spawn(
        attempt, b, lambda: reception.receive(b, CERTIFICATE, Door().gate(), SERVER, "test")
    )
    entrance.enter(Recorder(), CERTIFICATE, ADA, PASSWORD)
    assert server.get(timeout=5) == ADA and len(said) == 2
    door = Door()
    frames, server = converse(*said, door=door)
    assert [error.text for error in errors(frames)] == [reception.REFUSED_TEXT]
    assert isinstance(server, Refused) and "admit" not in door.calls


def test_tries_that_go_on_at_the_same_time_count_too():
    """A hundred connections that were all greeted before the first failed are still a hundred tries."""
    door = Door()
    greetings = []

    def greet(*_):
        greetings.append("")
        if len(greetings) == 2:
            raise Refused("too_many", "wait")

    a, b = socket.socketpair()
    gate = door.gate()._replace(greet=greet)
    server = gevent.spawn(attempt, b, lambda: reception.receive(b, CERTIFICATE, gate, SERVER, "test"))
    with pytest.raises(LoginRefused, match="wait"):
        entrance.enter(a, CERTIFICATE, ADA, PASSWORD)
    assert isinstance(server.get(timeout=5), Refused) and "admit" not in door.calls
    a.close()


@pytest.mark.parametrize("part", ["greet", "verifier", "admit"])
def test_a_gate_that_says_no_is_heard_by_the_client_in_its_own_words(part):
    client, server = log_in(Door(**{part: Refused("forbidden", f"no at {part}")}))
    assert str(client) == str(server) == f"no at {part}"


def test_another_protocol_is_told_the_versions():
    frames, _ = converse(hello(client_first(), protocol=99))
    assert "protocol 99 is not spoken here, only 1 (agent 2.0)" in errors(frames)[0].text


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01" + b"x" * 200,
        wire.PREFIX.pack(4097, 1, 0, 0, 0),
        wire.PREFIX.pack(6, 1, 0, 0, 0),
        wire.pack(wire.REQUEST, 1, b"", b"", b"[" * 4000),
        wire.pack(wire.REQUEST, 1, b"", b"", b'["session.hello", {}]'),
        wire.pack(wire.REQUEST, 1, b"", b"", b'["session.prove", {"client_final": "x"}]'),
        wire.pack(wire.NOTICE, 1, b"", b"", codec.encode(messages.Ping())),
        wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(messages.OperateGroup("stop", "*", "*"))),
        request(messages.Hello(1, "admin", "ada", "\ud800")),
        b"",
        b"\x00",
    ],
)
def test_anything_but_a_hello_ends_the_connection_and_reaches_no_gate(bytes_):
    door = Door()
    _, server = converse(bytes_, door=door)
    assert isinstance(server, WireError | Refused | ConnectFailed)
    assert "admit" not in door.calls


@given(st.text(max_size=60) | st.builds("n,,n=ada,r={}".format, st.text(max_size=20)))
def test_any_client_first_is_refused_or_challenged(text):
    frames, server = converse(hello(text))
    assert isinstance(server, Refused | ConnectFailed | WireError)
    assert all(error.text == reception.REFUSED_TEXT for error in errors(frames))


@given(st.text(max_size=80))
def test_any_client_final_is_refused(text):
    frames, server = converse(hello(client_first()), request(messages.Prove(text), 2))
    assert isinstance(server, Refused)
    assert errors(frames)[0].text in (reception.REFUSED_TEXT, reception.BETWEEN_TEXT)


def answer(*replies):
    """What the client's side raises when a server says this."""
    a, b = socket.socketpair()
    client = gevent.spawn(attempt, a, lambda: entrance.enter(a, CERTIFICATE, ADA, PASSWORD))
    stream = handshake.Stream(b)
    for kind, message in replies:
        asked, _ = codec.decode(stream.receive().body)
        nonce = asked.client_first.rpartition("r=")[2] if isinstance(asked, messages.Hello) else ""
        if isinstance(message, messages.Challenge):
            message = messages.Challenge(message.server_first.replace("NONCE", nonce))
        stream.send(kind, message)
    try:
        return client.get(timeout=5)
    finally:
        b.close()


@given(
    st.text(max_size=60) | st.builds("r=NONCEx,s={},i={}".format, st.text(max_size=20), st.text(max_size=8))
)
def test_whatever_a_false_server_says_the_client_ends_with_an_error_for_people(text):
    refusal = answer((wire.REPLY, messages.Challenge(text)))
    assert isinstance(refusal, LoginRefused) and str(refusal).isprintable()


def test_a_false_server_cannot_keep_the_client_busy():
    refusal = answer((wire.REPLY, messages.Challenge(f"r=NONCEx,s={'QUJD' * 5},i=9999999")))
    assert isinstance(refusal, LoginRefused) and "9999999 rounds" in str(refusal)


def test_a_refusal_does_not_steer_the_operators_terminal_nor_fill_it():
    refusal = answer((wire.ERROR, messages.Error("forbidden", "\x1b[2J\x1b]0;owned\x07ok\r\n" + "x" * 3000)))
    assert str(refusal).startswith(r"\x1b[2J\x1b]0;owned\x07ok\r\nxxx")
    assert str(refusal).isprintable() and len(str(refusal)) < 400


def test_the_reply_to_another_request_is_a_broken_protocol():
    refusal = answer((wire.REPLY, messages.Welcome("x", "daemon", "x")))
    assert isinstance(refusal, WireError) and "Welcome came where the reply to Hello belongs" in str(refusal)
