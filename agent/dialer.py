"""The calling side: connect, TLS, login; and `Dialer`, which keeps one link up for ever.

The server's certificate is not checked against any authority: the login is bound to it (agent.handshake).
"""

import logging
import ssl
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.ssl import SSLContext

from agent.address import Address
from agent.backoff import Backoff
from agent.entrance import enter
from agent.errors import AgentError, ConnectFailed, LoginRefused
from agent.handshake import Identity
from agent.link import Link

log = logging.getLogger("agent.dialer")

CONNECT_S = 8.0
STEADY_S = 10.0  # a link that lived so long was a good one: the next try comes soon
REPLACED_TEXT = (
    "a newer daemon for "  # in the refusal of a daemon whose place is taken: it has no field for a code
)
REFUSED_WAIT_S = 10.0  # most between two tries while the answer is "no": a person has to do something first


def connect(
    address: Address,
    hello: Identity,
    password: str,
    *,
    source_ip: str = "",
    timeout_s: float = CONNECT_S,
) -> tuple[Any, Identity]:
    """A socket after login, and who the server is. Raises ConnectFailed (LoginRefused) naming the address."""
    sock: Any = None
    try:
        with gevent.Timeout(timeout_s, ConnectFailed(f"{address} did not answer within {timeout_s:.0f} s")):
            source = (source_ip, 0) if source_ip else None
            sock = socket.create_connection((address.host, address.port), source_address=source)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = _client_context().wrap_socket(sock)
            certificate = sock.getpeercert(True)
            return sock, enter(sock, certificate, hello, password)
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, LoginRefused):
            raise LoginRefused(f"{address}: {error}", error.code) from None
        if isinstance(error, ConnectFailed):
            raise ConnectFailed(str(error) if str(address) in str(error) else f"{address}: {error}") from None
        if isinstance(error, AgentError):
            raise ConnectFailed(f"{address} does not speak our protocol: {error}") from None
        if isinstance(error, ssl.SSLError):
            raise ConnectFailed(
                f"{address}: no TLS with it ({error.reason}): is that port an agent's?"
            ) from None
        if isinstance(error, UnicodeError):
            raise ConnectFailed(f"cannot connect to {address}: that is not the name of a host") from None
        if isinstance(error, OSError):
            raise ConnectFailed(f"cannot connect to {address}: {error.strerror or error}") from None
        raise


def _client_context() -> SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Dialer:
    """Tries until it has the link, runs it, and tries again when it ends; `link` is None while there is none.

    `open_link(socket, identity)` makes the Link; `joined(link)` is called in a greenlet of its own once it runs.
    """

    def __init__(
        self,
        what: str,
        address: Address,
        hello: Identity,
        password: str,
        open_link: Callable[[Any, Identity], Link],
        joined: Callable[[Link], None],
        source_ip: str = "",
    ) -> None:
        self.what = what
        self.address = address
        self.link: Link | None = None
        self.replaced = False  # by another one of our name, as the other side said last
        self.trouble = f"{what} {address}: not connected yet"
        self._hello = hello
        self._password = password
        self._open_link = open_link
        self._joined = joined
        self._source_ip = source_ip

    def run(self) -> None:
        backoff, refused = Backoff(), Backoff(1.0, REFUSED_WAIT_S)
        while True:
            try:
                sock, server = connect(self.address, self._hello, self._password, source_ip=self._source_ip)
            except ConnectFailed as error:
                trouble = f"{self.what}: {error}"
                if self.trouble != trouble:
                    log.warning("%s; trying on", trouble)
                self.trouble, self.replaced = trouble, REPLACED_TEXT in trouble
                gevent.sleep((refused if isinstance(error, LoginRefused) else backoff).next_s())
                continue
            joined_at = time.monotonic()
            link = self._open_link(sock, server)
            log.info("%s %s: connected (agent %s)", self.what, self.address, server.version)
            self.link = link
            greeting = gevent.spawn(self._joined, link)
            try:
                why = link.run()
            finally:
                self.link = None
                greeting.kill(block=False)
            if time.monotonic() - joined_at >= STEADY_S:
                backoff.reset()
                refused.reset()
            self.replaced = link.farewell is not None and link.farewell.code == "replaced"
            self.trouble = f"{self.what} {self.address}: link lost ({why})"
            log.warning("%s; trying again", self.trouble)
            gevent.sleep((refused if link.farewell and link.farewell.code else backoff).next_s())
