"""Login: four frames, after which both sides have proved themselves to each other.

    client                                             server
    Hello   role, name, SCRAM client-first      -->
                                                <--    Challenge   server-first
    Prove   client-final                        -->
                                                <--    Welcome     server-final

SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the proof covers the hash of the server's certificate, so whoever sits in
between with another certificate fails on both sides. No other mechanism is spoken, so there is nothing to downgrade
to. Before the login is through only frames of 4 KiB are read and the whole login has one short deadline, which the
caller sets. A refusal tells a stranger nothing: unknown name, wrong password and malformed proof look alike.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import scramp
from scramp.utils import ServerError

from agent import messages, wire
from agent.errors import ConnectFailed, LoginRefused, Refused, WireError
from agent.line import one_line

MECHANISM = "SCRAM-SHA-256-PLUS"
REFUSED_TEXT = "login refused: wrong name or credentials"
BETWEEN_TEXT = (
    "login refused: it was made for another certificate than ours: "
    "somebody sits in between, a TLS proxy or an attacker; do not go on"
)
MAX_ITERATIONS = 1_000_000  # half a second of ours; whoever answers in a server's place shall not have more
MAX_TEXT_CHARS = 300  # of a refusal by somebody who has proved nothing yet

# scramp lets a malformed message escape as one of the latter: to us all of it is one "no".
MALFORMED = (scramp.ScramException, ValueError, IndexError, KeyError, TypeError)


class Verifier(NamedTuple):
    """What a server keeps of a password (RFC 5802 §3)."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class Identity(NamedTuple):
    """Who the far end has proved to be."""

    role: str
    name: str
    version: str
    incarnation: int


def binding(certificate: bytes) -> tuple[str, bytes]:
    """RFC 5929 tls-server-end-point of a DER certificate signed with SHA-256."""
    return ("tls-server-end-point", hashlib.sha256(certificate).digest())


class _Stream:
    """Small frames in lockstep; reads not one byte more than a frame has, so that the link finds what follows."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.seq = 0

    def send(self, kind: int, message: Any) -> None:
        self._sock.sendall(wire.pack(kind, self.seq, b"", b"", messages.encode(message)))

    def receive(self) -> wire.Frame:
        head = self._read(wire.PREFIX_BYTES)
        end = wire.frame_end(head, 0, wire.MAX_HELLO_BYTES)
        frame = wire.unpack(head + self._read(end - len(head)), 0, end)
        self.seq = frame.seq
        return frame

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self._sock.recv(count - len(data))
            if not chunk:
                raise ConnectFailed("the other side closed the connection during login")
            data += chunk
        return data


def enter(sock: Any, certificate: bytes, hello: Identity, password: str) -> Identity:
    """The client's side. Raises LoginRefused, ConnectFailed or WireError; the server has proved itself on return."""
    client = scramp.ScramClient([MECHANISM], hello.name, password, channel_binding=binding(certificate))
    stream = _Stream(sock)
    challenge = _ask(
        stream,
        messages.Hello(
            wire.PROTOCOL, hello.role, hello.name, client.get_client_first(), hello.version, hello.incarnation
        ),
    )
    try:
        client.set_server_first(challenge.server_first)
        if client.iterations.value > MAX_ITERATIONS:
            raise ValueError(f"{client.iterations} rounds of stretching are asked for")
        proof = client.get_client_final()
    except MALFORMED as error:
        text = one_line(str(error), MAX_TEXT_CHARS)
        raise LoginRefused(f"the server's part of the login is wrong: {text}") from None
    welcome = _ask(stream, messages.Prove(proof))
    try:
        client.set_server_final(welcome.server_final)
    except MALFORMED:
        raise LoginRefused(
            "the server could not prove that it knows our credentials: somebody may sit in between; do not go on"
        ) from None
    return Identity(welcome.role, welcome.name, welcome.version, 0)


def _ask(stream: _Stream, request: Any) -> Any:
    stream.seq += 1
    asked = stream.seq
    stream.send(wire.REQUEST, request)
    frame = stream.receive()
    try:
        reply, _left_s = messages.decode(frame.body)
    except Refused as error:
        raise WireError(str(error)) from None
    if isinstance(reply, messages.Error):
        raise LoginRefused(one_line(reply.text, MAX_TEXT_CHARS))
    if frame.seq != asked or frame.kind != wire.REPLY or type(reply) is not messages.REPLY_OF[type(request)]:
        raise WireError(f"a {type(reply).__name__} came where the reply to {type(request).__name__} belongs")
    return reply


class Gate(NamedTuple):
    """What a server asks its role about a stranger. All may raise Refused."""

    greet: Callable[[messages.Hello, str], None]  # before the proof: tries left, role spoken here at all
    verifier: Callable[[str, str], Verifier]  # of (role, name); one that fits nobody for an unknown name
    failed: Callable[[str, str, str], None]  # (role, name, address) gave a wrong proof
    admit: Callable[[Identity, str], None]  # after the proof: is this one welcome here and now


def receive(sock: Any, certificate: bytes, gate: Gate, own: Identity, address: str) -> Identity:
    """The server's side. Raises Refused after having told the client, WireError, ConnectFailed."""
    stream = _Stream(sock)
    try:
        return _serve(stream, certificate, gate, own, address)
    except Refused as error:
        stream.send(wire.ERROR, messages.Error(error.code, str(error)))
        raise


def _serve(stream: _Stream, certificate: bytes, gate: Gate, own: Identity, address: str) -> Identity:
    hello = _expect(stream.receive(), messages.Hello)
    if hello.protocol != wire.PROTOCOL:
        raise Refused(
            "bad_request",
            f"protocol {hello.protocol} is not spoken here, only {wire.PROTOCOL} (agent {own.version}): "
            "use the same version",
        )
    gate.greet(hello, address)
    found = gate.verifier(hello.role, hello.name)
    claimed: list[str] = []

    def lookup(user: str) -> Verifier:
        claimed.append(user)
        return found

    server = scramp.ScramMechanism(MECHANISM).make_server(lookup, channel_binding=binding(certificate))
    try:
        server.set_client_first(hello.client_first)
        if claimed != [hello.name]:
            raise scramp.ScramException("the name proved is not the name claimed")
        stream.send(wire.REPLY, messages.Challenge(server.get_server_first()))
        proof = _expect(stream.receive(), messages.Prove)
        gate.greet(
            hello, address
        )  # again: others from there may have failed meanwhile, and a hundred at once are many
        server.set_client_final(proof.client_final)
        final = server.get_server_final()
    except MALFORMED as error:
        if _made_for_another(error):
            raise Refused("forbidden", BETWEEN_TEXT) from None
        gate.failed(hello.role, hello.name, address)
        raise Refused("forbidden", REFUSED_TEXT) from None
    identity = Identity(hello.role, hello.name, hello.version, hello.incarnation)
    gate.admit(identity, address)
    stream.send(wire.REPLY, messages.Welcome(final, own.role, own.name, own.version))
    return identity


def _made_for_another(error: Exception) -> bool:
    """The proof is bound to another certificate: says nothing of name and password, which were not looked at yet."""
    return getattr(error, "server_error", None) is ServerError.CHANNEL_BINDINGS_DONT_MATCH


def _expect(frame: wire.Frame, kind: type) -> Any:
    message, _left_s = messages.decode(frame.body)
    if frame.kind != wire.REQUEST or not isinstance(message, kind):
        raise WireError(f"{type(message).__name__} came where {kind.__name__} belongs")
    return message
