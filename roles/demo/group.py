"""A group on this machine, from nothing: globaldb, keys, user, world, router, daemons. Then the shell."""

import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

from agent import disk, frozen, key
from agent.address import Address
from agent.globaldb import GlobalDb
from agent.store import Store
from agent.user import new_user
from agent.world import World
from roles.demo import folder as places
from roles.demo import scene
from roles.demo.crew import Crew, Role

GLOBALDB_PORT, ROUTER_PORT, DAEMON_PORT = 6379, 8888, 8889
HERE = "127.0.0.1"


class Group:
    def __init__(self, folder: Path, machines: int, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.ips = scene.ips(machines)
        self.settings = folder / places.SETTINGS
        self.daemons: dict[str, Role] = {}
        self.world = World()
        self._crew = Crew(folder, self.settings)
        self._say = say

    def start(self) -> None:
        """Blocks until all daemons have reached the router. Raises AgentError."""
        disk.write_private(self.settings, b"", durable=False)
        globaldb = self._start_globaldb()
        self._say(f"globaldb  {globaldb.address}  the bundled Valkey, what is wanted and known lies there")
        self._fill(globaldb.address)
        router = self._start_router(globaldb)
        self._say(f"router    {router.address}  relays between the machines")
        self._start_daemons(router, globaldb)
        for ip in self.ips:
            router.wait_for(f"machine {ip}: online")
        listed = ", ".join(str(daemon.address) for daemon in self.daemons.values())
        self._say(f"daemons   {listed}  one per machine")
        count = len(list(self.world.processes()))
        self._say(f"world     {len(self.world.regions)} regions, {count} processes, none started yet")

    @property
    def entrance(self) -> Address:
        """The daemon that the shell logs in to; any would do."""
        return self.daemons[self.ips[0]].address

    def place_of(self, name: str) -> Address:
        """Where the first process of that name listens."""
        process = next(process for process in self.world.processes() if process.name == name)
        return Address(process.host, process.port)

    def shell(self, commands: list[str], as_json: bool) -> subprocess.Popen:
        words = [word for command in commands for word in ("-c", command)]
        if commands:
            words.append("--yes")
        if as_json:
            words.append("--json")
        return self._crew.shell(str(self.entrance), *words)

    def _start_globaldb(self) -> Role:
        data = self.folder / "globaldb"
        return self._crew.serving(
            self._crew.start("globaldb", Address(HERE, GLOBALDB_PORT), "globaldb", "--dir", str(data))
        )

    def _fill(self, place: Address) -> None:
        """What a person does with `agent key`, `agent user add` and `agent world import`."""
        password = secrets.token_urlsafe(12)
        self._write(places.PASSWORD, password)
        self._write(places.SETTINGS, scene.settings_file(place, self.folder / places.PASSWORD))
        self._write("group.key", key.new_group_key())
        secret = key.read_group_key(self.folder / "group.key")
        for ip in self.ips:
            self._write(f"machine-{ip}.key", key.machine_key_line(secret, ip))
        self.world = World.from_document(scene.world(frozen.own_command(), self.ips), "demo")
        globaldb = GlobalDb(Store(f"redis://{place}"))
        globaldb.write_user(new_user(scene.USER, password, ["* on *"]))
        globaldb.write_world(self.world, globaldb.read_world())

    def _start_router(self, globaldb: Role) -> Role:
        words = self._words("router", globaldb, "group.key")
        return self._crew.serving(self._crew.start("router", Address(HERE, ROUTER_PORT), "router", *words))

    def _start_daemons(self, router: Role, globaldb: Role) -> None:
        for ip in self.ips:
            words: tuple[str, ...] = ("--ip", ip, "--router", str(router.address))
            words += self._words(f"daemon-{ip}", globaldb, f"machine-{ip}.key")
            self.daemons[ip] = self._crew.start(f"daemon-{ip}", Address(ip, DAEMON_PORT), "daemon", *words)
        for daemon in self.daemons.values():
            self._crew.serving(daemon)

    def _words(self, state: str, globaldb: Role, key_file: str) -> tuple[str, ...]:
        url = f"redis://{globaldb.address}"
        return "--globaldb", url, "--key", str(self.folder / key_file), "--state", str(self.folder / state)

    def _write(self, name: str, line: str) -> None:
        disk.write_private(self.folder / name, f"{line}\n".encode(), durable=False)
