"""The connection of a tool to a daemon, after the login: one thread owns its socket, any number of others ask.

    call ──► what waits to be sent ──► the thread ──► daemon
    call ◄── its answer ◄─────────────────┤
             `noticed` ◄── notices ◄──────┤
             `ended`   ◄── the end ◄──────┘

Rules for editors: nothing but the thread touches the socket; `noticed` and `ended` are called in the thread, and must
not wait for an answer; whatever ends the connection, every caller gets LinkLost.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from typing import Any, Callable

from . import body, frame
from .dialer import Entered
from .errors import Forbidden, LinkLost, NoReply, NotConfirmed, OutcomeUnknown, Refused, WireError
from .thread_host import wait

LOG = logging.getLogger("agentsdk")
MAX_FRAME_BYTES = 4 * 1024 * 1024
MAX_OUT_BYTES = 8 * 1024 * 1024  # what waits to be sent
READ_BYTES = 64 * 1024
TURN_BYTES = 1024 * 1024  # read in one go: who always has something to say must not keep us from sending
HEARTBEAT_S = 5.0
SILENCE_S = 15.0
AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

# Codes of ERROR (docs/protocol.md) that say: nothing was done. Any other, a newer daemon's too, leaves it open.
NOTHING_DONE = frozenset(
    ("bad_request", "forbidden", "overloaded", "refused", "too_many", "unavailable", "unconfirmed",
     "unknown_target", "unreachable")
)  # fmt: skip
CONFIRM_IT = (": confirm it", "; confirm it")

Noticed = Callable[["Client", str, "dict[str, Any]", int], None]  # name, fields, bytes of the frame

Ended = Callable[["Client"], None]
Then = Callable[[bool], None]  # whether it was answered as it should be


class _Asked:
    """A request under way. `then` is called in the thread when it has been answered, or never will be."""

    def __init__(self, reply: str, then: Then) -> None:
        self.reply, self.then = reply, then
        self.settled = threading.Event()
        self.fields: dict[str, Any] = {}
        self.error: Exception | None = None


class Client:
    """`lost` says why it has ended, "" as long as it lives."""

    def __init__(self, entered: Entered, noticed: Noticed, ended: Ended = lambda _client: None) -> None:
        self.daemon, self.address = entered.daemon, entered.address
        self.pid = os.getpid()
        self.lost = ""
        self.picture = threading.Lock()  # held while one is on its way: two at once could not be told apart
        self._socket, self._noticed, self._ended = entered.socket, noticed, ended
        self._lock = threading.Lock()
        self._out = bytearray()
        self._asked: dict[int, _Asked] = {}
        self._seq = 0
        self._decoder = frame.Decoder(MAX_FRAME_BYTES)
        self._farewell = self._closing = ""
        self._writes_to_read = False  # TLS wants to write before there is more to read
        self._heard = self._said = time.monotonic()
        self._ear, self._bell = socket.socketpair()
        for sock in (self._socket, self._ear, self._bell):
            sock.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="agentsdk-client", daemon=True)
        self._thread.start()

    # ---- for callers, in any thread

    def call(
        self,
        request: str,
        fields: dict[str, Any],
        reply: str,
        timeout_s: float,
        then: Then = lambda _good: None,
    ) -> dict[str, Any]:
        """The fields of the reply. Raises Refused: nothing was done; LinkLost, NoReply, OutcomeUnknown: who knows; and
        ValueError for what cannot travel.

        `then` is called once in any case: when there will be no more of an answer, be that later than we wait.
        """
        asked = _Asked(reply, then)
        try:
            self._put(_encoded(request, {**fields, "left_s": round(timeout_s, 3)}), asked)
        except BaseException:
            then(False)
            raise
        if not asked.settled.wait(timeout_s):
            raise NoReply(f"no reply from {self} within {timeout_s:g} s: outcome unknown")
        if asked.error is not None:
            raise asked.error
        return asked.fields

    def close(self, why: str = "closed") -> None:
        """Does not wait for what is under way: that ends as LinkLost."""
        self._closing = self._closing or why
        self._wake()

    def __str__(self) -> str:
        return f"daemon {self.daemon} at {self.address}"

    def _put(self, encoded: bytes, asked: _Asked) -> None:
        with self._lock:
            if self.lost or self._closing:
                why = self.lost or self._closing
                raise Refused(f"the link to {self} is closed ({why}): nothing was sent", "unreachable")
            if len(self._out) + len(encoded) > MAX_OUT_BYTES:
                raise Refused(f"{self} does not read what it is asked: nothing was sent", "overloaded")
            self._seq = self._seq % frame.MAX_SEQ + 1
            self._asked[self._seq] = asked
            self._out += frame.pack(frame.REQUEST, self._seq, encoded)
        self._wake()

    def _wake(self) -> None:
        try:
            self._bell.send(b"!")
        except OSError:
            pass  # it rings already, or nobody is there any more

    # ---- the thread

    def _run(self) -> None:
        why = "a bug"
        try:
            while not self._closing:
                self._beat()
                self._send()
                self._wait(0.0 if self._receive() else HEARTBEAT_S / 2)
            why = self._closing
        except WireError as error:
            why = f"protocol error: {error}"
        except OSError as error:
            why = f"connection failed: {error.strerror or error}"
        except Exception as error:
            LOG.exception("the link to %s", self)
            why = f"a bug: {type(error).__name__}"
        finally:
            self._end(self._farewell or why)

    def _end(self, why: str) -> None:
        with self._lock:
            self.lost = why
            asked, self._asked = self._asked, {}
        for sock in (self._socket, self._ear, self._bell):
            sock.close()
        for each in asked.values():
            lost = LinkLost(f"the link to {self} was lost ({why}) before the reply came: outcome unknown")
            self._settle(each, error=lost)
        self._ended(self)

    def _settle(
        self, asked: _Asked, fields: dict[str, Any] | None = None, error: Exception | None = None
    ) -> None:
        asked.fields, asked.error = fields or {}, error
        asked.then(error is None)
        asked.settled.set()

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._heard > SILENCE_S:
            raise OSError(f"it has said nothing for {SILENCE_S:.0f} s")
        if now - self._said >= HEARTBEAT_S * 0.9:
            self._said = now
            with self._lock:
                self._out += frame.pack(frame.NOTICE, 0, body.encode("link.ping", {}))

    def _send(self) -> None:
        with self._lock:
            chunk = bytes(self._out[:READ_BYTES])
        try:
            while chunk:
                sent = self._socket.send(chunk)
                if not sent:  # gevent's way to say "again"
                    break
                self._said = time.monotonic()
                with self._lock:
                    del self._out[:sent]
                    chunk = bytes(self._out[:READ_BYTES])
        except AGAIN:
            pass

    def _receive(self) -> bool:
        """Takes what has come; whether there may be more that the kernel knows nothing of any more."""
        wanted, self._writes_to_read = TURN_BYTES, False
        try:
            while wanted > 0:
                chunk = self._socket.recv(READ_BYTES)
                if not chunk:
                    raise OSError("closed by the other side")
                self._heard = time.monotonic()
                wanted -= len(chunk)
                for each in self._decoder.feed(chunk):
                    self._take(each)
        except ssl.SSLWantWriteError:
            self._writes_to_read = True
        except AGAIN:
            pass
        return wanted <= 0

    def _wait(self, seconds: float) -> None:
        wait([(self._ear, False), (self._socket, bool(self._out) or self._writes_to_read)], seconds)
        try:
            while self._ear.recv(4096):
                pass
        except OSError:
            pass

    # ---- what comes

    def _take(self, came: frame.Frame) -> None:
        name, fields = body.decode(came.body)
        if came.kind == frame.NOTICE:
            if name == "link.goodbye":
                self._farewell = str(fields.get("text"))[:500]
            elif name != "link.ping":
                self._noticed(self, name, fields, len(came.body))
        elif came.kind == frame.REQUEST:
            refusal = body.encode("error", {"code": "bad_request", "text": f"a tool answers no {name[:80]}"})
            with self._lock:
                self._out += frame.pack(frame.ERROR, came.seq, refusal)
                if len(self._out) > MAX_OUT_BYTES:
                    raise WireError("it asks, and does not read the answers")
        else:
            with self._lock:
                asked = self._asked.pop(came.seq, None)
            if asked is not None:
                self._answered(asked, came.kind, name, fields)

    def _answered(self, asked: _Asked, kind: int, name: str, fields: dict[str, Any]) -> None:
        if kind == frame.ERROR:
            self._settle(asked, error=error_of(str(fields.get("code")), str(fields.get("text"))))
        elif name != asked.reply:
            text = f"{name[:80]!r} came as the reply of {self} where {asked.reply} belongs: outcome unknown"
            self._settle(asked, error=OutcomeUnknown(text))
        else:
            self._settle(asked, fields)


def _encoded(request: str, fields: dict[str, Any]) -> bytes:
    try:
        encoded = body.encode(request, fields)
    except TypeError as error:
        raise ValueError(f"{request}: {error}") from None
    if len(encoded) > MAX_FRAME_BYTES // 2:
        raise ValueError(f"{request} of {len(encoded)} bytes")
    return encoded


def error_of(code: str, text: str) -> Exception:
    """What an ERROR frame says, as an exception."""
    if code == "forbidden":
        return Forbidden(text, code)
    if code == "unconfirmed":
        return NotConfirmed(text, _question(text))
    if code in NOTHING_DONE:
        return Refused(text, code)
    if code == "timed_out":
        return NoReply(text)
    return OutcomeUnknown(f"{text} ({code})")


def _question(text: str) -> str:
    ends = [text.rfind(words) for words in CONFIRM_IT]
    return text[: max(ends)] if max(ends) > 0 else text
