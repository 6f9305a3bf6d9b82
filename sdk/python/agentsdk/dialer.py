"""The calling side: to an address of a daemon, TLS, login. All of it has one deadline.

The certificate is not checked against any authority: the login is bound to it (proof.py).
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import NamedTuple

from . import place
from .errors import ConnectFailed, LoginRefused, WireError
from .login import check, enter
from .lookup import Lookup
from .place import Place

PORT = 8889
LOOK_S = 0.02  # how often to look whether a name is resolved


class Entered(NamedTuple):
    """A connection after the login. `socket` has not read a byte beyond it."""

    socket: ssl.SSLSocket
    daemon: str
    address: str


def parsed(address: str) -> Place:
    """host[:port]; ValueError for anything else."""
    try:
        return place.of_daemon(address)
    except ValueError:
        return place.of_daemon(f"{address.strip()}:{PORT}")


def dial(where: Place, user: str, password: str, timeout_s: float) -> Entered:
    """Raises ConnectFailed, LoginRefused."""
    deadline = time.monotonic() + timeout_s
    sock: socket.socket | None = None
    try:
        check(user, password)
        sock = _connect(where, deadline)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        tls = sock = context().wrap_socket(sock)
        certificate = tls.getpeercert(True)
        if not certificate:
            raise WireError("it shows no certificate")
        daemon = enter(tls, certificate, user, password, deadline)
        return Entered(tls, daemon, str(where))
    except BaseException as error:
        if sock is not None:
            sock.close()
        raise _told(where, error, timeout_s) from None


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    return made


def _connect(where: Place, deadline: float) -> socket.socket:
    """Each address of a name in turn. A resolver that hangs holds up its own thread, not us."""
    lookup = Lookup(where)
    while not lookup.done:
        if time.monotonic() >= deadline:
            raise socket.timeout
        time.sleep(LOOK_S)
    if lookup.error:
        raise OSError(lookup.error)
    trouble: OSError = socket.timeout()
    for family, address in lookup.addresses:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(left_s)
        try:
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            trouble = error
    raise trouble


def _told(where: Place, error: BaseException, timeout_s: float) -> BaseException:
    """In words for whoever reads it, with the address."""
    if isinstance(error, LoginRefused):
        return LoginRefused(f"{where}: {error}")
    if isinstance(error, ConnectFailed):
        return ConnectFailed(f"{where}: {error}")
    if isinstance(error, WireError):
        return ConnectFailed(f"{where} does not speak our protocol: {error}")
    if isinstance(error, socket.timeout):
        return ConnectFailed(f"{where} did not answer within {timeout_s:.0f} s")
    if isinstance(error, ssl.SSLError):
        return ConnectFailed(f"{where}: no TLS with it ({error.reason}): is that port an agent's?")
    if isinstance(error, (OSError, UnicodeError)):
        return ConnectFailed(f"cannot connect to {where}: {getattr(error, 'strerror', None) or error}")
    return error
