"""The audit: one line per command, written behind the command's back and never waited for.

While globaldb is away lines wait here, a bounded number of them; every line is in our own log as well.
"""

import logging
import time
from collections import deque
from typing import Any

from gevent.event import Event

from agent.errors import StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.outcome import Outcome

log = logging.getLogger("agent.audit")

WAITING_LINES = 10_000
RETRY_S = 2.0
MAX_TARGETS = 500  # beyond that only what did not go well is named one by one


class Audit:
    def __init__(self, globaldb: GlobalDb, own_ip: str) -> None:
        self._globaldb = globaldb
        self._own_ip = own_ip
        self._lines: deque[dict[str, Any]] = deque(maxlen=WAITING_LINES)
        self._wake = Event()

    def note(self, user: str, address: str, what: str, outcomes: list[Outcome], verdict: str = "") -> None:
        """`what` is the command in words; `verdict` stands for a command that never came to its targets."""
        counts: dict[str, int] = {}
        for outcome in outcomes:
            counts[outcome.result] = counts.get(outcome.result, 0) + 1
        shown = (
            outcomes if len(outcomes) <= MAX_TARGETS else [o for o in outcomes if not o.good][:MAX_TARGETS]
        )
        line: dict[str, Any] = {
            "at": round(time.time(), 3),
            "user": user,
            "from": address,
            "daemon": self._own_ip,
            "what": what,
            "verdict": verdict
            or ", ".join(f"{count} {result}" for result, count in counts.items())
            or "nothing to do",
            "targets": [[o.target, o.result, o.detail] for o in shown],
        }
        log.info("audit: %s from %s: %s: %s", user, address, what, line["verdict"])
        self._lines.append(line)
        self._wake.set()

    def write(self) -> None:
        """For ever: lines into globaldb, oldest first. One whose reply was lost may stand there twice."""
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                try:
                    self._globaldb.append_audit(self._lines[0])
                except (StoreDown, StoreRefused) as error:
                    log.warning("audit: %d lines wait: %s", len(self._lines), error)
                    self._wake.wait(RETRY_S)
                    continue
                self._lines.popleft()
