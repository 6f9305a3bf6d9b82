"""The login: four frames, after which both sides have proved themselves to each other (docs/protocol.md).

    session.hello   client-first  -->
                                  <--  session.challenge   server-first
    session.prove   client-final  -->
                                  <--  session.welcome     server-final

A welcome counts only when its signature is right: that is what tells the daemon from somebody in between.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from . import body, frame
from .errors import ConnectFailed, LoginRefused, WireError
from .proof import ClientProof

PROTOCOL = 1
VERSION = "sdk-python/1.0"
MAX_FRAME_BYTES = 4 * 1024  # before the login is through
MAX_TEXT = 300  # characters of what somebody says who has proved nothing yet
LATER = ("unavailable", "too_many")  # codes of a daemon that may let us in another time


def check(user: str, password: str) -> None:
    """Before anybody is asked. Raises LoginRefused."""
    try:
        ClientProof(user, password, b"")
    except ValueError as error:
        raise LoginRefused(f"no name or password is like that: {error}") from None


def enter(sock: socket.socket, certificate: bytes, user: str, password: str, deadline: float) -> str:
    """The daemon's name, once it has proved itself; both words are checked.

    Raises LoginRefused, ConnectFailed, WireError, OSError.
    """
    lines, proof = _Lines(sock, deadline), ClientProof(user, password, certificate)
    hello = {"protocol": PROTOCOL, "role": "admin", "name": user, "client_first": proof.first}
    challenge = lines.ask("session.hello", {**hello, "version": VERSION}, "session.challenge")
    try:
        final = proof.final(_text(challenge, "server_first"))
    except ValueError as error:
        raise LoginRefused(f"the server's part of the login is wrong: {error}") from None
    welcome = lines.ask("session.prove", {"client_final": final}, "session.welcome")
    try:
        proof.verify(_text(welcome, "server_final"))
    except ValueError:
        raise LoginRefused(
            "the server could not prove that it knows our credentials: somebody may sit in between; do not go on"
        ) from None
    return _text(welcome, "name")


class _Lines:
    """Small frames in lockstep; not one byte more is read than a frame has."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock, self._deadline, self._seq = sock, deadline, 0

    def ask(self, name: str, fields: dict[str, Any], reply: str) -> dict[str, Any]:
        self._seq += 1
        self._sock.settimeout(self._left_s())
        self._sock.sendall(frame.pack(frame.REQUEST, self._seq, body.encode(name, fields)))
        answer = self._receive()
        said, told = body.decode(answer.body)
        if answer.kind == frame.ERROR:
            text = _line(str(told.get("text")))
            raise (ConnectFailed if told.get("code") in LATER else LoginRefused)(text)
        if answer.kind != frame.REPLY or answer.seq != self._seq or said != reply:
            raise WireError(f"{_line(said)!r} came where {reply} belongs")
        return told

    def _receive(self) -> frame.Frame:
        head = self._read(frame.PREFIX.size)
        length = int.from_bytes(head[: frame.LENGTH_BYTES], "big")
        if not frame.HEAD_BYTES <= length <= MAX_FRAME_BYTES:
            raise WireError(f"a frame of {length} bytes before the login is through")
        whole = head + self._read(length - frame.HEAD_BYTES)
        return frame.unpack(whole, 0, len(whole))

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._sock.settimeout(self._left_s())
            chunk = self._sock.recv(count - len(data))
            if not chunk:
                raise ConnectFailed("it has closed the connection during the login")
            data += chunk
        return data

    def _left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise socket.timeout
        return left_s


def _text(fields: dict[str, Any], name: str) -> str:
    text = fields.get(name)
    if not isinstance(text, str):
        raise WireError(f"its {name} is no text")
    return text


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])
