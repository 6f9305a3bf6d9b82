"""The world: regions (大区), their machines, the processes on them, and the programs these run.

    file       {"programs": {type: launch}, "world": {region: {ip: [process, …]}}, "regions": {region: {…}}}
    globaldb   program: type -> JSON      world:<region>: ip -> JSON list      world: region -> JSON

Both ways in go through agent/reader.py. A file with a problem is refused as a whole (World.from_document); what
globaldb holds may have been edited by hand: there the rest stays usable and `problems` says what is off
(World.from_parts).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agent.document import text_problems
from agent.errors import ConfigError
from agent.problem import Problem
from agent.process import Process
from agent.reader import Machines, Reader
from agent.selection import Selection

MAX_SHOWN_PROBLEMS = 200


class WorldInvalid(ConfigError):
    """A world with problems; `str()` has a line for each."""

    def __init__(self, problems: Iterable[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:MAX_SHOWN_PROBLEMS]]
        if more := len(self.problems) - len(lines):
            lines.append(f"… and {more} more problems")
        head = f"{source}: " if source else ""
        super().__init__("\n".join(head + line for line in lines))


@dataclass(frozen=True)
class World:
    """What is configured. Compare two of them with agent.difference."""

    regions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # region -> attributes
    machines: Machines = field(default_factory=dict)
    programs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # type -> launch fields
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    @classmethod
    def from_document(cls, document: Any, source: str = "") -> "World":
        """From a world file's content (document.read_document); WorldInvalid lists everything that is wrong."""
        reader = Reader()
        reader.problems.extend(text_problems(document, ""))
        parts = reader.document(document)
        reader.launches(parts)
        if reader.problems:
            raise WorldInvalid(reader.problems, source)
        return cls(*parts)

    @classmethod
    def from_parts(
        cls,
        regions: Mapping[str, str],
        machines: Mapping[str, Mapping[str, str]],
        programs: Mapping[str, str],
    ) -> "World":
        """From globaldb's texts: `world`, every `world:<region>`, `program`. Never raises; see `problems`.

        Templates are not looked into here: a process whose launch is wrong can still be seen and stopped.
        """
        reader = Reader()
        parsed: dict[str, Any] = {
            "programs": reader.texts("programs", programs),
            "regions": reader.texts("regions", regions),
            "world": {region: reader.texts(f"world.{region}", ips) for region, ips in machines.items()},
        }
        return cls(*reader.document(parsed), problems=tuple(reader.problems))

    def document(self) -> dict[str, Any]:
        """The world file's shape, sorted; `from_document` of it gives an equal world."""
        return {
            "programs": {type_: dict(self.programs[type_]) for type_ in sorted(self.programs)},
            "regions": {region: dict(self.regions[region]) for region in sorted(self.regions)},
            "world": {
                region: {
                    ip: [dict(process.fields) for process in self.machines[region][ip]]
                    for ip in sorted(self.machines[region], key=_ip_order)
                }
                for region in sorted(self.machines)
            },
        }

    def processes(self) -> Iterator[Process]:
        for ips in self.machines.values():
            for processes in ips.values():
                yield from processes

    def ips(self) -> frozenset[str]:
        return frozenset(self._by_ip)

    def on(self, ip: str) -> tuple[Process, ...]:
        """The processes of one machine, in all regions."""
        return self._by_ip.get(ip, ())

    def process(self, key: str) -> Process | None:
        return self._by_key.get(key)

    def select(self, selection: Selection) -> list[Process]:
        return [
            process
            for region, ips in self.machines.items()
            for ip, processes in ips.items()
            if selection.matches_machine(region, ip)
            for process in processes
            if selection.matches(region, ip, process.name)
        ]

    @cached_property
    def _by_key(self) -> dict[str, Process]:
        return {process.key: process for process in self.processes()}

    @cached_property
    def _by_ip(self) -> dict[str, tuple[Process, ...]]:
        by_ip: dict[str, tuple[Process, ...]] = {}
        for ips in self.machines.values():
            for ip, processes in ips.items():
                by_ip[ip] = by_ip.get(ip, ()) + processes
        return by_ip


def _ip_order(ip: str) -> tuple[int, ...]:
    return tuple(map(int, ip.split(".")))
