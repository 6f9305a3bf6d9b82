"""Makes sense of a document: regions, machines and programs, and every problem with the path to it.

    {"programs": {type: launch}, "world": {region: {ip: [process, …]}}, "regions": {region: {…}}}

Both ways into a World go through here, a world file and what stands in globaldb. Nothing raises: what cannot be used
is left out and said, and whoever asked decides whether the rest is good enough.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from agent import names
from agent.address import MAX_PORT
from agent.document import read_value
from agent.problem import Problem, shown
from agent.process import ANY_HOST, Process
from agent.program import program_problems, read_launch

WILDCARD_HOSTS = frozenset({"", ANY_HOST, "*", "::"})

Machines = Mapping[str, Mapping[str, tuple[Process, ...]]]  # region -> ip -> …


class Parts(NamedTuple):
    """What a document says, as far as it can be used."""

    regions: Mapping[str, Mapping[str, Any]]  # region -> attributes
    machines: Machines
    programs: Mapping[str, Mapping[str, Any]]  # type -> launch fields


class Reader:
    """Reads one document; what is wrong goes to `problems`, what is unusable is left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._portless: set[str] = set()  # keys of processes whose port is wrong, which is said once
        self.places: dict[str, str] = {}  # process key -> its path in the file

    def say(self, path: str, text: str) -> None:
        self.problems.append(Problem(path, text))

    def texts(self, path: str, texts: Mapping[str, str]) -> dict[str, Any]:
        """One hash of globaldb: field -> JSON."""
        values = {}
        for name, text in texts.items():
            try:
                values[name] = read_value(text)
            except (ValueError, RecursionError) as error:
                self.say(f"{path}.{name}", f"is not JSON: {error}")
        return values

    def document(self, document: Any) -> Parts:
        if not self._is_object(document, "", "the file"):
            return Parts({}, {}, {})
        known = ("programs", "world", "regions")
        for key in document:
            if key not in known:
                self.say(
                    "", f"no key {shown(key)} here{names.did_you_mean(key, known)}; known: {', '.join(known)}"
                )
        for key in ("programs", "world"):
            if key not in document:
                self.say("", f'"{key}" is missing')
        programs = self._programs(document.get("programs", {}))
        regions = self._regions(document.get("regions", {}))
        machines = self._machines(document.get("world", {}), programs)
        regions = {**{region: {} for region in machines}, **regions}
        machines = {**{region: {} for region in regions}, **machines}
        self._port_conflicts(machines, programs)
        return Parts(regions, machines, programs)

    def _is_object(self, value: Any, path: str, what: str = "") -> bool:
        if isinstance(value, dict):
            return True
        self.say(path, f"{what + ' ' if what else ''}{shown(value)} is not an object")
        return False

    def _named(self, word: Any, problem: str, path: str) -> bool:
        if problem:
            self.say(path, f"{shown(word)} {problem}")
        return not problem

    def _programs(self, raw: Any) -> dict[str, dict[str, Any]]:
        programs: dict[str, dict[str, Any]] = {}
        if not self._is_object(raw, "programs"):
            return programs
        for type_, program in raw.items():
            if not self._named(type_, names.type_problem(type_), "programs"):
                continue
            self.problems.extend(program_problems(type_, program))
            if isinstance(program, dict):
                programs[type_] = program
        return programs

    def _regions(self, raw: Any) -> dict[str, dict[str, Any]]:
        if not self._is_object(raw, "regions"):
            return {}
        return {
            region: attributes
            for region, attributes in raw.items()
            if self._named(region, names.region_problem(region), "regions")
            and self._is_object(attributes, f"regions.{region}")
        }

    def _machines(self, raw: Any, programs: Mapping[str, Any]) -> Machines:
        machines: dict[str, dict[str, tuple[Process, ...]]] = {}
        if not self._is_object(raw, "world"):
            return machines
        for region, ips in raw.items():
            if not self._named(region, names.region_problem(region), "world"):
                continue
            path = f"world.{region}"
            machines[region] = {}
            if not self._is_object(ips, path):
                continue
            for ip, entries in ips.items():
                if not self._named(ip, names.ip_problem(ip), path):
                    continue
                if not isinstance(entries, list):
                    self.say(f"{path}.{ip}", f"{shown(entries)} is not a list of processes")
                    continue
                machines[region][ip] = self._processes(region, ip, entries, programs)
        return machines

    def _processes(
        self, region: str, ip: str, entries: list[Any], programs: Mapping[str, Any]
    ) -> tuple[Process, ...]:
        processes: dict[str, Process] = {}
        for i, entry in enumerate(entries):
            path = f"world.{region}.{ip}[{i}]"
            process = self._process(region, ip, entry, path)
            if process is None:
                continue
            if process.type not in programs:
                self.say(
                    f"{path}.type", f'no program "{process.type}"{names.did_you_mean(process.type, programs)}'
                )
            if process.name in processes:
                self.say(f"{path}.name", f'"{process.name}" stands twice on this machine of this region')
                continue
            processes[process.name] = process
            self.places[process.key] = path
        return tuple(processes.values())

    def _process(self, region: str, ip: str, entry: Any, path: str) -> Process | None:
        if not self._is_object(entry, path):
            return None
        good = True
        for name, problem_of in (("name", names.name_problem), ("type", names.type_problem)):
            if name not in entry:
                self.say(path, f'"{name}" is missing')
                good = False
            else:
                word = entry[name]
                problem = problem_of(word) if isinstance(word, str) else "is not a string"
                good = self._named(word, problem, f"{path}.{name}") and good
        host, port = entry.get("host", ANY_HOST), entry.get("port", 0)
        if not isinstance(host, str) or any(c.isspace() or not c.isprintable() for c in host):
            self.say(f"{path}.host", f"{shown(host)} is not a host")
            host = ANY_HOST
        if type(port) is not int or not 0 <= port <= MAX_PORT:
            self.say(f"{path}.port", f"{shown(port)} is not a port (0–{MAX_PORT}, 0: none)")
            port = None
        count = entry.get("agentcount", 0)
        if type(count) is not int or count < 0:
            self.say(f"{path}.agentcount", f"{shown(count)} is not a whole number from 0 up")
        for own, place in (("region", region), ("ip", ip)):
            if entry.get(own, place) != place:
                self.say(f"{path}.{own}", f"{shown(entry[own])} contradicts its place, {place}")
        if not good:
            return None
        if problem := names.key_problem(region, ip, entry["name"]):
            self.say(f"{path}.name", f'"{entry["name"]}" {problem}')
            return None
        process = Process(region, ip, entry["name"], entry["type"], host, port or 0, entry)
        if port is None:
            self._portless.add(process.key)
        return process

    def _port_conflicts(self, machines: Machines, programs: Mapping[str, Any]) -> None:
        """Two processes on one host:port of one machine, whatever their regions. A wildcard is every host."""
        holders: dict[tuple[str, int, str], list[Process]] = {}
        for process in _all(machines):
            if not process.port:
                continue
            place = (process.ip, process.port, _protocol(process, programs))
            for other in holders.setdefault(place, []):
                if process.host == other.host or WILDCARD_HOSTS & {process.host, other.host}:
                    where = f" ({other.host})" if other.host != process.host else ""
                    self.say(
                        f"{self.places[process.key]}.port",
                        f"{process.name} listens on {process.host}:{process.port}, and so does {other.key}{where}",
                    )
                    break
            holders[place].append(process)

    def launches(self, parts: Parts) -> None:
        """Templates and overrides of every process. A program's fault is told once, with how many have it."""
        said = set(self.problems)
        shared: dict[Problem, list[Process]] = {}
        for process in _all(parts.machines):
            if process.type not in parts.programs:
                continue  # said already
            if process.key in self._portless:
                process = replace(process, port=MAX_PORT)  # else {port} would be wrong a second time
            _, problems = read_launch(process, parts.programs)
            for path, text in problems:
                if path.startswith("programs."):
                    shared.setdefault(Problem(path, text), []).append(process)
                else:
                    self.say(f"{self.places[process.key]}.{path}", text)
        for problem, processes in shared.items():
            if problem not in said:
                more = f" and {len(processes) - 1} more" if len(processes) > 1 else ""
                self.say(problem.path, f"{problem.text} (process {processes[0].key}{more})")


def _all(machines: Machines) -> Iterator[Process]:
    for ips in machines.values():
        for processes in ips.values():
            yield from processes


def _protocol(process: Process, programs: Mapping[str, Any]) -> str:
    return str(process.fields.get("protocol", programs.get(process.type, {}).get("protocol", "tcp")))
