"""How a process is launched: its program, its own overrides on top, templates filled in, every type checked.

    program (by type)  +  the process's own launch fields  ->  {name} {port} … filled in  ->  LaunchSpec
                                                               agent/template.py     agent/check.py

To add a field: one row in FIELDS and one attribute of LaunchSpec with the same name. `env` and `limits` are
merged key by key (the process's own win); every other field of the process replaces the program's.

Templates name a field of the process, or {region}, {ip}, {name}, {type}, {host}, {port}. A field that wants a
number takes a template that becomes one ("{port}").
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from agent import check, names
from agent.errors import ConfigError
from agent.problem import Problem, kind, shown, unknown
from agent.process import Process
from agent.template import Fill, Nested, TemplateError, expand, fill_in, keep_open


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything needed to start, watch and stop one process; templates filled in."""

    command: list[str]
    cwd: str = ""  # "": the daemon's state folder
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""  # "": the daemon's own
    stop_signal: str = "TERM"  # without SIG
    stop_timeout_s: float = 30.0
    save_timeout_s: float = 30.0  # without a word from an application that was asked to save
    kill_after_stop: bool = False
    restart: str = "never"
    tier: int = 0
    # {"spawn": seconds}, {"port": number} or {"report": True}
    ready: dict[str, Any] = field(default_factory=lambda: {"spawn": 1.0})
    ready_timeout_s: float = 60.0
    report: str = "auto"
    heartbeat_s: float = 5.0
    silent_after_s: float = 15.0
    log: dict[str, str] | None = None  # {"path": file of stdout and stderr, "stderr": a file of its own}
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)  # "nofile": (soft, hard), -1 unlimited
    probe: dict[str, Any] | None = None  # {"port": n}, with "protocol" where it is another than the process's
    protocol: str = "tcp"
    restart_tries: int = 5  # so many restarts in a row that never became ready, then FATAL
    backoff_s: float = 1.0  # before the first restart; doubled for each further one
    backoff_max_s: float = 60.0
    stable_s: float = 60.0  # a run of this length forgets the restarts before it

    def digest(self) -> str:
        """12 hex digits, the same as long as the launch would be: tells "changed since its start"."""
        # asdict costs three times as much
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


FIELDS: dict[str, Callable[[Any], Any]] = {
    "command": check.command,
    "cwd": check.path_or_nothing,
    "env": check.env,
    "user": check.text,
    "stop_signal": check.stop_signal,
    "stop_timeout_s": check.seconds(0),
    "save_timeout_s": check.seconds(0.1),
    "kill_after_stop": check.flag,
    "restart": check.one_of(*check.RESTARTS),
    "tier": check.whole(-1000, 1000),
    "ready": check.ready,
    "ready_timeout_s": check.seconds(0),
    "report": check.one_of(*check.REPORTS),
    "heartbeat_s": check.seconds(0.1),
    "silent_after_s": check.seconds(0.1),
    "log": check.log,
    "limits": check.limits,
    "probe": check.probe,
    "protocol": check.one_of(*check.PROTOCOLS),
    "restart_tries": check.whole(0, 1_000_000),
    "backoff_s": check.seconds(0),
    "backoff_max_s": check.seconds(0),
    "stable_s": check.seconds(0),
}
MERGED = ("env", "limits")


def _read(name: str, raw: Any, fill: Fill, values: Mapping[str, Any]) -> Any:
    """The field's normal form; Wrong with the place inside it."""
    try:
        filled = expand(raw, fill, values)
    except TemplateError as error:
        raise check.Wrong(str(error), error.where) from None
    return FIELDS[name](filled)


def program_problems(type_: str, program: Any) -> Iterator[Problem]:
    """What is wrong with one program, whatever process it is for. Unknown fields are errors here."""
    path = f"programs.{type_}"
    if not isinstance(program, dict):
        yield Problem(path, f"{shown(program)} is {kind(program)}, not an object")
        return
    if "command" not in program:
        yield Problem(path, "has no command")
    for name, raw in program.items():
        if name not in FIELDS:
            yield Problem(path, unknown("field", name, FIELDS))
            continue
        try:
            _read(name, raw, keep_open, {})
        except check.Wrong as wrong:
            yield Problem(f"{path}.{name}{wrong.where}", str(wrong))


def template_values(process: Process) -> dict[str, Any]:
    """What templates may name: the process's own fields and where it is."""
    own = {
        name: Nested(value) if name in FIELDS and isinstance(value, str) and "{" in value else value
        for name, value in process.fields.items()
    }
    return {
        **own,
        "region": process.region,
        "ip": process.ip,
        "name": process.name,
        "type": process.type,
        "host": process.host,
        "port": process.port,
    }


def read_launch(process: Process, programs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The launch fields in normal form, and every problem.

    A path that begins with `programs.` is the program's own fault; any other is a field of the process.
    """
    program = programs.get(process.type)
    if program is None:
        hint = names.did_you_mean(process.type, programs)
        return {}, [Problem("type", f'no program "{process.type}"{hint}')]
    if not isinstance(program, Mapping):
        return {}, [
            Problem(f"programs.{process.type}", f"{shown(program)} is {kind(program)}, not an object")
        ]
    values, problems = template_values(process), []
    spec: dict[str, Any] = {}
    for source, prefix in ((program, f"programs.{process.type}."), (process.fields, "")):
        for name, raw in source.items():
            if name not in FIELDS:
                if prefix:
                    problems.append(Problem(prefix[:-1], unknown("field", name, FIELDS)))
                continue
            if prefix and name in process.fields and name not in MERGED:
                continue  # replaced by the process's own
            try:
                value = _read(name, raw, fill_in, values)
            except check.Wrong as wrong:
                problems.append(Problem(f"{prefix}{name}{wrong.where}", str(wrong)))
                continue
            spec[name] = {**spec.get(name, {}), **value} if name in MERGED else value
    if "command" not in program and "command" not in process.fields:
        problems.append(Problem(f"programs.{process.type}", "has no command"))
    return spec, problems


def launch_spec(process: Process, programs: Mapping[str, Any]) -> LaunchSpec:
    """Program, overrides, templates. A ConfigError has a line per problem, each with process and field."""
    spec, problems = read_launch(process, programs)
    if problems:
        raise ConfigError("\n".join(f"process {process.key}: {problem}" for problem in problems))
    return LaunchSpec(**spec)


def tier_of(process: Process, programs: Mapping[str, Any]) -> int:
    """Its place in the order of a start; 0 where that cannot be read (its launch will say what is wrong)."""
    program = programs.get(process.type)
    of_all = program.get("tier", 0) if isinstance(program, Mapping) else 0
    raw = process.fields.get("tier", of_all)
    if type(raw) is not int:
        try:
            raw = _read("tier", raw, fill_in, template_values(process))
        except check.Wrong:
            return 0
    return raw
