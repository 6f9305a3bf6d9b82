"""A conversation: what is said over one kind of connection, with no socket in it.

`connection.Connection` dials, carries bytes and says when it is over; `link.Link` (the daemon) and `record.Record`
(globaldb) decide what is said. Any method may raise WireError: hang up, and try again after `pause_s`.
"""

from __future__ import annotations

import math

from .place import Place

NEVER = math.inf


class Conversation:
    """`out` is what is to be sent; `due` is when `tick` wants to be called, on the monotonic clock; `well` means that
    the other end does what it is there for."""

    what = "peer"
    due = NEVER
    well = False

    def __init__(self) -> None:
        self.out = bytearray()
        self.place: Place | None = None  # None: there is nowhere to connect to yet

    def open(self, now: float) -> None:
        """A connection was made."""

    def receive(self, data: bytes, now: float) -> None:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        """The connection, which may never have been made, has ended."""

    def pause_s(self) -> float:
        raise NotImplementedError
