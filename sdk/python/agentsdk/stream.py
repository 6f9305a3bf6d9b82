"""A stream: one TCP or TLS connection that never blocks. Every step does what can be done now, and returns.

looking up ──► connecting (each address in turn) ──► TLS handshake ──► open ──► OSError, and it is over
"""

from __future__ import annotations

import os
import socket
import ssl

from .lookup import Address, Lookup
from .place import Place

CONNECT_S = 3.0  # to each address; the TLS handshake has as long
READ_BYTES = 64 * 1024  # in one step: a peer that always has something to say must not keep us
LOOK_S = 0.05  # how often to look whether a name is resolved
AGAIN = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """Raises OSError from `step` when it cannot go on; ssl.SSLError is one."""

    def __init__(self, place: Place, lookup: Lookup | None, now: float) -> None:
        self.lookup = lookup if lookup and lookup.place == place and not lookup.done else Lookup(place)
        self.is_open = False
        self.due = now
        self._place = place
        self._socket: socket.socket | None = None
        self._addresses: list[Address] | None = None
        self._began = now
        self._more = False  # there may be bytes that the kernel knows nothing of any more
        self._wants_write = False

    def step(self, out: bytearray, now: float) -> bytes:
        """Sends what it can from `out`, returns what has come."""
        if not self.is_open:
            self._come_up(now)
        if not self.is_open:
            return b""
        self.flush(out)
        data = self._receive()
        self.due = now if self._more else float("inf")
        return data

    def interest(self, out: bytearray) -> tuple[socket.socket, bool] | None:
        """The socket to wait for, and whether for writing too."""
        if self._socket is None:
            return None
        return self._socket, bool(out) if self.is_open else self._wants_write

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ---- coming up

    def _come_up(self, now: float) -> None:
        if self._addresses is None:
            self._take_lookup(now)
        if self._socket is not None and not isinstance(self._socket, ssl.SSLSocket):
            self._finish_connect(now)
        if self._socket is None and self._addresses is not None:
            self._connect_next(now)
        elif isinstance(self._socket, ssl.SSLSocket):
            self._shake_hands(now)

    def _take_lookup(self, now: float) -> None:
        if not self.lookup.done:
            self.due = now + LOOK_S
            if now > self._began + CONNECT_S:
                raise OSError(f"{self._place.host} is not resolved within {CONNECT_S:g} s")
            return
        if self.lookup.error:
            raise OSError(self.lookup.error)
        self._addresses = list(self.lookup.addresses)

    def _connect_next(self, now: float) -> None:
        assert self._addresses is not None
        if not self._addresses:
            raise OSError("none of its addresses answers")
        family, address = self._addresses.pop(0)
        self._began, self.due, self._wants_write = now, now + CONNECT_S, True
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.connect(address)
        except AGAIN:
            pass
        except OSError:
            self._next_or_raise()

    def _finish_connect(self, now: float) -> None:
        assert self._socket is not None
        try:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            if self._is_connected():
                self._connected(now)
            elif now >= self._began + CONNECT_S:
                raise OSError(f"no connection within {CONNECT_S:g} s")
        except OSError:
            self._next_or_raise()

    def _is_connected(self) -> bool:
        assert self._socket is not None
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _next_or_raise(self) -> None:
        """In an except block: goes on to the next address, if there is one."""
        self.close()
        self.due = self._began
        if not self._addresses:
            raise

    def _connected(self, now: float) -> None:
        if self._place.tls:
            assert self._socket is not None and self.lookup.context is not None
            self._socket = self.lookup.context.wrap_socket(
                self._socket, server_hostname=self._place.host, do_handshake_on_connect=False
            )
            self._began = now
        else:
            self.is_open = True

    def _shake_hands(self, now: float) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        self.due, self._wants_write = self._began + CONNECT_S, False
        try:
            self._socket.do_handshake()
            self.is_open = True
        except ssl.SSLWantWriteError:
            self._wants_write = True
        except AGAIN:
            pass
        if not self.is_open and now >= self._began + CONNECT_S:
            raise OSError(f"no TLS within {CONNECT_S:g} s")

    # ---- open

    def flush(self, out: bytearray) -> None:
        assert self._socket is not None
        try:
            while out:
                with memoryview(out) as view:
                    sent = self._socket.send(view[:READ_BYTES])
                if not sent:  # gevent's TLS says so when it would block
                    return
                del out[:sent]
        except AGAIN:
            pass

    def _receive(self) -> bytes:
        assert self._socket is not None
        chunks, wanted = [], READ_BYTES
        try:
            while wanted > 0:
                chunk = self._socket.recv(wanted)
                if not chunk:
                    raise ConnectionError("it has hung up")
                chunks.append(chunk)
                wanted -= len(chunk)
        except AGAIN:
            pass
        except OSError:
            if not chunks:
                raise
        self._more = wanted <= 0
        return b"".join(chunks)
