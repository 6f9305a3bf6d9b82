"""Whether this machine's records are ours to write: a second daemon for one ip must not spoil those of the first.

    the router calls us replaced            no, until it has admitted us again
    the router has admitted us              yes, and from then on, whatever becomes of the router
    neither (it is away)                    yes, unless another daemon wrote the machine's record a moment ago

Who was here before us in our own state folder is gone, for the folder is locked: he keeps nobody waiting.
"""

import logging
import time

import ujson

from agent.globaldb import GlobalDb
from agent.trouble import Trouble
from agent.verdict import Freshness
from roles.daemon.clock import GroupClock
from roles.daemon.presence import Presence

log = logging.getLogger("agent.recorder")

FRESH_S = 15.0
LOOK_S = 1.0


class Held(Exception):
    """Nothing is to be written now."""


class Tenure:
    def __init__(self, globaldb: GlobalDb, clock: GroupClock, presence: Presence, ip: str) -> None:
        self.incarnation = 0
        self._last = 0  # of the daemon before us in our state folder
        self._globaldb = globaldb
        self._clock = clock
        self._presence = presence
        self._ip = ip
        self._ours = False
        self._freshness = Freshness()
        self._look_due = 0.0
        self._trouble = Trouble()

    @property
    def ours(self) -> bool:
        """As it was found last."""
        return self._ours

    def begin(self, incarnation: int, last: int) -> None:
        self.incarnation, self._last = incarnation, last

    def check(self) -> bool:
        """Before each write: whether we had to wait for it until now. Raises Held, StoreDown, StoreRefused."""
        if self._presence.admitted:
            self._ours = True
        elif self._presence.replaced:
            self._ours = False
            self._hold(f"{self._presence.trouble}: the records of {self._ip} are the other daemon's")
        elif not self._ours:
            self._look()
        if not self._trouble.is_over():
            return False
        log.warning("records: this daemon writes those of %s now", self._ip)
        return True

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._look_due:
            raise Held
        text, lastupdate = self._globaldb.read_machines([self._ip])[self._ip]
        info = _read(text)
        other = info.get("incarnation")
        self._clock.measure()
        self._freshness.age_s(
            self._ip, _number(lastupdate), now, self._clock.now(), _number(info.get("skew_s"))
        )
        mine = lastupdate is None or other in (self.incarnation, self._last)
        if not mine and not self._freshness.is_stale(self._ip, now, FRESH_S):
            first, self._look_due = not self._look_due, now + LOOK_S
            if first:  # the router may let us in at any moment
                raise Held
            self._hold(
                f"another daemon (incarnation {other or 'unknown'}) wrote the records of {self._ip} a moment ago, "
                f"and no router has admitted this one ({self._presence.trouble}): stop one of the two"
            )
        self._ours = True

    def _hold(self, why: str) -> None:
        held = Held(why)
        if self._trouble.is_news(held):
            log.error("TWO DAEMONS? nothing is written into globaldb: %s", why)
        raise held


def _read(text: str | None) -> dict[str, object]:
    try:
        info = ujson.loads(text or "{}")
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
