"""The world: regions (大区), their machines, the processes on them, and the programs these run.

    file       {"programs": {type: launch}, "world": {region: {ip: [process, …]}}, "regions": {region: {…}}}
    globaldb   program: type -> JSON      world:<region>: ip -> JSON list      world: region -> JSON

Both ways in go through one reader (_Reader). It collects every problem with the path to it and leaves out
what cannot be used. A file with a problem is refused as a whole (World.from_document); what globaldb holds
may have been edited by hand: there the rest stays usable and `problems` says what is off (World.from_parts).
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from agent import names
from agent.address import MAX_PORT
from agent.errors import ConfigError
from agent.problem import Problem, shown
from agent.process import ANY_HOST, Process
from agent.program import program_problems, read_launch
from agent.selection import Selection

WILDCARD_HOSTS = frozenset({"", ANY_HOST, "*", "::"})
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
    machines: Mapping[str, Mapping[str, tuple[Process, ...]]] = field(
        default_factory=dict
    )  # region -> ip -> …
    programs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # type -> launch fields
    problems: tuple[Problem, ...] = field(default=(), compare=False)

    @classmethod
    def from_document(cls, document: Any, source: str = "") -> "World":
        """From a world file's content (read_document); WorldInvalid lists everything that is wrong."""
        reader = _Reader()
        reader.problems.extend(_text_problems(document, ""))
        world = reader.document(document)
        reader.launches(world)
        if reader.problems:
            raise WorldInvalid(reader.problems, source)
        return world

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
        reader = _Reader()
        parsed: dict[str, Any] = {
            "programs": reader.texts("programs", programs),
            "regions": reader.texts("regions", regions),
            "world": {region: reader.texts(f"world.{region}", ips) for region, ips in machines.items()},
        }
        return reader.document(parsed)

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


# ---- text -> document


class Doubled(dict):
    """A JSON object in which keys stood twice; `.doubled` are those keys."""

    doubled: list[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    found = Doubled(plain)
    found.doubled = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    return found


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def read_document(data: bytes, source: str, toml: bool = False) -> Any:
    """A world file's bytes as objects; a ConfigError names source and line of what cannot be read."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{source}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 (save the file as UTF-8)"
        ) from None
    try:
        if toml:
            return tomllib.loads(text)
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}, line {error.lineno}, column {error.colno}: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    except ValueError as error:  # NaN, Infinity, a number of thousands of digits
        raise ConfigError(f"{source}: {error}") from None


# how many levels of each part are spread over lines; what lies deeper stands on one line
_SPREAD = {"programs": 2, "regions": 1, "world": 3}


def render_document(document: Mapping[str, Any]) -> str:
    """A world file, in the order World.document() gives: a line per process and per program's field."""
    parts = (
        f"  {_inline(key)}: {_render(part, _SPREAD.get(key, 1), '  ')}" for key, part in document.items()
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _render(value: Any, levels: int, indent: str) -> str:
    if not levels or not value or not isinstance(value, (dict, list)):
        return _inline(value)
    deeper = indent + "  "
    if isinstance(value, dict):
        lines = [f"{_inline(key)}: {_render(inner, levels - 1, deeper)}" for key, inner in value.items()]
    else:
        lines = [_render(inner, levels - 1, deeper) for inner in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(lines) + f"\n{indent}{closing}"


def _inline(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text_problems(value: Any, path: str) -> Iterator[Problem]:
    """Keys that stand twice, strings that no UTF-8 can carry, numbers that are none: at any depth."""
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            yield Problem(path, f"{json.dumps(value)} has half a surrogate pair")
    elif isinstance(value, dict):
        for key in getattr(value, "doubled", ()):
            yield Problem(path, f"{shown(key)} stands twice")
        for key, inner in value.items():
            if not key.isascii() and any("\ud800" <= c <= "\udfff" for c in key):
                yield Problem(path, f"the key {json.dumps(key)} has half a surrogate pair")
            else:
                yield from _text_problems(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _text_problems(inner, f"{path}[{i}]")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            yield Problem(path, "is no finite number")
    elif not isinstance(value, (int, type(None))):
        yield Problem(path, f"{value} is a date, which JSON does not have; write a string")


# ---- document -> World


class _Reader:
    """Reads a document into a World; what is wrong goes to `problems`, what is unusable is left out."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}  # process key -> its path in the file

    def say(self, path: str, text: str) -> None:
        self.problems.append(Problem(path, text))

    def texts(self, path: str, texts: Mapping[str, str]) -> dict[str, Any]:
        """One hash of globaldb: field -> JSON."""
        values = {}
        for name, text in texts.items():
            try:
                values[name] = json.loads(text, parse_constant=_constant)
            except (ValueError, RecursionError) as error:
                self.say(f"{path}.{name}", f"is not JSON: {error}")
        return values

    def document(self, document: Any) -> World:
        if not self._is_object(document, "", "the file"):
            return World()
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
        return World(regions, machines, programs, tuple(self.problems))

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

    def _machines(self, raw: Any, programs: Mapping[str, Any]) -> dict[str, dict[str, tuple[Process, ...]]]:
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
            port = 0
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
        return Process(region, ip, entry["name"], entry["type"], host, port, entry)

    def _port_conflicts(
        self, machines: Mapping[str, Mapping[str, tuple[Process, ...]]], programs: Mapping[str, Any]
    ) -> None:
        """Two processes on one host:port of one machine, whatever their regions. A wildcard is every host."""
        holders: dict[tuple[str, int, str], list[Process]] = {}
        for ips in machines.values():
            for ip, processes in ips.items():
                for process in processes:
                    if not process.port:
                        continue
                    place = (ip, process.port, _protocol(process, programs))
                    for other in holders.setdefault(place, []):
                        if process.host == other.host or WILDCARD_HOSTS & {process.host, other.host}:
                            self.say(
                                f"{self.places[process.key]}.port",
                                f"{process.name} listens on {process.host}:{process.port},"
                                f" and so does {other.key}"
                                + (f" ({other.host})" if other.host != process.host else ""),
                            )
                            break
                    holders[place].append(process)

    def launches(self, world: World) -> None:
        """Templates and overrides of every process. A program's fault is told once, with how many have it."""
        said = set(self.problems)
        shared: dict[Problem, list[Process]] = {}
        for process in world.processes():
            if process.type not in world.programs:
                continue  # said already
            _, problems = read_launch(process, world.programs)
            for path, text in problems:
                if path.startswith("programs."):
                    shared.setdefault(Problem(path, text), []).append(process)
                else:
                    self.say(f"{self.places[process.key]}.{path}", text)
        for problem, processes in shared.items():
            if problem not in said:
                more = f" and {len(processes) - 1} more" if len(processes) > 1 else ""
                self.say(problem.path, f"{problem.text} (process {processes[0].key}{more})")


def _protocol(process: Process, programs: Mapping[str, Any]) -> str:
    return str(process.fields.get("protocol", programs.get(process.type, {}).get("protocol", "tcp")))
