"""A link: one authenticated connection, frames in both directions, requests and their replies.

    socket --> reader (the greenlet in run) --> notices: handled at once; requests: a greenlet each
                                            --> replies: wake their caller
    call, notify, reply --> queue (bounded in bytes) --> writer (the only one that writes) --> socket

Rules for editors: a reader never waits for a handler and gives the hub a turn after TURN_BYTES or TURN_READS, even if
there is more to read; a peer that does not read loses its link when its queue is full; `call` raises Refused, LinkLost
or NoReply and never gevent.Timeout.
"""

import dataclasses
import itertools
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import AsyncResult, Event
from gevent.ssl import SSLSocket

from agent import codec, messages, names, wire
from agent.dispatch import Table
from agent.errors import AgentError, LinkLost, NoReply, Refused, StoreDown, StoreRefused, WireError
from agent.throttle import Throttle

log = logging.getLogger("agent.link")

READ_BYTES = 256 * 1024
TLS_READ_BYTES = 16 * 1024  # a record; room for more would be made for nothing
TURN_BYTES = READ_BYTES
TURN_READS = 32
QUEUE_BYTES = 32 * 1024 * 1024
HEARTBEAT_S = 5.0
SILENCE_S = 15.0
MAX_HANDLERS = 512  # requests of one speaker under way at once; a router's link has many speakers
COMPLAINTS, COMPLAINTS_S = 20, 60.0  # in our log, about one speaker
FLUSH_S = 2.0
DEFAULT_WAIT_S = 60.0  # for a request that does not say how long its asker waits

# Shared by all links of this program and begun at random: a late reply on a new link finds no caller.
_seq = itertools.count(random.randrange(wire.MAX_SEQ))


@dataclass(slots=True)
class Peer:
    """Who speaks, as the far end of a link proved it or as a relay vouches for it (then `dst` leads back to it).

    `deadline` (monotonic) is that of the request in hand.
    """

    role: str
    name: str
    address: str
    link: "Link"
    version: str = ""
    incarnation: int = 0
    dst: bytes = b""
    deadline: float = 0.0
    since_at: float = field(default_factory=time.time)

    def left_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def notify(self, message: Any) -> bool:
        return self.link.notify(message, self.dst)


@dataclass(slots=True)
class _Call:
    result: AsyncResult
    dst: bytes
    reply: type | None


class Link:
    """One connection after login. `run` reads until the link ends and returns why."""

    def __init__(
        self,
        sock: Any,
        *,
        local: bytes,
        role: str,
        name: str,
        address: str,
        version: str = "",
        incarnation: int = 0,
        table: Table,
        state: Any,
        queue_bytes: int = QUEUE_BYTES,
        frame_bytes: int = wire.MAX_FRAME_BYTES,
        same_machine: bool = False,
    ) -> None:
        """`same_machine`: the kernel tells when the other side is gone; that it is silent means nothing."""
        self.peer = Peer(role, name, address, self, version, incarnation)
        self.local = local
        self.table = table
        self.state = state
        self.farewell: messages.Goodbye | None = None
        self.closed_why = ""
        self.heard_at = time.monotonic()
        self.queued_bytes = 0
        self._sent_at = 0.0
        self._queue_bytes = queue_bytes
        self._sock = sock
        self._same_machine = same_machine
        self._decoder = wire.Decoder(frame_bytes)
        self._out: list[bytes] = []
        self._wake = Event()
        self._woken = False
        self._drained = Event()
        self._drained.set()
        self._calls: dict[int, _Call] = {}
        self._complaints = Throttle(COMPLAINTS, COMPLAINTS_S)
        self._handlers: Counter[bytes] = Counter()  # by `src`
        self._greenlets: list[gevent.Greenlet] = []

    def __str__(self) -> str:
        return f"{self.peer.role} {self.peer.name} at {self.peer.address}"

    # ---- life ------------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Read and dispatch until the link ends; returns the reason. The caller's greenlet is the reader."""
        self._greenlets = [gevent.spawn(self._write), gevent.spawn(self._beat)]
        why = ""
        most = TLS_READ_BYTES if isinstance(self._sock, SSLSocket) else READ_BYTES
        read, reads = 0, 0  # since the hub had its turn
        try:
            while not self.closed_why:
                data = self._sock.recv(most)
                if not data:
                    why = "closed by the other side"
                    break
                self.heard_at = time.monotonic()
                self.consume(data)
                read, reads = read + len(data), reads + 1
                if read >= TURN_BYTES or reads >= TURN_READS:
                    read, reads = 0, 0
                    gevent.sleep(0)
        except WireError as error:
            why = f"protocol error: {error}"
            log.warning("link to %s: %s", self, why)
        except OSError as error:
            why = f"connection failed: {error.strerror or error}"
        except ValueError:  # what gevent's TLS says when another greenlet has closed it meanwhile
            if not self.closed_why:
                raise
        finally:
            self.close(why)
        return self.closed_why

    def close(self, why: str) -> None:
        """End the link now; callers in wait get LinkLost. The first reason given stays."""
        if self.closed_why:
            return
        if self.farewell is not None:
            why = self.farewell.text
        self.closed_why = why or "closed"
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.result.set_exception(
                LinkLost(
                    f"link to {self} was lost ({self.closed_why}) before the reply came: outcome unknown"
                )
            )
        current = gevent.getcurrent()
        for greenlet in self._greenlets:
            if greenlet is not current:
                greenlet.kill(block=False)
        self._drained.set()
        try:
            self._sock.shutdown(2)
        except OSError:
            log.debug("link to %s: was down already", self)
        self._sock.close()

    def lose(self, dst: bytes, why: str) -> None:
        """Whoever is at `dst` behind this link has lost its own link meanwhile: no reply comes from there any more."""
        for call in [call for call in self._calls.values() if call.dst == dst and not call.result.ready()]:
            call.result.set_exception(LinkLost(f"{why} before the reply came: outcome unknown"))

    def goodbye(self, text: str, code: str = "") -> None:
        """Say why, let the queue run empty for a short while, close."""
        if not self.closed_why:
            self.notify(messages.Goodbye(text, code))
            self._drained.wait(FLUSH_S)
            self.close(text)

    def _beat(self) -> None:
        while True:
            gevent.sleep(HEARTBEAT_S)
            silent_s = time.monotonic() - self.heard_at
            if silent_s > SILENCE_S and not self._same_machine:
                self.close(f"silent for {silent_s:.0f} s")
                return
            if time.monotonic() - self._sent_at >= HEARTBEAT_S * 0.9:
                self.notify(messages.Ping())

    # ---- writing ---------------------------------------------------------------------------------------------------

    def push(self, *frames: bytes) -> bool:
        """Queue whole frames as they are; False when the link is closed, or is now because its queue was full."""
        if self.closed_why:
            return False
        size = sum(map(len, frames))
        if self.queued_bytes + size > self._queue_bytes:
            log.warning(
                "link to %s: dropped, %d bytes were waiting to be read by it", self, self.queued_bytes
            )
            self.close(f"{self.queued_bytes} bytes were waiting and were not read")
            return False
        self.queued_bytes += size
        self._out += frames
        if not self._woken:
            self._woken = True
            self._drained.clear()
            self._wake.set()
        return True

    def _write(self) -> None:
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                while self._out:
                    chunks, self._out = self._out, []
                    data = b"".join(chunks)
                    self._sock.sendall(data)
                    self.queued_bytes -= len(data)
                self._woken = False
                self._sent_at = time.monotonic()
                self._drained.set()
        except OSError as error:
            self.close(f"connection failed: {error.strerror or error}")

    def notify(self, message: Any, dst: bytes = b"") -> bool:
        return self.push(wire.pack(wire.NOTICE, 0, dst, self.local, codec.encode(message)))

    def call(self, message: Any, timeout_s: float, dst: bytes = b"") -> Any:
        """Ask and wait for the reply. Raises Refused (the peer or a hop said no), LinkLost, NoReply."""
        seq = next(_seq) & wire.MAX_SEQ
        call = _Call(AsyncResult(), dst, codec.REPLY_OF.get(type(message)))
        self._calls[seq] = call
        try:
            if not self.push(wire.pack(wire.REQUEST, seq, dst, self.local, codec.encode(message, timeout_s))):
                raise Refused(
                    "unreachable", f"link to {self} is closed ({self.closed_why}): nothing was sent"
                )
            expired = gevent.Timeout(timeout_s)
            expired.start()
            try:
                return call.result.get()
            except gevent.Timeout as timeout:
                if timeout is not expired:
                    raise
                whom = dst.decode() if dst else str(self)
                raise NoReply(f"no reply from {whom} within {timeout_s:.0f} s: outcome unknown") from None
            finally:
                expired.close()
        finally:
            self._calls.pop(seq, None)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def consume(self, data: bytes) -> None:
        """Take bytes from the peer; a relay overrides this. Raises WireError."""
        for frame in self._decoder.feed(data):
            self.receive(frame)

    def receive(self, frame: wire.Frame) -> None:
        """A frame that is for us. Raises WireError when the peer breaks the protocol."""
        mine = self.peer
        if frame.src and frame.src != mine.name.encode() and mine.role != "router":
            raise WireError(f"a frame in the name of {frame.src!r} came over the link of {self}")
        if frame.dst and frame.dst != self.local:
            if mine.role == "router":
                # another machine's mistake or malice, which must not cost us the router
                self._refuse_misled(frame)
                return
            raise WireError(f"a frame for {frame.dst!r} came to {self.local!r}, which relays nothing")
        if frame.kind == wire.REQUEST:
            self._receive_request(frame)
        elif frame.kind == wire.NOTICE:
            self._receive_notice(frame)
        else:
            self._receive_answer(frame)

    def _refuse_misled(self, frame: wire.Frame) -> None:
        self._complain(frame, f"a frame of {frame.src!r} for {frame.dst!r} was dropped")
        if frame.kind == wire.REQUEST:
            here = self.local.decode()
            text = f"{frame.dst.decode(errors='replace')} is not at {here}: nothing was done"
            self._answer(frame, wire.ERROR, messages.Error("unknown_target", text))

    def _complain(self, frame: wire.Frame, what: str) -> None:
        """Into the log, but a peer that goes on like that shall not fill it."""
        now, speaker = time.monotonic(), frame.src.decode(errors="replace")
        if not self._complaints.wait_s(speaker, now):
            self._complaints.failed(speaker, now)
            log.warning("link to %s: %s", self, what)

    def _receive_answer(self, frame: wire.Frame) -> None:
        call = self._calls.get(frame.seq)
        if call is None or (frame.src and frame.src != (call.dst or self.peer.name.encode())):
            self._complain(frame, f"a late or foreign reply (seq {frame.seq} from {frame.src!r}) was dropped")
            return
        try:
            message, _left_s = codec.decode(frame.body)
        except AgentError as error:
            call.result.set_exception(Refused("internal", f"a reply that cannot be read: {error}"))
            return
        if isinstance(message, messages.Error):
            call.result.set_exception(Refused(message.code, message.text))
        elif type(message) is not call.reply:
            wrong = codec.NAME_OF[type(message)]
            call.result.set_exception(
                Refused("internal", f"{wrong} came as the reply; the outcome is unknown")
            )
        else:
            call.result.set(message)

    def _receive_notice(self, frame: wire.Frame) -> None:
        peer = self._peer_of(frame)
        try:
            message, _left_s = codec.decode(frame.body)
            handler = self.table.find(message, peer.role)
            if type(message) in codec.REPLY_OF:  # its handler may wait, and here the reader would
                raise Refused("bad_request", f"{codec.NAME_OF[type(message)]} came as a notice")
            handler(self.state, peer, message)
        except AgentError as error:
            self._complain(frame, f"a notice was dropped: {error}")
        except Exception:
            log.exception("notice from %s: a bug", self)

    def _receive_request(self, frame: wire.Frame) -> None:
        if self._handlers[frame.src] >= MAX_HANDLERS:
            self._answer(
                frame, wire.ERROR, messages.Error("too_many", f"more than {MAX_HANDLERS} requests under way")
            )
            return
        self._handlers[frame.src] += 1
        gevent.spawn(self._handle, frame)

    def _handle(self, frame: wire.Frame) -> None:
        try:
            kind, reply = wire.REPLY, self._reply_to(frame)
        except Refused as error:
            kind, reply = wire.ERROR, messages.Error(error.code, str(error))
        finally:
            self._handlers[frame.src] -= 1
            if not self._handlers[frame.src]:
                del self._handlers[frame.src]
        self._answer(frame, kind, reply)

    def _reply_to(self, frame: wire.Frame) -> Any:
        """What the handler returns. Raises Refused, whatever went wrong: a bug stays in our log."""
        try:
            message, left_s = codec.decode(frame.body)
            peer = self._peer_of(frame)
            peer.deadline = time.monotonic() + (
                DEFAULT_WAIT_S if left_s is None else min(left_s, 24 * 3600.0)
            )
            handler = self.table.find(message, peer.role)
            if type(message) not in codec.REPLY_OF:
                raise Refused("bad_request", f"{codec.NAME_OF[type(message)]} is a notice and has no reply")
            reply = handler(self.state, peer, message)
            if type(reply) is not codec.REPLY_OF.get(type(message)):
                raise TypeError(f"the handler of {type(message).__name__} returned {type(reply).__name__}")
            return reply
        except Refused:
            raise
        except (StoreDown, StoreRefused) as error:
            raise Refused("unavailable", str(error)) from None
        except AgentError as error:
            raise Refused("bad_request", str(error)) from None
        except Exception:
            log.exception("request from %s: a bug", self)
            raise Refused(
                "internal", f"internal error in {self.local.decode() or 'the agent'}: see its log"
            ) from None

    def _answer(self, frame: wire.Frame, kind: int, reply: Any) -> None:
        body = codec.encode(reply)
        if len(body) > wire.MAX_FRAME_BYTES - wire.PREFIX_BYTES - 2 * wire.MAX_NAME_BYTES:
            kind, body = (
                wire.ERROR,
                codec.encode(messages.Error("internal", f"reply of {len(body)} bytes is too large")),
            )
        self.push(wire.pack(kind, frame.seq, frame.src, self.local, body))

    def _peer_of(self, frame: wire.Frame) -> Peer:
        """The link's own peer, or the daemon that the router vouches for; a process of its machine is no daemon."""
        mine = self.peer
        if not frame.src or mine.role != "router":
            return dataclasses.replace(mine)
        src = frame.src.decode(errors="replace")
        role = "daemon" if names.is_ip(src) else "app"
        return Peer(role, src, mine.address, self, dst=frame.src)
