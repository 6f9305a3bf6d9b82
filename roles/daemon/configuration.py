"""What is configured for this machine, as globaldb has it now or had it last; and the launch of each process."""

import logging
from collections.abc import Callable

from agent.errors import ConfigError, StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.process import Process
from agent.program import LaunchSpec, launch_spec
from agent.trouble import Trouble
from agent.world import World

log = logging.getLogger("agent.configuration")


class Configuration:
    """`known` is False until globaldb has been read for the first time."""

    def __init__(self, globaldb: GlobalDb, ip: str) -> None:
        self.known = False
        self.processes: dict[str, Process] = {}
        self._globaldb = globaldb
        self._ip = ip
        self.world = World()
        self._trouble = Trouble()

    def refresh(self) -> bool:
        """Read what concerns this machine; False while globaldb is away: then what was known goes on to hold."""
        try:
            world = self._globaldb.read_machine(self._ip)
        except (StoreDown, StoreRefused) as error:
            if self._trouble.is_news(error):
                log.warning("%s; going on with the %d known processes, trying on", error, len(self.processes))
            return False
        if self._trouble.is_over():
            log.info("globaldb is back")
        if world is not self.world or not self.known:
            for problem in world.problems:
                log.error("configuration: %s", problem)
            self.world = world
            self.processes = {process.key: process for process in world.on(self._ip)}
            log.info("configuration: %d processes on this machine", len(self.processes))
        self.known = True
        return True

    @property
    def trouble(self) -> str:
        return self._trouble.text

    def launch_of(self, key: str) -> Callable[[], tuple[Process, LaunchSpec]]:
        """What a keeper asks before each start. Raises ConfigError, and StoreDown as long as nothing is known."""

        def newest() -> tuple[Process, LaunchSpec]:
            process = self.processes.get(key)
            if process is None and not self.known:
                why = self.trouble or "globaldb was not read yet"
                raise StoreDown(f"what is configured on {self._ip} is not known yet: {why}")
            if process is None:
                raise ConfigError(f"process {key} is no longer configured on {self._ip}")
            return process, launch_spec(process, self.world.programs)

        return newest
