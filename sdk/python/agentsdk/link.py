"""The link to the daemon: join, declare, take requests, tell events. Pure; one object over all its connections.

    open ──► session.join ──► session.joined ──► application.declare, and again whenever it changes
                         └──► ERROR: hang up, later again

A daemon that takes a connection and does not answer the join within 10 s is hung up on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from . import body, frame
from .conversation import NEVER, Conversation
from .desk import Desk
from .errors import WireError
from .identity import Identity
from .ledger import Answer, Ticket
from .pause import Pause

LOG = logging.getLogger("agentsdk")
PROTOCOL = 1
SDK = "python/1.0"
JOIN_S = 10.0
SETTLE_S = 0.05  # declarations that come one after another, as decorators do, are told once
MAX_OUT_BYTES = 1024 * 1024


class Link(Conversation):
    """`on_joined` gets the fields of session.joined."""

    what = "daemon"

    def __init__(self, identity: Identity, desk: Desk, on_joined: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._identity, self._desk, self._on_joined = identity, desk, on_joined
        self._pause = Pause(0.2, 5.0)
        self._decoder = frame.Decoder()
        self._seq = self._join_seq = self._declare_seq = 0
        self._declare_at = NEVER
        self._stuck = False  # more waits to be read than is kept; `tick` hangs up

    @property
    def joined(self) -> bool:
        return self.well

    # ---- the connection

    def open(self, now: float) -> None:
        self._decoder = frame.Decoder()
        self._stuck = False
        self._join_seq = self._request(
            "session.join", {"protocol": PROTOCOL, "sdk": SDK, **self._identity.fields()}
        )
        self.due = now + JOIN_S

    def lost(self) -> None:
        self.well = False
        self.out.clear()
        self._desk.close()
        self.due = NEVER

    def pause_s(self) -> float:
        return self._pause.next_s()

    def tick(self, now: float) -> None:
        if self._stuck:
            raise WireError("it does not read what it is told")
        if not self.joined:
            raise WireError(f"no answer to the join within {JOIN_S:g} s")
        if now >= self._declare_at:
            self._declare_at = NEVER
            self._declare_seq = self._request("application.declare", self._desk.declaration())
        self.due = self._declare_at

    def receive(self, data: bytes, now: float) -> None:
        for each in self._decoder.feed(data):
            name, fields = body.decode(each.body)
            if not self.joined:
                self._answered(each, name, fields, now)
            elif each.kind == frame.REQUEST:
                self._desk.request(each.seq, name, fields)
            elif each.kind == frame.ERROR and each.seq == self._declare_seq:
                self._declare_seq = 0
                LOG.warning("the daemon refuses what was declared: %s", str(fields.get("text"))[:500])

    def _answered(self, answer: frame.Frame, name: str, fields: dict[str, Any], now: float) -> None:
        if answer.kind == frame.NOTICE:
            return
        if answer.seq != self._join_seq or answer.kind == frame.REQUEST:
            raise WireError(f"{name[:80]!r} before the join was answered")
        if answer.kind == frame.ERROR:
            raise WireError(f"the daemon refuses the join: {str(fields.get('text'))[:500]}")
        self.well = True
        self._pause.reset()
        self._desk.open(self._answer)
        self._on_joined(fields)
        self.declare(now)

    # ---- what the program says

    def declare(self, now: float) -> None:
        """What can be done here has changed; told as soon as there is a link."""
        if self.joined:
            self._declare_at = self.due = now + SETTLE_S

    def has_room(self, size: int) -> bool:
        """Notices get half of what may wait: they never cost an answer its place."""
        return self.joined and len(self.out) + size <= MAX_OUT_BYTES // 2

    def notice(self, encoded: bytes) -> None:
        """Dropped where there is no link, or no room."""
        if self.has_room(len(encoded)):
            self._put(frame.NOTICE, 0, encoded)

    def _request(self, name: str, fields: dict[str, Any]) -> int:
        self._seq = self._seq % frame.MAX_SEQ + 1
        self._put(frame.REQUEST, self._seq, body.encode(name, fields))
        return self._seq

    def _answer(self, ticket: Ticket, answer: Answer) -> None:
        self._put(answer.kind, ticket.seq, answer.body)

    def _put(self, kind: int, seq: int, encoded: bytes) -> None:
        if len(self.out) + len(encoded) > MAX_OUT_BYTES:
            self._stuck, self.due = True, 0.0
        else:
            self.out += frame.pack(kind, seq, encoded)


def heartbeat_s(fields: dict[str, Any], otherwise: float) -> float:
    """What session.joined says, where it says something sensible."""
    told = fields.get("heartbeat_s")
    if isinstance(told, (int, float)) and not isinstance(told, bool) and math.isfinite(told):
        return min(3600.0, max(0.1, float(told)))
    return otherwise
