"""The audit: one line per command, written behind the command's back and never waited for.

While globaldb is away lines wait here, a bounded number of them; every line is in our own log as well.
"""

import logging
import time
from collections import deque
from itertools import islice
from typing import Any

import gevent
from gevent.event import Event

from agent.errors import StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.line import one_line
from agent.outcome import Outcome
from agent.trouble import Trouble

log = logging.getLogger("agent.audit")

WAITING_LINES = 10_000
RETRY_S = 2.0
COLLECT_S = 0.05  # the asker has his answer first, and a script's burst of commands is one exchange
LINES_AT_ONCE = 200
MAX_TARGETS = 500  # beyond that only what did not go well is named one by one
MAX_WORDS_CHARS = 500  # of a command: its patterns are the asker's own and may be megabytes


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
            "what": one_line(what, MAX_WORDS_CHARS),
            "verdict": one_line(verdict, 2 * MAX_WORDS_CHARS)
            or ", ".join(f"{count} {result}" for result, count in counts.items())
            or "nothing to do",
            "targets": [[one_line(o.target), o.result, one_line(o.detail)] for o in shown],
        }
        log.info("audit: %s from %s: %s: %s", user, address, line["what"], line["verdict"])
        self._lines.append(line)
        self._wake.set()

    def write(self) -> None:
        """For ever: lines into globaldb, oldest first. One whose reply was lost may stand there twice."""
        trouble = Trouble()
        while True:
            self._wake.wait()
            self._wake.clear()
            gevent.sleep(COLLECT_S)
            while self._lines:
                lines = list(islice(self._lines, LINES_AT_ONCE))
                try:
                    self._globaldb.append_audit(*lines)
                except (StoreDown, StoreRefused) as error:
                    if trouble.is_news(error):
                        log.warning("audit: lines wait: %s", error)
                    gevent.sleep(RETRY_S)
                    continue
                trouble.is_over()
                for line in lines:
                    # else too many waited meanwhile, and it was dropped as the oldest
                    if self._lines and self._lines[0] is line:
                        self._lines.popleft()
