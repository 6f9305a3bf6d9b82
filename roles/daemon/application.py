"""Application processes that have joined: the link to each, and what it has declared.

    application ── join, declare ──► Applications ◄── get ── bus (GM commands), saving, drain
                                          └─ on_change ──► the keeper of the process

A process has one application at most: a newer link of it takes the older one's place. Losing its link says nothing of
a process: it is the record that tells whether it lives.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent import wire
from agent.declaration import NONE_DECLARED, Declarations
from agent.errors import Refused
from agent.link import Link, Peer
from agent.messages import EntryState, ExecuteGm, GmAnswer, ProcessSaved, SaveProcess, SetEntry

log = logging.getLogger("agent.application")

FRAME_BYTES = 1024 * 1024  # either way
QUEUE_BYTES = 4 * 1024 * 1024
ENTRY_S = 10.0
PROGRESS_S = 0.2
SAVE_S = 24 * 3600.0  # the keeper gives up long before


@dataclass(slots=True, eq=False)
class Application:
    """One of them, over its present link."""

    key: str
    incarnation: str
    link: Link
    saves: bool = False  # it saves when asked to
    entry: bool = False  # it can close its entry
    declarations: Declarations = NONE_DECLARED
    progress_due: float = 0.0  # monotonic

    def execute(self, request: ExecuteGm, wait_s: float) -> GmAnswer:
        """Raises Refused (its own code and reason), LinkLost, NoReply."""
        answer: GmAnswer = self.link.call(request, wait_s)
        return answer

    def save(self, id_: str, reason: str) -> ProcessSaved:
        """Blocks until it has saved. Raises what `execute` raises."""
        saved: ProcessSaved = self.link.call(SaveProcess(id_, reason), SAVE_S)
        return saved

    def is_progress_due(self) -> bool:
        """Whether a word of progress is worth a line now: one that says a thousand a second costs us five."""
        now = time.monotonic()
        due = now >= self.progress_due
        if due:
            self.progress_due = now + PROGRESS_S
        return due

    def set_entry(self, open_: bool, reason: str) -> EntryState:
        """Raises what `execute` raises."""
        state: EntryState = self.link.call(SetEntry(open_, reason), ENTRY_S)
        return state


class Applications:
    """Those of one machine, by the key of their process."""

    def __init__(self) -> None:
        self.on_change: Callable[[Application], None] = lambda application: None
        self._joined: dict[str, Application] = {}

    def __iter__(self) -> Iterator[Application]:
        return iter(self._joined.values())

    def __len__(self) -> int:
        return len(self._joined)

    def get(self, key: str) -> Application | None:
        return self._joined.get(key)

    def enter(self, link: Link, incarnation: str) -> Application:
        """After its admission; an older link of the same process is let go."""
        application = Application(link.peer.name, incarnation, link)
        old = self._joined.get(application.key)
        self._joined[application.key] = application
        if old is not None:
            old.link.close("replaced by a newer link of the same process")
        log.info("application %s: joined", application.key)
        return application

    def leave(self, application: Application, why: str) -> None:
        if self._joined.get(application.key) is application:
            del self._joined[application.key]
            log.info("application %s: left (%s)", application.key, why)

    def declare(self, application: Application, saves: bool, entry: bool, declarations: Declarations) -> None:
        """It has said what it can do."""
        application.saves, application.entry, application.declarations = saves, entry, declarations
        self.on_change(application)

    def speaking(self, peer: Peer) -> Application:
        """The application at the far end of a link of its own. Raises Refused: a name that a relay vouches for is not
        enough."""
        application = self._joined.get(peer.name)
        if application is None or application.link is not peer.link:
            raise Refused("forbidden", f"{peer.name} does not speak over a link of its own")
        return application


def link_options() -> dict[str, object]:
    """How a link to an application differs from others."""
    return {"same_machine": True, "frame_bytes": FRAME_BYTES, "queue_bytes": QUEUE_BYTES}


assert FRAME_BYTES <= wire.MAX_FRAME_BYTES
