"""Keepers for the tests: a daemon's worth of them over one state folder."""

import itertools
from pathlib import Path

from agent.process import Process
from agent.program import LaunchSpec
from roles.daemon.adoption import adopt
from roles.daemon.journal import Journal
from roles.daemon.keeper import Keeper, Means
from roles.daemon.spawner import Spawner

IP = "192.168.1.10"
QUICK = {"ready": {"spawn": 0.0}, "stop_timeout_s": 0.5, "backoff_s": 0.05, "backoff_max_s": 0.2}


class Daemon:
    """What a daemon does with keepers, without its network. `configured[name]` is the newest configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder)
        self.means = Means(Spawner(folder), self.journal)
        self.configured: dict[str, tuple[Process, LaunchSpec]] = {}
        self.keepers: dict[str, Keeper] = {}
        self.changes: list[tuple[str, str]] = []
        self.found = adopt(
            self.journal.read(),
            self.means.spawner.owner,
            self.means.spawner.seal,
            lambda key: key.startswith(f"大区1.{IP}."),
        )

    def keeper(
        self, command: list[str], name: str = "game1", *, port: int = 0, host: str = "0.0.0.0", **fields
    ) -> Keeper:
        """The keeper of a process, adopted if there is something to adopt."""
        process = Process("大区1", IP, name, "game", host, port)
        self.configured[process.key] = process, LaunchSpec(command=command, **{**QUICK, **fields})
        keeper = Keeper(
            process.key,
            lambda: self.configured[process.key],
            self.means,
            found=self.found.get(process.key),
            on_change=lambda keeper: self.changes.append((keeper.key, keeper.state)),
        )
        self.keepers[process.key] = keeper
        return keeper

    def reconfigure(self, keeper: Keeper, command: list[str], **fields) -> None:
        process, _ = self.configured[keeper.key]
        self.configured[keeper.key] = process, LaunchSpec(command=command, **{**QUICK, **fields})

    def states(self) -> list[str]:
        """The states that were announced, repetitions left out."""
        return [state for state, _ in itertools.groupby(state for _, state in self.changes)]

    def close(self) -> None:
        """Like a daemon that ends: the processes go on."""
        for keeper in self.keepers.values():
            keeper.close()
        self.journal.close()
