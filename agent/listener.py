"""The listening side: accepts, limits strangers, TLS, login, then runs the link.

Before the login a stranger costs one greenlet and one socket for at most LOGIN_S, and there are at most so many of
them, in all and per address; who comes beyond that is closed at once.
"""

import logging
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer
from gevent.ssl import SSLContext

from agent import handshake
from agent.address import Address
from agent.certificate import fingerprinted
from agent.errors import AgentError, ConfigError

log = logging.getLogger("agent.listener")

LOGIN_S = 8.0
STRANGERS = 2048  # 1,000 daemons come back together after a restart of the router
STRANGERS_PER_ADDRESS = 128
BACKLOG = 4096


class Listener:
    """`serve` is called with (socket, identity, address text) in a greenlet of its own, and owns the socket."""

    def __init__(
        self,
        address: Address,
        certificate: Path,
        gate: handshake.Gate,
        own: handshake.Identity,
        serve: Callable[[Any, handshake.Identity, str], None],
    ) -> None:
        self._certificate = fingerprinted(certificate)
        self._context = _server_context(certificate)
        self._gate = gate
        self._own = own
        self._serve = serve
        self._strangers = 0
        self._strangers_of: Counter[str] = Counter()
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
        if self._strangers >= STRANGERS or self._strangers_of[host] >= STRANGERS_PER_ADDRESS:
            log.debug("login from %s: closed at once, too many strangers", address)
            return
        self._strangers += 1
        self._strangers_of[host] += 1
        try:
            welcome = self._login(sock, address)
        finally:
            self._strangers -= 1
            self._strangers_of[host] -= 1
            if not self._strangers_of[host]:
                del self._strangers_of[host]
        if welcome is not None:
            self._serve(*welcome, address)

    def _login(self, sock: Any, address: str) -> tuple[Any, handshake.Identity] | None:
        welcome = None
        try:
            with gevent.Timeout(LOGIN_S):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock = self._context.wrap_socket(sock, server_side=True)
                welcome = sock, handshake.receive(sock, self._certificate, self._gate, self._own, address)
        except gevent.Timeout:
            log.info("login from %s: not done within %.0f s", address, LOGIN_S)
        except AgentError as error:
            log.info("login from %s: %s", address, error)
        except OSError as error:
            log.debug("login from %s: connection failed: %s", address, error)
        finally:
            if welcome is None:
                sock.close()
        return welcome


def _server_context(certificate: Path) -> SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    context.num_tickets = 0
    return context
