"""Pictures of the group for admins: the whole one at login, then what changed, on a timer.

One read of globaldb per tick however many admins look, none while nobody does. Admins with the same rights and the same
selection get the same bytes. An admin that has not read the last push yet gets nothing but, once it has, the whole
newest picture: never a backlog.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

from agent import codec, messages, wire
from agent.errors import AgentError, Refused, StoreDown, StoreRefused
from agent.grant import Grant
from agent.link import Link, Peer
from agent.messages import PictureBegun, PictureChanged, WatchPicture
from agent.process import Process
from agent.selection import Selection, alternatives
from agent.world import World
from roles.daemon.atlas import Atlas
from roles.daemon.clock import GroupClock
from roles.daemon.observer import Observer, Seen
from roles.daemon.rights import Rights, may

log = logging.getLogger("agent.gallery")

TICK_S = 2.0
LEAST_REST = (
    9.0  # a tick rests so many times as long as its look took: at most a tenth of a core goes into it
)
ROWS = 1000  # per notice
FRAME_BYTES = wire.MAX_FRAME_BYTES // 2
QUEUED_BYTES = 8 * 1024 * 1024  # of a picture on its way to one admin; the rest waits until he has read
DRAIN_S = 0.01
PARTS = frozenset({"world", "machines", "processes"})
VERDICT = messages.PROCESS_COLUMNS.index("verdict")
INFO = messages.PROCESS_COLUMNS.index("info")
PID = messages.PROCESS_COLUMNS.index("pid")
SHOWN_PROBLEMS = 50


class View(NamedTuple):
    """What one admin gets to see; followers with equal views share their bytes."""

    grants: tuple[Grant, ...]
    selection: Selection
    parts: frozenset[str]

    @property
    def unlimited(self) -> bool:
        return any(grant.has_verb("list") and grant.selection == "*" for grant in self.grants)

    def selects(self, processes: Iterable[Process]) -> list[Process]:
        if self.selection != Selection():
            processes = [p for p in processes if self.selection.matches(p.region, p.ip, p.name)]
        return list(processes) if self.unlimited else [p for p in processes if may(self.grants, "list", p)]

    def places(self, world: World, processes: Iterable[Process]) -> dict[tuple[str, str], list[Process]]:
        """(region, ip) -> what of `processes`, which this view selects, is there; machines without any too."""
        places: dict[tuple[str, str], list[Process]] = {}
        if self.unlimited and self.selection.name == "*":
            for region, ips in world.machines.items():
                places.update({(region, ip): [] for ip in ips if self.selection.matches_machine(region, ip)})
        for process in processes:
            places.setdefault((process.region, process.ip), []).append(process)
        return places


@dataclass(slots=True)
class _Look:
    """The whole group at one moment."""

    world: World
    processes: dict[str, Seen]
    machines: dict[str, Seen]


@dataclass(slots=True)
class _Follower:
    wanted: WatchPicture
    behind: bool = False
    trouble: str = ""  # as it was told last


class Gallery:
    def __init__(self, ip: str, atlas: Atlas, observer: Observer, rights: Rights, clock: GroupClock) -> None:
        self._ip = ip
        self._atlas = atlas
        self._rights = rights
        self._clock = clock
        self._observer = observer
        self._followers: dict[Link, _Follower] = {}
        self._last: _Look | None = None
        self._wake = Event()

    # ---- at once ---------------------------------------------------------------------------------------------------

    def show(self, peer: Peer, wanted: WatchPicture) -> PictureBegun:
        """Send the picture before the reply. Raises Refused, StoreDown: who follows gets it when globaldb is back."""
        view = self._view(peer.name, wanted)
        for pattern in (wanted.region, wanted.machine, wanted.name):
            alternatives(pattern)  # one that is none would end every tick
        try:
            return self._show(peer, wanted, view)
        except (StoreDown, StoreRefused, Refused):
            if wanted.follow and not peer.link.closed_why:
                self._followers[peer.link] = _Follower(wanted, behind=True)
                self._wake.set()
            raise

    def _show(self, peer: Peer, wanted: WatchPicture, view: View) -> PictureBegun:
        world = self._atlas.world_of(wanted.machine)
        processes = view.selects(world.processes())
        before = self._last
        look = self._look(world, processes, view.parts)
        if wanted.pid:
            processes = [p for p in processes if look.processes[p.key].row[PID] == wanted.pid]
        for frame in self._whole(view, processes, look):
            peer.link.push(frame)
            gevent.sleep(0)  # it is on its way, and read, while the next one is made
            self._let_read(peer.link)
        if wanted.follow and not peer.link.closed_why:
            if not self._followers and view.selection == Selection() and view.parts == PARTS:
                before = self._last = look
            # a tick between our look and now has told the others what changed, and will not tell it again
            self._followers[peer.link] = _Follower(wanted, behind=self._last is not before)
            self._wake.set()
        return PictureBegun(
            len(processes),
            TICK_S,
            [str(problem) for problem in world.problems[:SHOWN_PROBLEMS]],
            limited=not view.unlimited,
        )

    def _let_read(self, link: Link) -> None:
        """A picture may be larger than a link's queue; one that is not read at all ends the link by its silence."""
        while link.queued_bytes > QUEUED_BYTES and not link.closed_why:
            gevent.sleep(DRAIN_S)

    def verdicts(self, processes: list[Process]) -> dict[str, str]:
        """By key, as of now. Raises Refused, StoreDown, StoreRefused."""
        if not processes:
            return {}
        self._clock.measure()
        machines = self._observer.machines(sorted({process.ip for process in processes}))
        any_world = self._atlas.world_of(processes[0].ip)  # all know every program
        seen = self._observer.processes(processes, any_world, machines)
        return {key: one.row[VERDICT] for key, one in seen.items()}

    def forget(self, link: Link) -> None:
        self._followers.pop(link, None)
        if not self._followers:
            self._last = None

    def _view(self, user: str, wanted: WatchPicture) -> View:
        selection = Selection(wanted.region, wanted.machine, wanted.name)
        parts = PARTS & {part for part in wanted.parts if isinstance(part, str)}
        return View(self._rights.grants(user), selection, parts | ({"processes"} if wanted.pid else set()))

    def _look(self, world: World, processes: list[Process], parts: frozenset[str]) -> _Look:
        self._clock.measure()
        machines = self._observer.machines(sorted(world.ips()))
        rows = self._observer.processes(processes, world, machines) if "processes" in parts else {}
        return _Look(world, rows, machines)

    # ---- on the timer ----------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """For ever."""
        while True:
            self._wake.wait()
            self._wake.clear()
            rest_s = TICK_S
            while self._followers:
                gevent.sleep(rest_s)
                if not self._followers:  # the last one left meanwhile
                    break
                began = time.monotonic()
                try:
                    self._tick()
                    self._tell_trouble("")
                except AgentError as error:  # globaldb is away
                    log.debug("no news for admins: %s", error)
                    self._tell_trouble(str(error))
                rest_s = max(TICK_S, LEAST_REST * (time.monotonic() - began))

    def _tell_trouble(self, trouble: str) -> None:
        """Once to each follower, however its words change; and once that it is over."""
        frame = self._frame(PictureChanged(trouble=trouble))
        for link, follower in list(self._followers.items()):
            if bool(follower.trouble) != bool(trouble):
                follower.trouble = trouble
                link.push(frame)

    def _tick(self) -> None:
        world = self._atlas.world()
        look = self._look(world, list(world.processes()), PARTS)
        last, self._last = self._last, look
        if last is not None and last.world is not world:
            self._observer.keep_only(look.processes, look.machines)
        views: dict[View, list[Link]] = {}
        afresh: dict[View, list[Link]] = {}
        for link, follower in list(self._followers.items()):
            try:
                view = self._view(link.peer.name, follower.wanted)
            except Refused as error:
                gevent.spawn(link.goodbye, str(error), "removed")
                continue
            if link.queued_bytes:
                follower.behind = True
            elif follower.behind or last is None or last.world is not world:
                follower.behind = False
                afresh.setdefault(view, []).append(link)
            else:
                views.setdefault(view, []).append(link)
        for view, links in afresh.items():
            self._send(links, self._whole(view, view.selects(world.processes()), look))
        if last is not None and views:
            news = _Look(world, _news(last.processes, look.processes), _news(last.machines, look.machines))
            for view, links in views.items():
                self._send(links, self._changes(view, news))

    def _send(self, links: list[Link], frames: Iterator[bytes]) -> None:
        for frame in frames:
            for link in links:
                if link.queued_bytes > QUEUED_BYTES:
                    self._fell_behind(link)
                else:
                    link.push(frame)
            gevent.sleep(0)

    def _fell_behind(self, link: Link) -> None:
        if link in self._followers:
            self._followers[link].behind = True

    # ---- bytes, encoded once for everybody who gets them -----------------------------------------------------------

    def _whole(self, view: View, processes: list[Process], look: _Look) -> Iterator[bytes]:
        at = self._clock.now() or time.time()
        places = view.places(look.world, processes)
        regions = {region: dict(look.world.regions.get(region, {})) for region, _ip in places}
        yield self._frame(PictureChanged(at=at, reset=True, regions=regions))
        if "world" in view.parts:
            rows = [[region, ip, [_shown(p) for p in there]] for (region, ip), there in places.items()]
            yield from self._frames(at, "world", rows)
        if "machines" in view.parts:
            ips = sorted({ip for _region, ip in places})
            yield from self._frames(at, "machines", [look.machines[ip].row for ip in ips])
        if "processes" in view.parts:
            yield from self._frames(
                at, "processes", [look.processes[process.key].row for process in processes]
            )

    def _changes(self, view: View, news: _Look) -> Iterator[bytes]:
        at = self._clock.now() or time.time()
        visible = view.selects(news.world.processes())
        if "machines" in view.parts:
            ips = {ip for _region, ip in view.places(news.world, visible)}
            yield from self._frames(
                at, "machines", [seen.row for ip, seen in news.machines.items() if ip in ips]
            )
        if "processes" in view.parts:
            rows = [news.processes[p.key].row for p in visible if p.key in news.processes]
            yield from self._frames(at, "processes", rows)

    def _frames(self, at: float, part: str, rows: list[list[Any]], most: int = ROWS) -> Iterator[bytes]:
        """A part of the picture in frames that a link takes: what applications write of themselves may be long."""
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            frame = self._frame(_changed(at, part, some))
            if len(frame) <= FRAME_BYTES:
                yield frame
            elif len(some) > 1:
                yield from self._frames(at, part, some, len(some) // 2)
            else:
                (row,) = some
                log.warning("%s of the picture: %d bytes are too many, shown without", row[0], len(frame))
                yield self._frame(_changed(at, part, [_emptied(part, row, len(frame))]))

    def _frame(self, notice: PictureChanged) -> bytes:
        return wire.pack(wire.NOTICE, 0, b"", self._ip.encode(), codec.encode(notice))


def _changed(at: float, part: str, rows: list[Any]) -> PictureChanged:
    fields: dict[str, Any] = {part: rows}
    return PictureChanged(at=at, **fields)


def _emptied(part: str, row: list[Any], size: int) -> list[Any]:
    """Without what made it too long."""
    place = INFO if part == "processes" else -1
    emptied: list[Any] = [*row]
    emptied[place] = [] if part == "world" else {"too_long": size}
    return emptied


def _shown(process: Process) -> dict[str, Any]:
    """As configured, without its environment: secrets stand there, and whoever may look may not have them."""
    return {name: value for name, value in process.fields.items() if name != "env"}


def _news(last: dict[str, Seen], now: dict[str, Seen]) -> dict[str, Seen]:
    return {key: seen for key, seen in now.items() if key not in last or last[key].raw != seen.raw}
