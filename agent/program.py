"""How a process is launched: its program, its own overrides on top, templates filled in, every type checked.

    program (by type)  +  the process's own launch fields  ->  {name} {port} … filled in  ->  LaunchSpec

To add a field: one row in FIELDS and one attribute of LaunchSpec with the same name. Its check takes the raw
value and returns the normal form, or raises Wrong with what is allowed. `env` and `limits` are merged key by
key (the process's own win); every other field of the process replaces the program's.

Templates: `{field}` is a field of the process, or {region}, {ip}, {name}, {type}, {host}, {port}; `{{` and
`}}` are braces. What is filled in is taken as it is and never read as a template again. A field that wants a
number takes a template that becomes one ("{port}").
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any, NamedTuple

from agent import names
from agent.errors import ConfigError
from agent.process import Process

STOP_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
RESTARTS = ("never", "on-failure", "always")
REPORTS = ("auto", "self", "agent")
PROTOCOLS = ("tcp", "udp")
LIMITS = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
UNLIMITED = -1  # RLIM_INFINITY
MAX_PORT = 65535
MAX_SECONDS = 7 * 24 * 3600


class Problem(NamedTuple):
    """Something wrong, and the path to it (`programs.game.restart`, `world.大区1.192.168.1.10[2].port`)."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything needed to start, watch and stop one process; templates filled in."""

    command: list[str]
    cwd: str = ""  # "": the daemon's state folder
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""  # "": the daemon's own
    stop_signal: str = "TERM"  # without SIG
    stop_timeout_s: float = 30.0
    kill_after_stop: bool = False
    restart: str = "never"
    tier: int = 0
    ready: dict[str, Any] = field(
        default_factory=lambda: {"spawn": 1.0}
    )  # {"spawn": s} {"port": n} {"report": True}
    ready_timeout_s: float = 60.0
    report: str = "auto"
    heartbeat_s: float = 5.0
    silent_after_s: float = 15.0
    log: dict[str, str] | None = None  # {"path": file of stdout and stderr, "stderr": a file of its own}
    limits: dict[str, tuple[int, int]] = field(default_factory=dict)  # "nofile": (soft, hard), -1 unlimited
    probe: dict[str, int] | None = None  # {"port": n}
    protocol: str = "tcp"
    restart_tries: int = 5  # so many restarts in a row that never became ready, then FATAL
    backoff_s: float = 1.0  # before the first restart; doubled for each further one
    backoff_max_s: float = 60.0
    stable_s: float = 60.0  # a run of this length forgets the restarts before it

    def digest(self) -> str:
        """12 hex digits, the same as long as the launch would be: tells "changed since its start"."""
        told = {
            each.name: getattr(self, each.name) for each in fields(self)
        }  # asdict costs three times as much
        text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


# ---- templates


class Filled(str):
    """A string that came out of a template: where a number is wanted, its digits will do."""


class Unfilled(str):
    """A template that nobody can fill in yet (a program without a process): every check lets it pass."""


class TemplateError(ValueError):
    """A template that cannot be read or filled in."""


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@lru_cache(maxsize=4096)
def _parse_template(text: str) -> tuple[str | tuple[str], ...]:
    """Literal strings, and 1-tuples of field names. A template without fields is one literal."""
    parts: list[str | tuple[str]] = []
    literal, at = "", 0
    for token in _TOKEN.finditer(text):
        literal += text[at : token.start()]
        at = token.end()
        if token[0] in ("{{", "}}"):
            literal += token[0][0]
        elif token[1] is None:
            raise TemplateError(
                f'template "{text}": a lone {token[0]} (write {token[0] * 2} for the character)'
            )
        elif not token[1]:
            raise TemplateError(f'template "{text}": {{}} names no field (write {{{{}}}} for the characters)')
        else:
            parts += [literal, (token[1],)]
            literal = ""
    return tuple(part for part in (*parts, literal + text[at:]) if part)


def fill_in(text: str, values: Mapping[str, Any]) -> str:
    """The template filled in from `values`; TemplateError names template and field and what there is."""
    parts = _parse_template(text)
    if not any(isinstance(part, tuple) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return Filled("".join(part if isinstance(part, str) else _value(part[0], text, values) for part in parts))


def _value(name: str, template: str, values: Mapping[str, Any]) -> str:
    try:
        value = values[name]
    except KeyError:
        hint = names.did_you_mean(name, values)
        known = ", ".join(sorted(values))
        raise TemplateError(f'template "{template}": no field "{name}"{hint}; known: {known}') from None
    if isinstance(value, str):
        if name in FIELDS and "{" in value:
            raise TemplateError(f'template "{template}": field "{name}" is a template itself')
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise TemplateError(
        f'template "{template}": field "{name}" is {_kind(value)}, which no template can take'
    )


def _unfilled(text: str, _values: Mapping[str, Any]) -> str:
    """Reads the template for its mistakes; what has fields stays open."""
    parts = _parse_template(text)
    is_open = any(isinstance(part, tuple) for part in parts)
    return Unfilled(text) if is_open else "".join(part for part in parts if isinstance(part, str))


# ---- checks: raw value -> normal form, or Wrong


class Wrong(ValueError):
    """What is wrong with a value; `where` is the place inside it (`[2]`, `.PATH`)."""

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__(text)
        self.where = where


def _kind(value: object) -> str:
    kinds = {str: "a string", bool: "true or false", int: "a number", float: "a number",
             list: "a list", dict: "an object", type(None): "null"}  # fmt: skip
    return kinds.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A value as it stands in the file, shortened for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is {_kind(value)}, not a string")
    if "\0" in value or not (value.isascii() or value.isprintable() or _is_utf8(value)):
        raise Wrong(f"{json.dumps(value)} has a NUL character or half a surrogate pair")
    return value if isinstance(value, Unfilled) else str(value)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _filled_text(value: Any) -> str:
    if not _text(value):
        raise Wrong("is empty")
    return _text(value)


def _path(value: Any) -> str:
    path = _filled_text(value)
    if not isinstance(path, Unfilled) and not path.startswith("/"):
        raise Wrong(f"{shown(path)} is not an absolute path")
    return path


def _command(value: Any) -> list[str]:
    if isinstance(value, str):
        raise Wrong(
            f'{shown(value)} is a string; write a list, like ["/srv/game", "--port", "{{port}}"] (no shell)'
        )
    if not isinstance(value, list) or not value:
        raise Wrong(f"{shown(value)} is not a list of words")
    words = []
    for i, word in enumerate(value):
        try:
            words.append(_text(word) if i else _filled_text(word))
        except Wrong as wrong:
            raise Wrong(str(wrong), f"[{i}]") from None
    return words


def _env(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is {_kind(value)}, not an object of strings")
    for name, text in value.items():
        if not name or "=" in name or "\0" in name:
            raise Wrong(f"{shown(name)} cannot be the name of an environment variable")
        if name.startswith("AGENT_"):
            raise Wrong("names that begin with AGENT_ are the agent's own", f".{name}")
        try:
            _text(text)
        except Wrong as wrong:
            raise Wrong(str(wrong), f".{name}") from None
    return {name: _text(text) for name, text in value.items()}


def _one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, Unfilled) or value in words:
            return value if isinstance(value, Unfilled) else str(value)
        hint = names.did_you_mean(value, words) if isinstance(value, str) else ""
        raise Wrong(f"{shown(value)} is none of {', '.join(words)}{hint}")

    return check


def _stop_signal(value: Any) -> str:
    name = value.upper().removeprefix("SIG") if type(value) in (str, Filled) else value
    try:
        return _one_of(*STOP_SIGNALS)(name)
    except Wrong as wrong:
        raise Wrong(str(wrong).replace(shown(name), shown(value), 1)) from None


def _flag(value: Any) -> bool:
    if isinstance(value, (bool, Unfilled)):
        return value  # type: ignore[return-value]
    if isinstance(value, Filled) and value in ("true", "false"):
        return value == "true"
    raise Wrong(f"{shown(value)} is {_kind(value)}, not true or false")


def _whole(least: int, most: int, what: str = "a whole number") -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, Unfilled):
            return value  # type: ignore[return-value]
        if isinstance(value, Filled) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise Wrong(f"{shown(value)} is not {what} ({least}–{most})")
        return value

    return check


def _seconds(least: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, Unfilled):
            return value  # type: ignore[return-value]
        if isinstance(value, Filled) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            value = float(value)
        if type(value) not in (int, float) or not least <= value <= MAX_SECONDS:
            raise Wrong(f"{shown(value)} is not a number of seconds ({least:g}–{MAX_SECONDS})")
        return float(value)

    return check


_port = _whole(1, MAX_PORT, "a port")


def _fields_of(value: Any, checks: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """An object whose fields are among `checks`."""
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is {_kind(value)}, not an object of {', '.join(checks)}")
    for name, inner in value.items():
        if name not in checks:
            raise Wrong(f'no field "{name}"{names.did_you_mean(name, checks)}; known: {", ".join(checks)}')
        try:
            checks[name](inner)
        except Wrong as wrong:
            raise Wrong(str(wrong), f".{name}{wrong.where}") from None
    return {name: checks[name](inner) for name, inner in value.items()}


def _true(value: Any) -> bool:
    if value is not True:
        raise Wrong(f"{shown(value)} is not true")
    return True


def _ready(value: Any) -> dict[str, Any]:
    ready = _fields_of(value, {"spawn": _seconds(0), "port": _port, "report": _true})
    if len(ready) != 1:
        raise Wrong(
            f'{shown(value)} is not one of {{"spawn": seconds}}, {{"port": number}}, {{"report": true}}'
        )
    return ready


def _probe(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    probe = _fields_of(value, {"port": _port})
    if not probe:
        raise Wrong('is empty; {"port": number} is wanted')
    return probe


def _log(value: Any) -> dict[str, str] | None:
    return None if value is None else _fields_of(value, {"path": _path, "stderr": _path})


def _limit(value: Any) -> tuple[int, int]:
    """`n`, "unlimited" or [soft, hard]."""
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2:
        raise Wrong(f"{shown(value)} is not a number, unlimited or [soft, hard]")
    soft, hard = (
        UNLIMITED if n == "unlimited" else _whole(0, 2**62, "a number or unlimited")(n) for n in pair
    )
    if (
        isinstance(soft, int)
        and isinstance(hard, int)
        and hard != UNLIMITED
        and (soft > hard or soft == UNLIMITED)
    ):
        raise Wrong(f"{shown(value)}: the soft limit is above the hard one")
    return soft, hard


def _limits(value: Any) -> dict[str, tuple[int, int]]:
    return _fields_of(value, dict.fromkeys(LIMITS, _limit))


FIELDS: dict[str, Callable[[Any], Any]] = {
    "command": _command,
    "cwd": lambda value: "" if value == "" else _path(value),
    "env": _env,
    "user": _text,
    "stop_signal": _stop_signal,
    "stop_timeout_s": _seconds(0),
    "kill_after_stop": _flag,
    "restart": _one_of(*RESTARTS),
    "tier": _whole(-1000, 1000),
    "ready": _ready,
    "ready_timeout_s": _seconds(0),
    "report": _one_of(*REPORTS),
    "heartbeat_s": _seconds(0.1),
    "silent_after_s": _seconds(0.1),
    "log": _log,
    "limits": _limits,
    "probe": _probe,
    "protocol": _one_of(*PROTOCOLS),
    "restart_tries": _whole(0, 1_000_000),
    "backoff_s": _seconds(0),
    "backoff_max_s": _seconds(0),
    "stable_s": _seconds(0),
}
MERGED = ("env", "limits")


# ---- programs and processes


def _expand(
    value: Any, fill: Callable[[str, Mapping[str, Any]], str], values: Mapping[str, Any], path: str
) -> Any:
    """`value` with every string in it filled in; Wrong with the place of the template that cannot be."""
    if isinstance(value, str):
        try:
            return fill(value, values)
        except TemplateError as error:
            raise Wrong(str(error), path) from None
    if isinstance(value, list):
        return [_expand(inner, fill, values, f"{path}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return {name: _expand(inner, fill, values, f"{path}.{name}") for name, inner in value.items()}
    return value


def _read(
    name: str, raw: Any, fill: Callable[[str, Mapping[str, Any]], str], values: Mapping[str, Any]
) -> Any:
    return FIELDS[name](_expand(raw, fill, values, ""))


def program_problems(type_: str, program: Any) -> Iterator[Problem]:
    """What is wrong with one program, whatever process it is for. Unknown fields are errors here."""
    path = f"programs.{type_}"
    if not isinstance(program, dict):
        yield Problem(path, f"{shown(program)} is {_kind(program)}, not an object")
        return
    if "command" not in program:
        yield Problem(path, "has no command")
    for name, raw in program.items():
        if name not in FIELDS:
            yield Problem(
                path, f'no field "{name}"{names.did_you_mean(name, FIELDS)}; known: {", ".join(FIELDS)}'
            )
            continue
        try:
            _read(name, raw, _unfilled, {})
        except Wrong as wrong:
            yield Problem(f"{path}.{name}{wrong.where}", str(wrong))


def template_values(process: Process) -> dict[str, Any]:
    """What templates may name: the process's own fields and where it is."""
    return {
        **process.fields,
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
            Problem(f"programs.{process.type}", f"{shown(program)} is {_kind(program)}, not an object")
        ]
    values, problems = template_values(process), []
    spec: dict[str, Any] = {}
    for source, prefix in ((program, f"programs.{process.type}."), (process.fields, "")):
        for name, raw in source.items():
            if name not in FIELDS:
                if prefix:
                    text = f'no field "{name}"{names.did_you_mean(name, FIELDS)}; known: {", ".join(FIELDS)}'
                    problems.append(Problem(prefix[:-1], text))
                continue
            if prefix and name in process.fields and name not in MERGED:
                continue  # replaced by the process's own
            try:
                value = _read(name, raw, fill_in, values)
            except Wrong as wrong:
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
        except Wrong:
            return 0
    return raw
