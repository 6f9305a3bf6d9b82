"""The ledger: which ids have been seen and what came of them, so that a command runs at most once. Pure.

The newest 1,024 are kept, a running one always: one that is forgotten while it runs could be run a second time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAX_IDS = 1024
MAX_KEPT_BYTES = 4 * 1024


class Ticket(NamedTuple):
    """Who waits for an answer: the number of a link, and a seq on it."""

    link: int
    seq: int


class Answer(NamedTuple):
    """Kind and body of an answering frame."""

    kind: int
    body: bytes


class Entry:
    """One id. `ticket` is the newest asker; an entry without an answer that is not `running` did not keep it."""

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.running = True
        self.answer: Answer | None = None


class Ledger:
    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def begin(self, id: str, ticket: Ticket) -> bool:
        """False when there is no room: everything that is kept is still running."""
        if len(self._entries) >= MAX_IDS and not self._drop_oldest():
            return False
        self._entries[id] = Entry(ticket)
        return True

    def finish(self, id: str, answer: Answer) -> Ticket:
        """Who waits for it now."""
        entry = self._entries[id]
        entry.running = False
        entry.answer = answer if len(answer.body) <= MAX_KEPT_BYTES else None
        return entry.ticket

    def _drop_oldest(self) -> bool:
        for id, entry in self._entries.items():
            if not entry.running:
                del self._entries[id]
                return True
        return False
