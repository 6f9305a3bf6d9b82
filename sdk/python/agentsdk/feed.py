"""A feed: process changes and events as they come, over a connection of its own, in an iterator.

    daemon ──► its thread ──► viewer, backlog ──► get, for … in …     (any thread)

A lost connection is made anew by the thread of the lost one. Closed by `close`, by its group, or when it is forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from functools import partial
from types import TracebackType
from typing import Any

from .change import Backlog, Change
from .client import Client
from .errors import AgentError, Forbidden, LinkLost, LoginRefused, WireError
from .line import Line
from .pause import Pause
from .picture import Viewer
from .report import read_events
from .selection import Selection

LOG = logging.getLogger("agentsdk")
SUBSCRIBE_S = 30.0
REFUSALS = 3  # in a row: the password was changed or the user removed; more tries would only fill the audit
LOOK_S = 5.0  # how often one who waits looks for what is overdue


class Feed:
    """`for change in feed` ends when it is closed; LinkLost (or LoginRefused, Forbidden) where it cannot go on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._forgotten = weakref.finalize(self, watch.close)
        self._forgotten.atexit = False

    def get(self, timeout_s: float | None = None) -> Change | None:
        """The next one; None when there is none in time, or it is closed."""
        return self._watch.get(timeout_s)

    def close(self) -> None:
        """Whoever waits in another thread comes back at once."""
        self._watch.close()

    @property
    def closed(self) -> bool:
        return self._watch.closed.is_set()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Change:
        change = self.get()
        if change is None:
            raise StopIteration
        return change

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Watch:
    """The feed's other side: what its threads work on. It knows nothing of who listens."""

    def __init__(
        self, line: Line, selection: Selection, events: bool, initial: bool, reconnect: bool
    ) -> None:
        self.closed = threading.Event()
        self._line, self._selection = line, selection
        self._events, self._initial, self._reconnect = events, initial, reconnect
        self._news = threading.Condition()  # guards all that follows
        self._viewer, self._backlog = Viewer(), Backlog()
        self._client: Client | None = None
        self._dialled = 0  # what an earlier connection still says counts no more
        self._begun = False  # this connection's picture has been whole once
        self._lost = ""
        self._error: AgentError | None = None

    def open(self, timeout_s: float) -> None:
        """Raises what keeps it from beginning; what changes after it has returned is told."""
        self._subscribe(timeout_s)

    def close(self) -> None:
        self.closed.set()
        with self._news:
            client = self._client
            self._news.notify_all()
        if client is not None:
            client.close()

    def get(self, timeout_s: float | None) -> Change | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._news:
            while not self.closed.is_set():
                if self._begun:
                    self._backlog.touched(self._viewer.look(time.monotonic()))
                change = self._backlog.next(self._viewer.picture.processes)
                if change is not None:
                    return change
                if self._error is not None:
                    raise self._error
                left_s = LOOK_S if deadline is None else deadline - time.monotonic()
                if left_s <= 0:
                    return None
                self._news.wait(min(LOOK_S, left_s))
        return None

    # ---- the connection

    def _subscribe(self, timeout_s: float) -> None:
        """Events first: with the picture it is complete. Raises AgentError."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            self._dialled += 1
            dialled = self._dialled
            self._begun = False
        client = self._line.dial(partial(self._noticed, dialled), timeout_s, self._ended)
        try:
            where = self._selection.fields()
            if self._events:
                client.call("events.watch", where, "events.begun", _left_s(deadline))
            wanted = {**where, "follow": True, "parts": ["world", "processes"]}
            shown = partial(self._shown, dialled)
            client.call("picture.watch", wanted, "picture.begun", _left_s(deadline), shown)
            self._take(client)
        except BaseException:
            client.close()
            raise

    def _take(self, client: Client) -> None:
        with self._news:
            self._client = client
            if client.lost:
                self._client = None
                raise LinkLost(f"the link to {client} was lost ({client.lost})")
        if self.closed.is_set():
            client.close()

    def _ended(self, client: Client) -> None:
        """In the thread of the lost connection, which goes on here until there is another."""
        with self._news:
            if client is not self._client or self.closed.is_set():
                return
            self._client, self._begun = None, False
            self._lost = f"the link to {client} was lost ({client.lost})"
            if self._reconnect:
                self._backlog.trouble(self._lost)
            else:
                self._error = LinkLost(self._lost)
            self._news.notify_all()
        if self._reconnect:
            self._come_back()

    def _come_back(self) -> None:
        try:
            self._try()
        except Exception as error:  # nobody would hear of it, and wait for ever
            LOG.exception("a feed")
            self._fail(AgentError(f"a bug: {type(error).__name__}: {error}"))

    def _try(self) -> None:
        pause, refusals = Pause(0.2, 10.0), 0
        while not self.closed.wait(pause.next_s()):
            try:
                self._subscribe(SUBSCRIBE_S)
                return
            except (LoginRefused, Forbidden) as error:
                refusals += 1
                if refusals == REFUSALS or isinstance(error, Forbidden):
                    self._fail(error)
                    return
                self._tell_trouble(str(error))
            except AgentError as error:
                self._tell_trouble(str(error))

    def _fail(self, error: AgentError) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    def _tell_trouble(self, text: str) -> None:
        with self._news:
            self._backlog.trouble(text)
            self._news.notify_all()

    # ---- what comes, in the thread of the connection

    def _noticed(self, dialled: int, _client: Client, name: str, fields: dict[str, Any], _size: int) -> None:
        with self._news:
            if dialled != self._dialled:
                return
            try:
                if name == "picture.changed":
                    self._changed(fields)
                elif name == "events.happened":
                    self._backlog.events(read_events(fields.get("events")))
            except (ValueError, TypeError) as error:
                raise WireError(f"a {name} that cannot be read: {error}") from None
            self._news.notify_all()

    def _changed(self, fields: dict[str, Any]) -> None:
        before = self._viewer.trouble
        touched = self._viewer.apply(fields, time.monotonic())
        if self._viewer.trouble != before:
            self._backlog.trouble(self._viewer.trouble)
        self._backlog.touched(touched)

    def _shown(self, dialled: int, good: bool) -> None:
        """The picture has been sent whole."""
        with self._news:
            if not good or dialled != self._dialled:
                return
            self._begun = True
            touched = self._viewer.show()
            if self._lost:
                self._backlog.reconnected(self._lost)
            if self._lost or self._initial:
                self._backlog.touched(touched)
            else:
                self._backlog.told = dict(self._viewer.picture.processes)
            self._news.notify_all()


def _left_s(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
