"""The world beyond this machine, read when it is asked for; while globaldb is away, as it was read last."""

import logging
from collections.abc import Callable

from agent import names
from agent.errors import Refused, StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.world import World
from roles.daemon.configuration import Configuration

log = logging.getLogger("agent.atlas")


class Atlas:
    def __init__(self, globaldb: GlobalDb, configuration: Configuration, ip: str) -> None:
        self._globaldb = globaldb
        self._configuration = configuration
        self._ip = ip
        self._worlds: dict[str, World] = {}  # ip, or "" for the whole -> as read last

    def world(self) -> World:
        """Everything configured, as it is now or as it was read last. Raises Refused where it never was."""
        return self._newest("", self._globaldb.read_world)

    def world_of(self, machine: str) -> World:
        """As much of the world as a machine pattern can concern: one machine's part where it is a plain ip."""
        if not names.is_ip(machine):
            return self.world()
        return self._newest(machine, lambda: self._globaldb.read_machine(machine))

    def _newest(self, machine: str, read: Callable[[], World]) -> World:
        """What was never read is not known: to take it for empty would be a lie."""
        try:
            world = read()
        except (StoreDown, StoreRefused) as error:
            log.warning("the world as last read: %s", error)
            own = self._configuration.world if machine == self._ip and self._configuration.known else None
            known = own or self._worlds.get(machine) or self._worlds.get("")
            if known is None:
                what = f"what is configured on {machine}" if machine else "the world"
                raise Refused(
                    "unavailable", f"{what} is not known to daemon {self._ip} yet: {error}"
                ) from None
            return known
        if not machine or world.ips():  # not every ip that somebody may make up
            self._worlds[machine] = world
        return world
