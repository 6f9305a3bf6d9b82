"""Who may join as an application: a process that we started, in the run that lives, by the token of its environment."""

import logging
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import gevent

from agent import names
from agent.errors import ConfigError, Refused
from agent.handshake import Identity
from agent.joining import Admitted
from agent.lifecycle import ALIVE
from agent.messages import Join, Joined
from roles.daemon import machine
from roles.daemon.keeper import Keeper
from roles.daemon.seal import Seal

log = logging.getLogger("agent.application")

LOOK_UP_S, LOOK_UP_AT_MOST_S = 60.0, 1.0


class ApplicationAdmission:
    """agent.joining.Admission for one daemon."""

    def __init__(
        self,
        ip: str,
        version: str,
        keeper_of: Callable[[str], Keeper | None],
        seal: Seal,
        globaldb_url: str,
    ) -> None:
        """`globaldb_url` is what applications are told; "" tells them nothing."""
        self._ip = ip
        self._version = version
        self._keeper_of = keeper_of
        self._seal = seal
        self._globaldb_url = globaldb_url
        self._told = globaldb_url  # the same with its host as a number, looked up
        self._told_due = 0.0  # monotonic

    def is_from_here(self, host: str) -> bool:
        return host.startswith("127.") or machine.is_local(host)

    def admit(self, asked: Join) -> Admitted:
        if not self._is_genuine(asked):
            raise Refused("forbidden", "the token is not that of this run of this process")
        keeper = self._keeper_of(asked.key)
        if keeper is None:
            raise Refused("unknown_target", f"process {asked.key} is not configured on {self._ip}")
        if keeper.state not in ALIVE or keeper.incarnation != asked.incarnation:
            raise Refused(
                "forbidden", f"this run of {asked.key} is over: {keeper.state} is what is known of it"
            )
        reply = Joined(self._ip, self._version, keeper.spec.heartbeat_s, self._address())
        return Admitted(Identity("app", asked.key, asked.sdk[:64], int(asked.incarnation, 16)), reply)

    def _address(self) -> str:
        """What to tell: with the host as a number, for a game loop cannot wait for a look-up."""
        if time.monotonic() >= self._told_due:
            self._told_due = time.monotonic() + LOOK_UP_S
            with gevent.Timeout(
                LOOK_UP_AT_MOST_S, False
            ):  # the old number is better than an application kept waiting
                self._told = numbered(self._globaldb_url)
        return self._told

    def _is_genuine(self, asked: Join) -> bool:
        try:
            names.split_key(asked.key)
        except ConfigError:
            return False
        return (asked.incarnation + asked.token).isascii() and self._seal.fits(
            asked.token, asked.key, asked.incarnation
        )


def numbered(url: str) -> str:
    """A globaldb URL with an IPv4 address in place of its host; as it is where there is none, and for rediss://, where
    the name is what the certificate is for."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or not parts.hostname or ":" in parts.hostname:
        return url
    try:
        address = socket.gethostbyname(parts.hostname)
    except OSError:
        return url
    credentials, at, _place = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=f"{credentials}{at}{address}{port}").geturl()
