"""The processes of a session. Each managed process leads its own, so a session is the whole tree it started.

Every member is signalled through its own pidfd, after its session was looked at again. A child that called
setsid itself is outside: it left on purpose, as daemons do.
"""

import signal
import time
from collections import defaultdict
from collections.abc import Iterable

from roles.daemon import identity as proc
from roles.daemon.identity import Identity, ProcStat

KILL_ROUNDS = 20  # a tree that forks faster than this many scans is looked at again by the keeper


class Sessions:
    """Who is in which session, from one walk over /proc that many keepers may share."""

    def __init__(self) -> None:
        self._taken_at = float("-inf")
        self._members: dict[int, list[ProcStat]] = {}

    def members(self, leader: Identity, since: float | None = None) -> list[Identity]:
        """The living members, the leader included, as of some moment after `since` (monotonic; default: now).

        Only processes born after the leader; and none at all if its pid leads another session by now.
        """
        if leader.boot_id != proc.boot_id():
            return []
        if since is None or self._taken_at <= since:
            self._walk()
        found = [stat for stat in self._members.get(leader.pid, ()) if stat.start_ticks >= leader.start_ticks]
        if any(stat.pid == leader.pid and stat.start_ticks != leader.start_ticks for stat in found):
            return []
        return [Identity(leader.boot_id, stat.pid, stat.start_ticks) for stat in found]

    def _walk(self) -> None:
        taken_at = time.monotonic()
        members: dict[int, list[ProcStat]] = defaultdict(list)
        for pid in proc.pids():
            stat = proc.read_stat(pid)
            if stat is not None and stat.session and not stat.gone:
                members[stat.session].append(stat)
        self._members = members
        self._taken_at = taken_at


def signal_members(members: Iterable[Identity], session: int, number: int) -> list[Identity]:
    """Signal those that still are of this session; returns the ones that have the signal."""
    reached = []
    for member in members:
        stat = member.stat()
        if stat is None or stat.session != session:
            continue
        try:
            if proc.send_signal(member, number):
                reached.append(member)
        except PermissionError:  # it became another user's by a setuid program, and we are not root
            continue
    return reached


def kill_session(sessions: Sessions, leader: Identity) -> None:
    """SIGKILL to the leader, then to every member, again while new ones turn up; does not wait for their end."""
    proc.send_signal(leader, signal.SIGKILL)
    killed = {leader}
    for _ in range(KILL_ROUNDS):
        fresh = [member for member in sessions.members(leader) if member not in killed]
        if not fresh:  # who is dead forks no more
            return
        killed.update(fresh)
        signal_members(fresh, leader.pid, signal.SIGKILL)
