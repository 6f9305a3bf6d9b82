"""A connection that is made again for ever: dials, carries the bytes of a conversation, says when it is over.

waiting ──► Stream ──► open: bytes to and fro ──► lost (OSError, WireError): waiting
"""

from __future__ import annotations

import logging
import socket

from .conversation import NEVER, Conversation
from .errors import WireError
from .lookup import Lookup
from .place import Place
from .stream import Stream

LOG = logging.getLogger("agentsdk")


class Connection:
    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._stream: Stream | None = None
        self._place: Place | None = None  # where `_stream` leads
        self._lookup: Lookup | None = None
        self._again_at = 0.0
        self._said = ""  # the reason that the log has; each is told once

    def step(self, now: float) -> None:
        """Whatever can be done now. Never blocks, never raises for what the other end does."""
        try:
            self._step(now)
        except (OSError, WireError) as error:
            self._lost(str(error) or type(error).__name__, now)
        except Exception as error:
            LOG.exception("%s at %s: a mistake of ours", self.conversation.what, self._place)
            self._lost(f"{type(error).__name__}: {error}", now)

    def due(self) -> float:
        if self._stream is None:
            return self._again_at if self.conversation.place else NEVER
        return min(self._stream.due, self.conversation.due if self._stream.is_open else NEVER)

    def interest(self) -> tuple[socket.socket, bool] | None:
        return self._stream.interest(self.conversation.out) if self._stream else None

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None
            self.conversation.lost()

    def _step(self, now: float) -> None:
        if self._place != self.conversation.place:
            self.close()
            self._place, self._again_at = self.conversation.place, now
        if self._stream is None:
            if self._place is None or now < self._again_at:
                return
            self._stream = Stream(self._place, self._lookup, now)
            self._lookup = self._stream.lookup
        self._carry(self._stream, now)

    def _carry(self, stream: Stream, now: float) -> None:
        talk, was_open = self.conversation, stream.is_open
        data = stream.step(talk.out, now)
        if stream.is_open and not was_open:
            talk.open(now)
        if data:
            talk.receive(data, now)
        if stream.is_open and now >= talk.due:
            talk.tick(now)
        if stream.is_open and talk.out:
            stream.flush(talk.out)
        if talk.well and self._said:
            self._came_up()

    def _lost(self, reason: str, now: float) -> None:
        self.close()
        self._again_at = now + self.conversation.pause_s()
        if reason != self._said:
            self._said = reason
            LOG.warning("%s at %s: %s; trying again", self.conversation.what, self._place, reason)

    def _came_up(self) -> None:
        """The next trouble is news."""
        self._said = ""
        LOG.info("%s at %s: is back", self.conversation.what, self._place)
