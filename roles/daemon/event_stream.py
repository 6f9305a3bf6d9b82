"""Events of applications: kept in globaldb, and told live to whoever watches, on any machine.

    application ─ EventRaised ─► here ─┬─► globaldb: the newest 1,000 of each process
                                       └─► subscriptions ─► admins here
                                                         └─► daemons that asked for theirs ─► admins there

A daemon that watches for an admin asks all others for a term, and again before it is over: one that dies is forgotten
by itself. Rights are those of the admin, looked up where the event is, each time. Nothing waits for a watcher: one that
does not read is passed over, and told so.
"""

import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gevent
import ujson
from gevent.event import Event

from agent import names
from agent.bucket import Buckets
from agent.codec import tame
from agent.errors import AgentError, Refused, StoreDown, StoreRefused
from agent.globaldb import LAST_AT, GlobalDb
from agent.link import Link, Peer
from agent.messages import EventRaised, EventsHappened, SubscribeEvents, WatchEvents
from agent.process import Process
from agent.selection import Selection
from agent.trouble import Trouble
from roles.daemon.presence import Presence
from roles.daemon.rights import Rights, may

log = logging.getLogger("agent.events")

RATE, BURST = 50.0, 500.0  # of one process
MAX_DATA_BYTES = 8 * 1024
MAX_NAME_CHARS = 64
COLLECT_S = 0.1
MOST_OF_A_DAEMON = 256  # subscriptions: so many admins watch there at most
TERM_S, RENEW_S = 30.0, 10.0
WAITING = 10_000  # for globaldb; the oldest go
AT_ONCE = 500
RETRY_S = 2.0
ROWS_AT_ONCE = 64  # half a megabyte at most
QUEUED_BYTES = 1024 * 1024  # on the way to one watcher
DROPPED = "events_dropped"

Row = list[Any]  # [process key, at, name, data]


@dataclass(slots=True)
class _Subscription:
    """`deliver` says whether they went out."""

    user: str
    selection: Selection
    deliver: Callable[[list[Row]], bool]
    until: float = math.inf  # monotonic
    missed: int = 0


class EventStream:
    def __init__(
        self, globaldb: GlobalDb, rights: Rights, presence: Presence, process_of: Callable[[str], Process]
    ) -> None:
        self._globaldb = globaldb
        self._rights = rights
        self._presence = presence
        self._process_of = process_of
        self._rate = Buckets(RATE, BURST)
        self._dropped: dict[str, int] = {}
        self._unstored: deque[Row] = deque(maxlen=WAITING)
        self._untold: list[Row] = []
        self._subscriptions: dict[tuple[str, str], _Subscription] = {}  # (ip, or "" for admins here; id)
        self._watches: dict[str, tuple[Link, SubscribeEvents]] = {}
        self._renew_due = self._dropped_due = 0.0
        self._wake = Event()

    # ---- what happens here

    def raised(self, key: str, event: EventRaised) -> None:
        """Never blocks. Raises Refused for one that is not as it should be."""
        if not 0 < len(event.name) <= MAX_NAME_CHARS or not event.name.isprintable():
            raise Refused("bad_request", f"an event's name has 1 to {MAX_NAME_CHARS} printable characters")
        data = tame(event.data)
        if len(ujson.dumps(data, ensure_ascii=False).encode()) > MAX_DATA_BYTES:
            raise Refused(
                "bad_request", f"the data of event {event.name} is longer than {MAX_DATA_BYTES} bytes"
            )
        if not self._rate.take(key, time.monotonic()):
            self._dropped[key] = self._dropped.get(key, 0) + 1
            return
        if dropped := self._dropped.pop(key, 0):
            self._enter([key, round(time.time(), 3), DROPPED, {"count": dropped}])
        at = event.at if 0 < event.at < LAST_AT else time.time()
        self._enter([key, round(at, 3), event.name, data])

    def _tell_dropped(self) -> None:
        """Of a flood that has ended: nothing more comes that would bring it along."""
        if time.monotonic() < self._dropped_due:
            return
        self._dropped_due = time.monotonic() + RENEW_S
        dropped, self._dropped = self._dropped, {}
        for key, count in dropped.items():
            self._enter([key, round(time.time(), 3), DROPPED, {"count": count}])

    def _enter(self, row: Row) -> None:
        self._unstored.append(row)
        if self._subscriptions:
            self._untold.append(row)
        self._wake.set()

    def follow(self) -> None:
        """For ever: tell, then keep; a globaldb that is away holds up nobody who watches."""
        storing = gevent.spawn(lambda: None)
        while True:
            self._wake.wait(RENEW_S)
            gevent.sleep(COLLECT_S)
            self._wake.clear()
            self._tell()
            self._renew()
            self._tell_dropped()
            if self._unstored and storing.ready():
                storing = gevent.spawn(self._store)

    def _store(self) -> None:
        trouble = Trouble()
        while self._unstored:
            rows = list(islice(self._unstored, AT_ONCE))
            by_key: dict[str, list[str]] = {}
            for key, *rest in rows:
                by_key.setdefault(key, []).append(ujson.dumps(rest, ensure_ascii=False))
            try:
                self._globaldb.append_events(by_key)
            except StoreDown as error:
                if trouble.is_news(error):
                    log.warning("events wait: %s", error)
                gevent.sleep(RETRY_S)
                continue
            except StoreRefused as error:  # all others were taken: again would be twice
                log.error("events of some of these processes are lost, globaldb refuses them: %s: %s",
                          ", ".join(list(by_key)[:5]), error)  # fmt: skip
            for row in rows:
                if self._unstored and self._unstored[0] is row:
                    self._unstored.popleft()

    def _tell(self) -> None:
        rows, self._untold = self._untold, []
        now = time.monotonic()
        for place, subscription in list(self._subscriptions.items()):
            if subscription.until < now:
                self._subscriptions.pop(place, None)  # it may have ended while we told the one before
            elif rows:
                self._tell_one(subscription, rows)

    def _tell_one(self, subscription: _Subscription, rows: list[Row]) -> None:
        try:
            grants = self._rights.grants(subscription.user)
        except AgentError as error:
            log.debug("events for %s: %s", subscription.user, error)
            if not (isinstance(error, Refused) and error.code == "forbidden"):
                subscription.missed += len(rows)
            return
        matches = subscription.selection.matches
        processes = {row[0]: self._process_of(row[0]) for row in rows}
        visible = {
            key
            for key, p in processes.items()
            if matches(p.region, p.ip, p.name) and may(grants, "events", p)
        }
        shown = [row for row in rows if row[0] in visible]
        if not shown:
            return
        count = len(shown)
        if subscription.missed:
            key, at, *_ = shown[0]
            shown.insert(
                0, [key, at, DROPPED, {"count": subscription.missed, "why": "this watcher is too slow"}]
            )
        if subscription.deliver(shown):
            subscription.missed = 0
        else:
            subscription.missed += count

    # ---- who watches

    def watch(self, peer: Peer, asked: WatchEvents) -> None:
        """For an admin here, until his link ends; one watch per link. Raises Refused."""
        if peer.link.closed_why:  # he has left while his rights were read
            return
        selection = Selection(asked.region, asked.machine, asked.name)
        selection.matches("", "", "")  # a pattern that is none is found now
        self.forget(peer.link)
        id_, link = secrets.token_hex(8), peer.link
        self._subscriptions["", id_] = _Subscription(peer.name, selection, lambda rows: _push(link, rows))
        subscribe = SubscribeEvents(id_, peer.name, asked.region, asked.machine, asked.name, TERM_S)
        self._watches[id_] = (link, subscribe)
        self._ask_others(subscribe)

    def forget(self, link: Link) -> None:
        """An admin has left."""
        for id_ in [id_ for id_, (watcher, _) in self._watches.items() if watcher is link]:
            _, subscribe = self._watches.pop(id_)
            self._subscriptions.pop(("", id_), None)
            self._ask_others(_over(subscribe))

    def subscribe(self, ip: str, asked: SubscribeEvents) -> None:
        """Another daemon asks for one of its admins."""
        if len(asked.id) > MAX_NAME_CHARS or not math.isfinite(asked.term_s):
            raise Refused("bad_request", "a subscription has a short id and a term")
        place = (ip, asked.id)
        if asked.term_s <= 0:
            self._subscriptions.pop(place, None)
            return
        theirs = [known for known in self._subscriptions if known[0] == ip]
        if len(theirs) >= MOST_OF_A_DAEMON and place not in self._subscriptions:
            del self._subscriptions[theirs[0]]
        selection = Selection(asked.region, asked.machine, asked.name)
        selection.matches("", "", "")
        until = time.monotonic() + min(asked.term_s, 10 * TERM_S)
        known = self._subscriptions.get(place)
        if known is not None and (known.user, known.selection) == (asked.user, selection):
            known.until = until
            return

        def deliver(rows: list[Row]) -> bool:
            link = self._presence.link
            return link is not None and _push(link, rows, asked.id, ip.encode())

        self._subscriptions[place] = _Subscription(asked.user, selection, deliver, until)

    def happened(self, ip: str, notice: EventsHappened) -> None:
        """Another daemon has some for an admin here; of its own processes, as it can know of no others."""
        watch = self._watches.get(notice.id)
        rows = [row for row in notice.events if _is_row(row) and _is_of(ip, row[0])]
        if watch is not None and rows:
            _push(watch[0], rows)

    def _renew(self) -> None:
        if time.monotonic() < self._renew_due:
            return
        self._renew_due = time.monotonic() + RENEW_S
        for link, subscribe in list(self._watches.values()):
            if link.closed_why:
                self.forget(link)
            else:
                self._ask_others(subscribe)

    def _ask_others(self, subscribe: SubscribeEvents) -> None:
        link = self._presence.link
        for ip in self._presence.others() if link is not None else ():
            link.notify(subscribe, ip.encode())  # type: ignore[union-attr]


def _over(subscribe: SubscribeEvents) -> SubscribeEvents:
    return SubscribeEvents(
        subscribe.id, subscribe.user, subscribe.region, subscribe.machine, subscribe.name, 0.0
    )


def _push(link: Link, rows: list[Row], id_: str = "", dst: bytes = b"") -> bool:
    """In notices that fit a frame; False where too much waits there already."""
    if link.queued_bytes > QUEUED_BYTES:
        return False
    return all(
        link.notify(EventsHappened(rows[at : at + ROWS_AT_ONCE], id_), dst)
        for at in range(0, len(rows), ROWS_AT_ONCE)
    )


def _is_row(row: object) -> bool:
    good = isinstance(row, list) and len(row) == 4 and isinstance(row[2], str)
    return good and isinstance(row[1], int | float) and 0 <= row[1] < LAST_AT  # type: ignore[index]


def _is_of(ip: str, key: object) -> bool:
    try:
        return names.split_key(str(key))[1] == ip
    except AgentError:
        return False
