"""This process's own record in globaldb, which is what "alive" means. Pure; one object over all its connections.

    open ──► AUTH ──► (HEXISTS, HSET, HINCRBY startcount: once, where nobody else started it) ──► HMSET, at a fixed rate

Nothing is sent while an answer is missing. After 5 s without one, or after an error, the connection is made anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from . import resp
from .conversation import NEVER, Conversation
from .errors import WireError
from .identity import Identity
from .pause import Pause

LOG = logging.getLogger("agentsdk")
ANSWER_S = 5.0
HEARTBEAT_S = 5.0
PAUSE_S = (1.0, 8.0)  # ± a quarter, but never under 1: 1 s to 10 s
EARLY = 0.9  # "at least every": who steps us may come late
LOOK_S = 0.05  # how often to look whether the program's main loop goes on again


class Record(Conversation):
    """`info` gives the JSON text; `is_alive` is asked whether the program deserves to be called alive."""

    what = "globaldb"

    def __init__(
        self,
        identity: Identity,
        info: Callable[[], str],
        is_alive: Callable[[], bool] = lambda: True,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.heartbeat_s = HEARTBEAT_S
        self._identity, self._info, self._is_alive, self._wall = identity, info, is_alive, wall
        self._name = f"process:{identity.key}"
        self._counted = bool(identity.incarnation)
        self._pause = Pause(*PAUSE_S, least_s=PAUSE_S[0])
        self._decoder = resp.Decoder()
        self._next: list[list[str]] = []  # what is to be said before the record
        self._asked: list[str] = []  # the command whose answer is missing
        self._asked_at = self._beat_at = 0.0

    # ---- the connection

    def open(self, now: float) -> None:
        self._decoder, self._asked = resp.Decoder(), []
        self._next = []
        if self.place and (self.place.user or self.place.password):
            self._next.append(["AUTH", *filter(None, [self.place.user]), self.place.password])
        if not self._counted:
            self._next.append(["HEXISTS", "process", self._identity.key])
        self._beat_at = self.due = now

    def lost(self) -> None:
        self.well = False
        self.out.clear()
        self.due = NEVER

    def pause_s(self) -> float:
        return self._pause.next_s()

    def receive(self, data: bytes, now: float) -> None:
        for reply in self._decoder.feed(data):
            asked, self._asked = self._asked, []
            if not asked:
                raise WireError("a reply that nobody asked for")
            if isinstance(reply, resp.Failure):
                raise WireError(f"it answers {asked[0]} with: {reply}")
            self._answered(asked[0], reply)
            self.tick(now)

    def tick(self, now: float) -> None:
        if self._asked:
            if now >= self._asked_at + ANSWER_S:
                raise WireError(f"no answer within {ANSWER_S:g} s")
            self.due = self._asked_at + ANSWER_S
        elif self._next:
            self._ask(self._next.pop(0), now)
        elif now < self._beat_at:
            self.due = self._beat_at
        elif self._is_alive():
            self._beat(now)
        else:
            self.due = now + LOOK_S

    def set_rate(self, heartbeat_s: float) -> None:
        """The next one comes no later than the new rate wants it."""
        self._beat_at += min(0.0, heartbeat_s - self.heartbeat_s)
        self.heartbeat_s = heartbeat_s
        if self.due != NEVER:
            self.due = min(self.due, self._beat_at)

    # ---- what is said

    def _beat(self, now: float) -> None:
        """One late beat does not make the next ones late."""
        gap_s = self.heartbeat_s * EARLY
        self._beat_at = max(self._beat_at + gap_s, now + gap_s / 2)
        pid, at = str(self._identity.pid), f"{self._wall():.3f}"
        self._ask(["HMSET", self._name, "info", self._info(), "pid", pid, "lastupdate", at], now)

    def _answered(self, word: str, reply: resp.Reply) -> None:
        if word == "HEXISTS":
            if reply == 0:
                self._next.append(["HSET", "process", self._identity.key, f"{self._wall():.3f}"])
            self._next.append(["HINCRBY", self._name, "startcount", "1"])
        elif word == "HMSET":
            self.well = True
            self._pause.reset()

    def _ask(self, words: list[str], now: float) -> None:
        """A start is counted at most once: from here on it may have been."""
        self._counted = self._counted or words[0] == "HINCRBY"
        self._asked, self._asked_at = words, now
        self.due = now + ANSWER_S
        self.out += resp.encode(*words)
