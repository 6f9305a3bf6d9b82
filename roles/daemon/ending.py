"""How one process is brought to its end, with everything in its session.

    ask       the polite signal to the main process             ask_rest   the same to what it left behind
    kill      SIGKILL to the main process and its session       leftovers  who is still there after it

Rules for the next editor:
- A signal goes only to who is still in our session, by identity (roles/daemon/identity.py), and after `remember`.
- After the main process its session is asked only while a child we know of lives: its number may be another's by then.
"""

import logging
import signal

from roles.daemon import identity as proc
from roles.daemon import tree
from roles.daemon.identity import Identity
from roles.daemon.memory import Memory

log = logging.getLogger("agent.keeper")


class Ending:
    """The signals of one process, and the children that outlive it."""

    def __init__(self, memory: Memory, sessions: tree.Sessions) -> None:
        self._memory = memory
        self._entry = memory.entry
        self._sessions = sessions

    def ask(self) -> None:
        """To the main process; where it is gone already, to what it left behind."""
        if self._entry.ended:
            self.ask_rest()
            return
        self._memory.remember()
        assert self._entry.identity is not None
        self._signal(self._entry.identity)
        self._entry.signalled = True
        self._memory.changed()
        self._memory.remember()

    def ask_rest(self) -> None:
        self._memory.remember()
        for each in self.leftovers():
            self._signal(each)

    def kill(self) -> None:
        self._memory.remember()
        if self._entry.identity is None:
            return
        try:
            if not self._entry.ended or self.leftovers():
                tree.kill_session(self._sessions, self._entry.identity)
        except PermissionError:
            self._say_forbidden("killed", self._entry.pid)

    def members(self) -> list[Identity]:
        """Everything alive in its session now: a walk over /proc."""
        return self._sessions.members(self._entry.identity) if self._entry.identity else []

    def rest(self, since: float | None = None) -> list[Identity]:
        """Who lives in the session beside the main process, at some moment after `since` (default: now)."""
        leader = self._entry.identity
        if leader is None:
            return []
        return [each for each in self._sessions.members(leader, since) if each.pid != leader.pid]

    def leftovers(self) -> list[Identity]:
        """Those that are still there, and their children."""
        if self._entry.leftovers:
            known = [each for each in self._entry.leftovers if each.alive()]
            seen = [each for each in self.rest() if each not in known] if known else []
            if known + seen != self._entry.leftovers:
                self._entry.leftovers = known + seen
                self._memory.changed()
        return self._entry.leftovers

    def _signal(self, whom: Identity) -> None:
        stat = whom.stat()
        if stat is None or self._entry.identity is None or stat.session != self._entry.identity.pid:
            return
        try:
            proc.send_signal(whom, proc.signal_number(self._memory.spec.stop_signal))
            if stat.stopped:  # it could not save, nor end, while it is held
                proc.send_signal(whom, signal.SIGCONT)
        except PermissionError:
            self._say_forbidden("signalled", whom.pid)

    def _say_forbidden(self, done: str, pid: int) -> None:
        log.error(
            "process %s: pid %d may not be %s: it changed its user and we are not root",
            self._entry.key,
            pid,
            done,
        )
