"""The link to a daemon: connect, log in, ask, take what it pushes; in the shell also reconnect.

    call ───────────> daemon
    picture <──────── PictureChanged      progress <──────── TargetFinished

Its greenlets are the link's own; `keep` makes it come back when the link ends.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import gevent
from gevent.event import Event

from agent import __version__, dialer, messages
from agent.address import Address
from agent.backoff import Backoff
from agent.dispatch import SHARED, Table
from agent.errors import AgentError, ConnectFailed, LoginRefused, Refused
from agent.gm import Answer
from agent.handshake import Identity
from agent.link import Link, Peer
from agent.outcome import Outcome
from roles.admin.picture import Picture

SUBSCRIBE_S = 30.0
CATALOGUE_S = 10.0
OVERDUE_S = 10.0  # a picture that is not complete by then is shown as it is
REFUSALS = 3  # in a row: the password was changed or the user removed; more tries would only fill the audit

READING = (
    messages.WatchPicture,
    messages.ReadAudit,
    messages.ReadEvents,
    messages.ReadTasks,
)  # what needs globaldb

Progress = Callable[[Outcome], None]
Said = Callable[[str, str], None]  # target, words
Take = Callable[[list[Answer]], object]


class Session:
    """`notify` (set it) gets one line whenever the connection is lost or back."""

    def __init__(self, address: Address, user: str, password: str) -> None:
        self.address = address
        self.user = user
        self.picture = Picture()
        self.pushed = Event()
        self.link: Link | None = None
        self.daemon = ""
        self.trouble = f"not connected to {address}"
        self.given_up = False  # the daemon does not let us in again
        self._password = password
        self.notify: Callable[[str], None] = lambda _line: None
        self._coming: Picture | None = None  # takes the place of `picture` once it is whole
        self._coming_since = 0.0
        self._keeping = False
        self._subscription: messages.WatchPicture | None = None
        self._progress: dict[str, tuple[Progress, Said]] = {}
        self._answers: dict[str, Take] = {}
        self.on_events: Callable[[list[list[Any]]], None] = lambda _rows: None
        self.catalogue = messages.GmCatalogue([], {})  # as it was asked for last

    def open(self) -> None:
        """Raises ConnectFailed, LoginRefused."""
        gevent.spawn(self._live, self._connect())

    def keep(self) -> None:
        """From now on a lost link is made anew."""
        self._keeping = True

    def close(self) -> None:
        self._keeping = False
        if self.link is not None:
            self.link.close("done")

    def call(self, request: Any, timeout_s: float) -> Any:
        """Raises Refused, LinkLost, NoReply, and ConnectFailed while there is no link (then nothing was sent)."""
        if self.link is None:
            raise ConnectFailed(f"{self.trouble}: nothing was sent")
        try:
            return self.link.call(request, timeout_s)
        except Refused as error:
            if error.code != "unavailable":
                raise
            text = f"daemon {self.daemon}: {_there(str(error)).removeprefix(f'daemon {self.daemon}: ')}"
            going_on = "; start, stop, kill and gm still work" if isinstance(request, READING) else ""
            raise Refused(error.code, text + going_on) from None

    def subscribe(self, request: messages.WatchPicture, timeout_s: float = SUBSCRIBE_S) -> None:
        """Fill `picture`; with `follow` it is kept so, through reconnections too. Raises what `call` raises."""
        self._subscription = request if request.follow else None
        self._begin_picture()
        try:
            begun: messages.PictureBegun = self.call(request, timeout_s)
        except AgentError as error:
            self.picture.trouble = _there(str(error))
            raise
        self._show_coming()
        self.picture.problems, self.picture.limited = list(map(str, begun.problems)), begun.limited

    @contextmanager
    def progress_of(self, command: str, progress: Progress, said: Said) -> Iterator[None]:
        self._progress[command] = (progress, said)
        try:
            yield
        finally:
            del self._progress[command]

    @contextmanager
    def answers_of(self, call: str, take: Take) -> Iterator[None]:
        self._answers[call] = take
        try:
            yield
        finally:
            del self._answers[call]

    def refresh_catalogue(self) -> None:
        """What Tab knows of GM commands; it is no trouble where that cannot be asked now."""
        try:
            self.catalogue = self.call(messages.DescribeGm(), CATALOGUE_S)
        except AgentError:
            return

    # ---- what the daemon pushes -----------------------------------------------------------------------------------

    def changed(self, notice: messages.PictureChanged) -> None:
        """A daemon begins anew when the world has changed: nobody shall see half of the new picture then."""
        now = time.monotonic()
        if notice.trouble:
            notice = replace(notice, trouble=_there(notice.trouble))
        if notice.reset and self._coming is None:
            self._begin_picture()
        if self._coming is None or notice.trouble:
            self.picture.apply(notice, now)
            self.pushed.set()
            return
        self._coming.apply(notice, now)
        if self._coming.is_complete() or now - self._coming_since > OVERDUE_S:
            self._show_coming()

    def _begin_picture(self) -> None:
        self._coming, self._coming_since = Picture(), time.monotonic()

    def _show_coming(self) -> None:
        if self._coming is not None:
            self._coming.problems, self._coming.limited = self.picture.problems, self.picture.limited
            self.picture, self._coming = self._coming, None
        self.pushed.set()

    def finished(self, notice: messages.TargetFinished) -> None:
        if notice.command in self._progress:
            self._progress[notice.command][0](Outcome(*notice.outcome[:4]))

    def said(self, notice: messages.TargetProgressed) -> None:
        if notice.command in self._progress:
            self._progress[notice.command][1](notice.target, notice.text)

    def answered(self, notice: messages.GmAnswered) -> None:
        if notice.id in self._answers:
            self._answers[notice.id]([Answer(*row[:4]) for row in notice.verdicts])

    # ---- the connection -------------------------------------------------------------------------------------------

    def _connect(self) -> Link:
        hello = Identity("admin", self.user, __version__, 0)
        sock, daemon = dialer.connect(self.address, hello, self._password)
        self.daemon = daemon.name
        self.link = Link(
            sock, local=b"", role=daemon.role, name=daemon.name, address=str(self.address), version=daemon.version,
            table=TABLE, state=self,
        )  # fmt: skip
        return self.link

    def _live(self, link: Link) -> None:
        """Until the link ends, and with `keep` for ever."""
        while True:
            why = link.run()
            self.link = None
            self.trouble = f"the connection to daemon {self.daemon} at {self.address} was lost ({why})"
            self.picture.trouble = self.trouble
            if not self._keeping:
                return
            self.notify(f"{self.trouble}; reconnecting")
            found = self._reconnect()
            if found is None:
                self.given_up = self._keeping
                self.pushed.set()
                return
            link = found
            gevent.spawn(self._resubscribe)

    def _reconnect(self) -> Link | None:
        backoff, refusals = Backoff(), 0
        while self._keeping:
            gevent.sleep(backoff.next_s())
            try:
                return self._connect()
            except LoginRefused as error:
                refusals += error.is_final  # a globaldb that is away locks nobody out
                self.trouble = str(error)
                if error.is_final and refusals == REFUSALS:
                    self.notify(f"{error}; log in again")
                    return None
            except ConnectFailed as error:
                self.trouble = str(error)
        return None

    def _resubscribe(self) -> None:
        if self._subscription is not None:
            try:
                self.subscribe(self._subscription)
            except AgentError as error:
                self.notify(f"{error}; the picture is not kept up to date")
                return
        self.notify(f"connected again to daemon {self.daemon} at {self.address}")


def _there(text: str) -> str:
    """Without the advice to whoever started the daemon: these options are its own, and not the admin's."""
    return re.sub(r" \(is it running\?[^)]*\)", "", text)


TABLE = Table(SHARED)


@TABLE.on(messages.TargetProgressed, ask=("daemon",))
def target_progressed(session: Session, _peer: Peer, notice: messages.TargetProgressed) -> None:
    """How far one target of a command is."""
    session.said(notice)


@TABLE.on(messages.GmAnswered, ask=("daemon",))
def gm_answered(session: Session, _peer: Peer, notice: messages.GmAnswered) -> None:
    """Some more verdicts of a GM command."""
    session.answered(notice)


@TABLE.on(messages.EventsHappened, ask=("daemon",))
def events_happened(session: Session, _peer: Peer, notice: messages.EventsHappened) -> None:
    """What applications tell."""
    session.on_events(notice.events)


@TABLE.on(messages.PictureChanged, ask=("daemon",))
def picture_changed(session: Session, _peer: Peer, notice: messages.PictureChanged) -> None:
    """Part of the picture."""
    session.changed(notice)


@TABLE.on(messages.TargetFinished, ask=("daemon",))
def target_finished(session: Session, _peer: Peer, notice: messages.TargetFinished) -> None:
    """One more target of a command has its outcome."""
    session.finished(notice)
