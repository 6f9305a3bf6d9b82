"""The client's side of the login (agent.handshake has the picture)."""

from typing import Any

from agent import codec, messages, wire
from agent.errors import LoginRefused, Refused, WireError
from agent.handshake import Identity, Stream, binding
from agent.line import one_line
from agent.proof import ClientProof, Unproved

MAX_TEXT_CHARS = 300  # of a refusal by somebody who has proved nothing yet


def enter(sock: Any, certificate: bytes, hello: Identity, password: str) -> Identity:
    """Raises LoginRefused, ConnectFailed or WireError; the server has proved itself on return."""
    stream = Stream(sock)
    try:
        client = ClientProof(hello.name, password, binding(certificate))
    except Unproved as error:
        raise LoginRefused(str(error)) from None
    challenge = _ask(
        stream,
        messages.Hello(wire.PROTOCOL, hello.role, hello.name, client.first, hello.version, hello.incarnation),
    )
    try:
        proof = client.final(challenge.server_first)
    except Unproved as error:
        text = one_line(str(error), MAX_TEXT_CHARS)
        raise LoginRefused(f"the server's part of the login is wrong: {text}") from None
    welcome = _ask(stream, messages.Prove(proof))
    try:
        client.verify(welcome.server_final)
    except Unproved:
        raise LoginRefused(
            "the server could not prove that it knows our credentials: somebody may sit in between; do not go on"
        ) from None
    return Identity(welcome.role, welcome.name, welcome.version, 0)


def _ask(stream: Stream, request: Any) -> Any:
    stream.seq += 1
    asked = stream.seq
    stream.send(wire.REQUEST, request)
    frame = stream.receive()
    try:
        reply, _left_s = codec.decode(frame.body)
    except Refused as error:
        raise WireError(str(error)) from None
    if isinstance(reply, messages.Error):
        raise LoginRefused(one_line(reply.text, MAX_TEXT_CHARS), reply.code)
    if frame.seq != asked or frame.kind != wire.REPLY or type(reply) is not codec.REPLY_OF[type(request)]:
        raise WireError(f"a {type(reply).__name__} came where the reply to {type(request).__name__} belongs")
    return reply
