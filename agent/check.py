"""Checks of launch fields: a raw value ─► its normal form, or Wrong with what is allowed.

A value that is Unfilled (a template of a program that is looked at without a process) passes every check; where a
number, a flag or a word is wanted, one that is Filled will do if it reads as such.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from agent import names
from agent.address import MAX_PORT
from agent.lifecycle import ALWAYS, NEVER, ON_FAILURE
from agent.problem import is_utf8, kind, shown, unknown
from agent.template import Filled, Unfilled

STOP_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")
RESTARTS = (NEVER, ON_FAILURE, ALWAYS)
REPORTS = ("auto", "self", "agent")
PROTOCOLS = ("tcp", "udp")
LIMITS = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
UNLIMITED = -1  # RLIM_INFINITY
MAX_SECONDS = 7 * 24 * 3600


class Wrong(ValueError):
    """What is wrong with a value; `where` is the place inside it (`[2]`, `.PATH`)."""

    def __init__(self, text: str, where: str = "") -> None:
        super().__init__(text)
        self.where = where


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{shown(value)} is {kind(value)}, not a string")
    if "\0" in value or not is_utf8(value):
        raise Wrong(f"{json.dumps(value)} has a NUL character or half a surrogate pair")
    return value if isinstance(value, Unfilled) else str(value)


def filled_text(value: Any) -> str:
    if not text(value):
        raise Wrong("is empty")
    return text(value)


def path(value: Any) -> str:
    place = filled_text(value)
    if not isinstance(place, Unfilled) and not place.startswith("/"):
        raise Wrong(f"{shown(place)} is not an absolute path")
    return place


def path_or_nothing(value: Any) -> str:
    return "" if value == "" else path(value)


def command(value: Any) -> list[str]:
    if isinstance(value, str):
        raise Wrong(
            f'{shown(value)} is a string; write a list, like ["/srv/game", "--port", "{{port}}"] (no shell)'
        )
    if not isinstance(value, list) or not value:
        raise Wrong(f"{shown(value)} is not a list of words")
    words = []
    for i, word in enumerate(value):
        try:
            words.append(text(word) if i else filled_text(word))
        except Wrong as wrong:
            raise Wrong(str(wrong), f"[{i}]") from None
    return words


def env(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is {kind(value)}, not an object of strings")
    checked = {}
    for name, word in value.items():
        if not name or "=" in name or "\0" in name:
            raise Wrong(f"{shown(name)} cannot be the name of an environment variable")
        if name.startswith("AGENT_"):
            raise Wrong("names that begin with AGENT_ are the agent's own", f".{name}")
        try:
            checked[name] = text(word)
        except Wrong as wrong:
            raise Wrong(str(wrong), f".{name}") from None
    return checked


def one_of(*words: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if isinstance(value, Unfilled) or value in words:
            return value if isinstance(value, Unfilled) else str(value)
        hint = names.did_you_mean(value, words) if isinstance(value, str) else ""
        raise Wrong(f"{shown(value)} is none of {', '.join(words)}{hint}")

    return check


def stop_signal(value: Any) -> str:
    name = value.upper().removeprefix("SIG") if type(value) in (str, Filled) else value
    try:
        return one_of(*STOP_SIGNALS)(name)
    except Wrong as wrong:
        raise Wrong(str(wrong).replace(shown(name), shown(value), 1)) from None


def flag(value: Any) -> bool:
    if isinstance(value, (bool, Unfilled)):
        return value  # type: ignore[return-value]
    if isinstance(value, Filled) and value in ("true", "false"):
        return value == "true"
    raise Wrong(f"{shown(value)} is {kind(value)}, not true or false")


def whole(least: int, most: int, what: str = "a whole number") -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, Unfilled):
            return value  # type: ignore[return-value]
        if isinstance(value, Filled) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise Wrong(f"{shown(value)} is not {what} ({least}–{most})")
        return value

    return check


def seconds(least: float) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if isinstance(value, Unfilled):
            return value  # type: ignore[return-value]
        if isinstance(value, Filled) and re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
            value = float(value)
        if type(value) not in (int, float) or not least <= value <= MAX_SECONDS:
            raise Wrong(f"{shown(value)} is not a number of seconds ({least:g}–{MAX_SECONDS})")
        return float(value)

    return check


port = whole(1, MAX_PORT, "a port")
_bound = whole(0, 2**62, "a number or unlimited")


def fields_of(value: Any, checks: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """An object whose fields are among `checks`."""
    if not isinstance(value, dict):
        raise Wrong(f"{shown(value)} is {kind(value)}, not an object of {', '.join(checks)}")
    checked = {}
    for name, inner in value.items():
        if name not in checks:
            raise Wrong(unknown("field", name, checks))
        try:
            checked[name] = checks[name](inner)
        except Wrong as wrong:
            raise Wrong(str(wrong), f".{name}{wrong.where}") from None
    return checked


def true(value: Any) -> bool:
    if value is not True:
        raise Wrong(f"{shown(value)} is not true")
    return True


def ready(value: Any) -> dict[str, Any]:
    checked = fields_of(value, {"spawn": seconds(0), "port": port, "report": true})
    if len(checked) != 1:
        raise Wrong(
            f'{shown(value)} is not one of {{"spawn": seconds}}, {{"port": number}}, {{"report": true}}'
        )
    return checked


def probe(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    checked = fields_of(value, {"port": port, "protocol": one_of(*PROTOCOLS)})
    if "port" not in checked:
        raise Wrong(f'{shown(value)} has no port; {{"port": number}} is wanted')
    return checked


def log(value: Any) -> dict[str, str] | None:
    return None if value is None else fields_of(value, {"path": path, "stderr": path})


def limit(value: Any) -> tuple[int, int]:
    """`n`, "unlimited" or [soft, hard]."""
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2:
        raise Wrong(f"{shown(value)} is not a number, unlimited or [soft, hard]")
    soft, hard = (UNLIMITED if n == "unlimited" else _bound(n) for n in pair)
    known = isinstance(soft, int) and isinstance(hard, int)  # not Unfilled
    if known and hard != UNLIMITED and (soft > hard or soft == UNLIMITED):
        raise Wrong(f"{shown(value)}: the soft limit is above the hard one")
    return soft, hard


def limits(value: Any) -> dict[str, tuple[int, int]]:
    return fields_of(value, dict.fromkeys(LIMITS, limit))
