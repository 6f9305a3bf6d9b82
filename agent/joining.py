"""An application's way in: one frame in plain text, from this machine, with the token of its environment.

    application                                daemon
    Join   key, incarnation, token    -->
                                      <--      Joined   where globaldb is, how often to report

Plain text, because a game server in C or Lua shall need no TLS, and nobody but root reads a loopback connection. From
another machine the frame is not even looked at: a token that travelled there is no secret any more.
"""

from typing import Any, NamedTuple, Protocol

from agent import codec, wire
from agent.errors import Refused, WireError
from agent.handshake import Identity, Stream
from agent.messages import Error, Join, Joined


class Admitted(NamedTuple):
    """Who it is, and what it is told."""

    identity: Identity
    reply: Joined


class Admission(Protocol):
    """What a role knows of applications."""

    def is_from_here(self, host: str) -> bool:
        """Whether an address is this machine's."""

    def admit(self, asked: Join) -> Admitted:
        """Raises Refused."""


def admit(sock: Any, admission: Admission, host: str) -> Identity:
    """Raises Refused after having told the application, WireError, ConnectFailed."""
    if not admission.is_from_here(host):
        raise WireError("plain text from another machine; only applications of this one speak it")
    stream = Stream(sock)
    try:
        frame = stream.receive()
        asked, _left_s = codec.decode(frame.body)
        if frame.kind != wire.REQUEST or not isinstance(asked, Join):
            raise WireError(f"{type(asked).__name__} came where Join belongs")
        if asked.protocol != wire.PROTOCOL:
            raise Refused(
                "bad_request", f"protocol {asked.protocol} is not spoken here, only {wire.PROTOCOL}"
            )
        admitted = admission.admit(asked)
    except Refused as error:
        stream.send(wire.ERROR, Error(error.code, str(error)))
        raise
    stream.send(wire.REPLY, admitted.reply)
    return admitted.identity
