"""The engine: everything that goes on, one step at a time, with no thread and no waiting in it.

    host ──► step() ──► mailbox, link to the daemon, record in globaldb        (never blocks)
         ◄── calls()    requests for the program's handlers
         ◄── wait_s(), interests()    when to step again

Exactly one thread steps it; all others put errands into its mailbox.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import link as links
from . import place
from .call import Call
from .connection import Connection
from .desk import Desk
from .identity import Identity
from .link import Link
from .mailbox import Mailbox
from .place import Place
from .record import Record

LOG = logging.getLogger("agentsdk")
LONGEST_WAIT_S = 30.0


class Engine:
    def __init__(self, identity: Identity, info: Callable[[], str], is_alive: Callable[[], bool]) -> None:
        self.mailbox = Mailbox()
        self.desk = Desk(self.mailbox.put)
        self.link = Link(identity, self.desk, self._joined)
        self.record = Record(identity, info, is_alive)
        self.closed = False
        self._identity = identity
        self._connections = (Connection(self.link), Connection(self.record))
        self._stepping = False
        if identity.daemon and identity.token:
            self.link.place = self._place(place.of_daemon, identity.daemon)
        if identity.globaldb:
            self.record.place = self._place(place.of_globaldb, identity.globaldb)

    def step(self) -> None:
        """A handler or `info` that comes back here while it steps changes nothing."""
        if self._stepping or self.closed:
            return
        self._stepping = True
        try:
            self.mailbox.empty()
            for connection in self._connections:
                connection.step(time.monotonic())
        finally:
            self._stepping = False

    def calls(self) -> Iterator[Call]:
        while self.desk.calls:
            yield self.desk.calls.popleft()

    def wait_s(self) -> float:
        due = min(connection.due() for connection in self._connections)
        return max(0.0, min(LONGEST_WAIT_S, due - time.monotonic()))

    def interests(self) -> list[tuple[socket.socket, bool]]:
        """Sockets to wait for, and whether for writing too."""
        found = (connection.interest() for connection in self._connections)
        return [interest for interest in found if interest]

    def close(self) -> None:
        """For good; what could not be sent by now is lost."""
        self.closed = True
        for connection in self._connections:
            connection.close()

    def _joined(self, fields: dict[str, Any]) -> None:
        self.record.set_rate(links.heartbeat_s(fields, self.record.heartbeat_s))
        told = fields.get("globaldb")
        if told and not self._identity.globaldb:
            self.record.place = self._place(place.of_globaldb, told) or self.record.place

    def _place(self, reader: Callable[[str], Place], text: Any) -> Place | None:
        """Wrong words of others are logged, not raised: the game goes on without."""
        try:
            return reader(str(text))
        except ValueError as error:
            LOG.warning("%s", error)
            return None
