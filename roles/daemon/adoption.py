"""When a daemon starts: which of its processes live? From the journal and one walk over /proc.

    the journal says               /proc says                        so
    identity                       that very process lives           adopted, in the state it was in
    identity                       gone, or the pid is another's      ended while we were away
    intent, no identity            a session leader with that         adopted: we died between spawn and
                                   incarnation in its environment     recording it
    intent, no identity            nothing                            ended while we were away
    nothing, or an older start     a session leader with our mark     adopted; the oldest if several
    another boot                   -                                  everything is gone

Children inherit the marks but are no session leaders; one that called setsid is younger than its parent. Anybody may
set a mark: it counts only with a token that we made (seal), or in a process of root or of our own user, who needs no
such trick; so a state folder that is gone altogether costs nothing but the processes of other users.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from roles.daemon import identity as proc
from roles.daemon.identity import Identity, ProcStat
from roles.daemon.journal import Entry
from roles.daemon.seal import Seal
from roles.daemon.spawner import MARK_INCARNATION, MARK_KEY, MARK_OWNER, MARK_TOKEN

log = logging.getLogger("agent.adoption")


@dataclass(slots=True)
class Found:
    """What is there of one process: the entry to go on with, and who lives."""

    entry: Entry
    alive: Identity | None = None  # the main process
    remembered: bool = True  # False: there was no entry, the process itself told us
    unrecorded: bool = False  # it was started, and that start was not counted yet
    leftovers: list[Identity] = field(default_factory=list)  # children of a main process that is gone


def adopt(
    entries: Mapping[str, Entry], owner: str, seal: Seal, ours: Callable[[str], bool]
) -> dict[str, Found]:
    """Every process that the journal knows or that runs with our mark. `ours` says which keys may be adopted
    unremembered; `owner` is Spawner.owner."""
    walk = _Walk(owner, seal)
    found = {key: _of_entry(entry, walk) for key, entry in entries.items()}
    for key, leader in walk.leaders.items():
        if key not in found and ours(key):
            found[key] = _unremembered(key, leader, walk.marks[leader.pid])
    return found


def _of_entry(entry: Entry, walk: "_Walk") -> Found:
    found = _remembered(entry, walk)
    stranger = walk.leaders.get(entry.key)
    if found.alive is None and stranger is not None:
        marks = walk.marks[stranger.pid]
        if (
            marks.get(MARK_INCARNATION) != entry.incarnation
        ):  # our disk is older than it: an old copy put back
            log.warning(
                "process %s: pid %d is of a start the journal does not know: adopted", entry.key, stranger.pid
            )
            entry.incarnation, entry.token = marks.get(MARK_INCARNATION, ""), marks.get(MARK_TOKEN, "")
            return Found(entry, alive=stranger, remembered=False)
    return found


def _remembered(entry: Entry, walk: "_Walk") -> Found:
    if not entry.incarnation or (entry.ended and not entry.leftovers):
        return Found(entry)
    if entry.identity is None:
        leader = walk.by_incarnation.get(entry.incarnation)
        return Found(entry, alive=leader, unrecorded=leader is not None)
    if not entry.ended and entry.identity.alive():
        return Found(entry, alive=entry.identity)
    return Found(entry, leftovers=walk.members(entry.identity, entry.incarnation))


def _unremembered(key: str, leader: Identity, marks: Mapping[str, str]) -> Found:
    log.warning(
        "process %s: pid %d runs with our mark and the journal does not know it: adopted", key, leader.pid
    )
    entry = Entry(key=key, incarnation=marks.get(MARK_INCARNATION, ""), token=marks.get(MARK_TOKEN, ""))
    return Found(entry, alive=leader, remembered=False)


class _Walk:
    """One look at every process of this host."""

    def __init__(self, owner: str, seal: Seal) -> None:
        self._owner = owner
        self._seal = seal
        self.leaders: dict[str, Identity] = {}  # by key, the oldest
        self.by_incarnation: dict[str, Identity] = {}
        self.marks: dict[int, dict[str, str]] = {}  # by pid, of leaders
        self._stats: dict[int, list[ProcStat]] = {}  # by session
        for pid in proc.pids():
            stat = proc.read_stat(pid)
            if stat is None or stat.gone:
                continue
            self._stats.setdefault(stat.session, []).append(stat)
            if stat.session == stat.pid:
                self._leader(stat)

    def _leader(self, stat: ProcStat) -> None:
        marks = proc.read_environ(stat.pid)
        if marks.get(MARK_OWNER) != self._owner or MARK_KEY not in marks:
            return
        if not self._genuine(stat.pid, marks):
            log.warning(
                "pid %d has the marks of %.200r and no token of ours: not adopted", stat.pid, marks[MARK_KEY]
            )
            return
        leader = Identity(proc.boot_id(), stat.pid, stat.start_ticks)
        self.marks[stat.pid] = marks
        for index, name in (
            (self.leaders, marks[MARK_KEY]),
            (self.by_incarnation, marks.get(MARK_INCARNATION, "")),
        ):
            if name not in index or _age(leader) < _age(index[name]):
                index[name] = leader

    def _genuine(self, pid: int, marks: Mapping[str, str]) -> bool:
        token, incarnation = marks.get(MARK_TOKEN, ""), marks.get(MARK_INCARNATION, "")
        return self._seal.fits(token, marks[MARK_KEY], incarnation) or proc.read_uids(pid) <= {
            0,
            os.geteuid(),
        }

    def members(self, leader: Identity, incarnation: str) -> list[Identity]:
        """What a leader that is gone left in its session; the mark tells it from a session that got the same number."""
        if leader.boot_id != proc.boot_id():
            return []
        return [
            Identity(leader.boot_id, stat.pid, stat.start_ticks)
            for stat in self._stats.get(leader.pid, ())
            if stat.start_ticks >= leader.start_ticks
            and proc.read_environ(stat.pid).get(MARK_INCARNATION) == incarnation
        ]


def _age(leader: Identity) -> tuple[int, int]:
    return leader.start_ticks, leader.pid
