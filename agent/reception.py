"""The server's side of the login (agent.handshake has the picture)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import scramp
from scramp.utils import ServerError

from agent import codec, messages, wire
from agent.errors import Refused, WireError
from agent.handshake import MECHANISM, Identity, Stream, Verifier, binding
from agent.proof import BINDING

REFUSED_TEXT = "login refused: wrong name or credentials"
BETWEEN_TEXT = (
    "login refused: it was made for another certificate than ours: "
    "somebody sits in between, a TLS proxy or an attacker; do not go on"
)

# scramp lets a malformed message escape as one of the latter: to a stranger all of it is one "no".
MALFORMED = (scramp.ScramException, ValueError, IndexError, KeyError, TypeError)


class Gate(NamedTuple):
    """What a server asks its role about a stranger. All may raise Refused."""

    greet: Callable[[messages.Hello, str], None]  # before the proof: tries left, role spoken here at all
    verifier: Callable[[str, str], Verifier]  # of (role, name); one that fits nobody for an unknown name
    failed: Callable[[str, str, str], None]  # (role, name, address) gave a wrong proof
    admit: Callable[[Identity, str], None]  # after the proof: is this one welcome here and now


def receive(sock: Any, certificate: bytes, gate: Gate, own: Identity, address: str) -> Identity:
    """The server's side. Raises Refused after having told the client, WireError, ConnectFailed."""
    stream = Stream(sock)
    try:
        return _serve(stream, certificate, gate, own, address)
    except Refused as error:
        stream.send(wire.ERROR, messages.Error(error.code, str(error)))
        raise


def _serve(stream: Stream, certificate: bytes, gate: Gate, own: Identity, address: str) -> Identity:
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

    server = scramp.ScramMechanism(MECHANISM).make_server(
        lookup, channel_binding=(BINDING, binding(certificate))
    )
    try:
        server.set_client_first(hello.client_first)
        if claimed != [hello.name]:
            raise scramp.ScramException("the name proved is not the name claimed")
        stream.send(wire.REPLY, messages.Challenge(server.get_server_first()))
        proof = _expect(stream.receive(), messages.Prove)
        # again: others from there may have failed meanwhile, and a hundred at once are many
        gate.greet(hello, address)
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
    message, _left_s = codec.decode(frame.body)
    if frame.kind != wire.REQUEST or not isinstance(message, kind):
        raise WireError(f"{type(message).__name__} came where {kind.__name__} belongs")
    return message
