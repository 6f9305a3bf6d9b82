"""How one process is started: from the newest configuration, if nothing is in the way, and never unremembered.

    configuration ─► children of the last run? port taken? ─► intent on disk ─► spawn ─► identity

Whatever goes wrong is an event of agent/lifecycle.py: SPAWN_BLOCKED where trying again may help, else SPAWN_FAILED.
"""

import logging
import secrets
from collections.abc import Callable

from agent import lifecycle
from agent.errors import AgentError, StoreDown
from agent.process import Process
from agent.program import LaunchSpec
from roles.daemon import identity as proc
from roles.daemon import ports
from roles.daemon.ending import Ending
from roles.daemon.identity import Identity
from roles.daemon.journal import JournalFailed
from roles.daemon.memory import Memory
from roles.daemon.spawner import Marks, Spawner, SpawnFailed

log = logging.getLogger("agent.keeper")

Configuration = Callable[[], tuple[Process, LaunchSpec]]  # the newest; raises AgentError where there is none


class Launch:
    """Starts one process, and knows who had its port when it could not."""

    def __init__(
        self,
        configuration: Configuration,
        memory: Memory,
        ending: Ending,
        spawner: Spawner,
    ) -> None:
        self.foreign = ""  # who has our port, in words; "" where nobody was seen to
        self._configuration = configuration
        self._memory = memory
        self._ending = ending
        self._spawner = spawner

    def attempt(self) -> tuple[str, str]:
        """Starts it: the event that tells what became of it, and why."""
        try:
            process, spec = self._configuration()
        except StoreDown as error:
            return lifecycle.SPAWN_BLOCKED, str(error)
        except AgentError as error:
            return lifecycle.SPAWN_FAILED, self._said(error)
        if blocked := self._blocked(process, spec):
            return lifecycle.SPAWN_BLOCKED, blocked
        self._memory.take(process, spec)
        return self._spawn(spec)

    def adopt(self, alive: Identity) -> None:
        """It runs already, and we do not remember its start: what is configured now is taken for it."""
        self._memory.entry.started_at = self._memory.clock() - alive.age_s()
        try:
            self._memory.take(*self._configuration())
        except AgentError as error:
            log.warning("process %s: adopted without configuration: %s",
                        self._memory.entry.key, self._said(error))  # fmt: skip

    def check_foreign(self) -> str:
        """Look again who has the port, of a process that is down; "" where nobody has."""
        if not self._memory.entry.life.alive and not self._memory.entry.leftovers:
            try:
                self.foreign = _holder(*self._configuration())
            except AgentError:
                self.foreign = ""
        return self.foreign

    def _blocked(self, process: Process, spec: LaunchSpec) -> str:
        """Why it must not be spawned now; "" if nothing is in the way."""
        if leftovers := self._ending.leftovers():
            pids = ", ".join(str(each.pid) for each in leftovers)
            return f"children of its last run still live (pid {pids}); stop or kill it first"
        self.foreign = _holder(process, spec)
        return self.foreign

    def _said(self, error: AgentError) -> str:
        """Without its key, which stands beside it wherever it is shown."""
        return str(error).replace(f"process {self._memory.entry.key}: ", "")

    def _spawn(self, spec: LaunchSpec) -> tuple[str, str]:
        entry = self._memory.entry
        entry.incarnation = secrets.token_hex(8)
        entry.token = self._spawner.seal.token(entry.key, entry.incarnation)
        entry.identity, entry.ended, entry.leftovers, entry.saves = None, False, [], False
        if not entry.crashed_at:
            entry.exit = ""  # of a crash it stays to be seen while the next run lives
        entry.started_at = self._memory.clock()
        try:
            self._memory.intend()
            pid = self._spawner.spawn(spec, Marks(entry.key, entry.incarnation, entry.token))
        except JournalFailed as error:
            entry.ended = True
            return lifecycle.SPAWN_BLOCKED, f"{self._said(error)}; not started, as it would be forgotten"
        except SpawnFailed as error:
            entry.ended = True
            return lifecycle.SPAWN_BLOCKED if error.temporary else lifecycle.SPAWN_FAILED, self._said(error)
        entry.starts = entry.starts.counted()
        # Never None for a child that was not reaped; start time 0 is nobody's, so nothing else would be signalled.
        entry.identity = proc.identify(pid) or Identity(proc.boot_id(), pid, 0)
        self._memory.changed()
        return lifecycle.SPAWNED, ""


def _holder(process: Process, spec: LaunchSpec) -> str:
    """Who has its port, in words; "" where it is free."""
    if not process.port or ports.is_free(process.host, process.port, spec.protocol):
        return ""
    who = ports.holder(process.host, process.port, spec.protocol)
    started = "" if who.key else " which the agent did not start"
    return f"port {process.port} is taken by {who}{started}"
