"""The listening side: accepts, limits strangers, TLS and login or an application's joining, then runs the link.

    first byte 0x16   TLS, then the login (agent.reception)
    first byte 0x00   a frame in plain text: an application of this machine (agent.joining), where the role takes any

Before the login a stranger costs one greenlet and one socket for at most LOGIN_S, and TLS only once he says something.
There are at most so many of them in all and per address. When all places are taken the oldest stranger of the address
that has most of them makes room, so that a flood crowds out itself and not the honest one who comes from elsewhere.
"""

import logging
import os
import resource
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer
from gevent.ssl import SSLContext

from agent.address import Address
from agent.certificate import fingerprinted
from agent.errors import AgentError, ConfigError
from agent.handshake import Identity
from agent.joining import Admission, admit
from agent.reception import Gate, receive
from agent.throttle import Throttle

log = logging.getLogger("agent.listener")

FRAME = b"\0"  # how a frame of under 16 MiB begins; a TLS record begins with 0x16
LOGIN_S = 8.0
STRANGERS = 2048  # 1,000 daemons come back together after a restart of the router
STRANGERS_PER_ADDRESS = 128
BACKLOG = 4096
LINES, LINES_S = (
    10,
    60.0,
)  # about failed logins from one address; a flood shall not fill the disk with our log


class Listener:
    """`serve` is called with (socket, identity, address text) in a greenlet of its own, and owns the socket."""

    def __init__(
        self,
        address: Address,
        certificate: Path,
        gate: Gate,
        own: Identity,
        serve: Callable[[Any, Identity, str], None],
        admission: Admission | None = None,
    ) -> None:
        """`admission` decides about applications; None: this role has none."""
        self._certificate = fingerprinted(certificate)
        self._context = _server_context(certificate)
        self._gate = gate
        self._own = own
        self._serve = serve
        self._admission = admission
        self._most = min(STRANGERS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._strangers = 0
        self._strangers_of: dict[str, dict[_Stranger, None]] = {}  # by address, oldest first
        self._lines = Throttle(LINES, LINES_S)
        self._server = StreamServer((address.host, address.port), self._accepted, backlog=BACKLOG)
        self._server.reuse_addr = 1
        try:
            self._server.start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {address}: {error.strerror}; is another agent running here? (--listen ADDR)"
            ) from None
        self.port: int = self._server.server_port

    def stop(self) -> None:
        self._server.stop(timeout=0)

    def _accepted(self, sock: Any, peer_address: tuple[str, int]) -> None:
        host = peer_address[0]
        address = f"{host}:{peer_address[1]}"
        if not self._make_room(host):
            log.debug("login from %s: closed at once, too many strangers", address)
            return
        stranger = _Stranger(sock, host, address)
        self._strangers += 1
        self._strangers_of.setdefault(host, {})[stranger] = None
        try:
            welcome = self._login(stranger)
        finally:
            self._leave(stranger)
        if welcome is not None:
            self._serve(stranger.sock, welcome, address)

    def _make_room(self, host: str) -> bool:
        """Whether one more from there may stay."""
        own = len(self._strangers_of.get(host, ()))
        if own >= STRANGERS_PER_ADDRESS:
            return False
        if self._strangers >= self._most:
            crowd = max(self._strangers_of.values(), key=len)
            if len(crowd) <= own:
                return False
            oldest = next(iter(crowd))
            self._leave(oldest)
            oldest.hang_up()
        return True

    def _leave(self, stranger: "_Stranger") -> None:
        """No stranger any more: logged in, gone, or crowded out."""
        crowd = self._strangers_of.get(stranger.host, {})
        if stranger in crowd:
            del crowd[stranger]
            self._strangers -= 1
            if not crowd:
                del self._strangers_of[stranger.host]

    def _login(self, stranger: "_Stranger") -> Identity | None:
        welcome = None
        try:
            with gevent.Timeout(LOGIN_S):
                stranger.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                first = stranger.sock.recv(1, socket.MSG_PEEK)
                if first == FRAME and self._admission is not None:
                    welcome = admit(stranger.sock, self._admission, stranger.host)
                elif first:
                    stranger.begin_tls(self._context)
                    welcome = receive(
                        stranger.sock, self._certificate, self._gate, self._own, stranger.address
                    )
        except gevent.Timeout:
            self._say(stranger, f"not done within {LOGIN_S:.0f} s")
        except AgentError as error:
            self._say(stranger, str(error))
        except OSError as error:
            log.debug("login from %s: connection failed: %s", stranger.address, error)
        finally:
            if welcome is None:
                stranger.sock.close()
        return welcome

    def _say(self, stranger: "_Stranger", what: str) -> None:
        now = time.monotonic()
        if stranger.crowded or self._lines.wait_s(stranger.host, now):
            log.debug("login from %s: %s", stranger.address, what)
            return
        self._lines.failed(stranger.host, now)
        rest_s = self._lines.wait_s(stranger.host, now)
        more = f" (no more about this address for {rest_s:.0f} s)" if rest_s else ""
        log.info("login from %s: %s%s", stranger.address, what, more)


class _Stranger:
    """A connection before its login."""

    def __init__(self, sock: Any, host: str, address: str) -> None:
        self.sock = sock
        self.host = host
        self.address = address
        self.crowded = False

    def begin_tls(self, context: SSLContext) -> None:
        """Raises OSError."""
        self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sock.do_handshake()

    def hang_up(self) -> None:
        """Its greenlet finds the connection at its end and cleans up. Through a copy: TLS's own shutdown would wait."""
        self.crowded = True
        try:
            with socket.socket(fileno=os.dup(self.sock.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("login from %s: is gone already: %s", self.address, error)


def _server_context(certificate: Path) -> SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    context.num_tickets = 0
    return context
