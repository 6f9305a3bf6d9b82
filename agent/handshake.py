"""Login: four frames, after which both sides have proved themselves to each other. Here: what both sides share.

    client (agent.entrance)                            server (agent.reception)
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
from typing import Any, NamedTuple

from agent import codec, wire
from agent.errors import ConnectFailed

MECHANISM = "SCRAM-SHA-256-PLUS"


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


def binding(certificate: bytes) -> bytes:
    """RFC 5929 tls-server-end-point of a DER certificate signed with SHA-256."""
    return hashlib.sha256(certificate).digest()


class Stream:
    """Small frames in lockstep; reads not one byte more than a frame has, so that the link finds what follows."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.seq = 0

    def send(self, kind: int, message: Any) -> None:
        self._sock.sendall(wire.pack(kind, self.seq, b"", b"", codec.encode(message)))

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
