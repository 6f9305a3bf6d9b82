"""What an application declares of its GM commands: names, typed arguments, help, danger. Pure.

    {"name", "help", "danger", "answer", "arguments": [{"name", "type", "default", "secret", "help"}]}

Rules for the next editor: everything about an argument's type is in TYPES; docs/sdk.md says the same in words. What an
application declares may be lies or megabytes: `read_declarations` believes nothing and has limits for all.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.errors import ConfigError, UsageError
from agent.names import did_you_mean
from agent.problem import kind, shown, unknown

MAX_COMMANDS = 200
MAX_DECLARED_BYTES = 64 * 1024  # of one application: catalogues of a whole machine have to fit a frame
MAX_ARGUMENTS = 32
MAX_LINE_CHARS = 200
MAX_DEFAULT_CHARS = 1000
WIDE_BLANK = "\u3000"  # usual in Chinese text, and not printable to Python

READ, WRITE, RED = "read", "write", "red"
DANGERS = (READ, WRITE, RED)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_INT_BITS = 63


# ---- types of arguments -------------------------------------------------------------------------------------------


class Wrong(ValueError):
    """A value that does not fit; `str()` says how."""


def _whole(value: Any) -> int:
    if type(value) is not int or not -(2**_INT_BITS) <= value < 2**_INT_BITS:
        raise Wrong(f"{shown(value)} is not a whole number of 64 bits")
    return value


def _number(value: Any) -> float:
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Wrong(f"{shown(value)} is not a number")
    return number


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise Wrong(f"{shown(value)} is not true or false")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise Wrong(f"{shown(value)} is {kind(value)}, not a string")
    return value


def _anything(value: Any) -> Any:
    return value


def _whole_word(word: str) -> int:
    if not _WHOLE.fullmatch(word):
        raise Wrong(f"{shown(word)} is not a whole number")
    return _whole(int(word))


def _number_word(word: str) -> float:
    try:
        return _number(float(word))
    except ValueError:
        raise Wrong(f"{shown(word)} is not a number") from None


def _flag_word(word: str) -> bool:
    if word.lower() not in _FLAGS:
        raise Wrong(f"{shown(word)} is not true or false")
    return _FLAGS[word.lower()]


def _json_word(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=_whole_word)  # NaN and the like are none
    except (ValueError, RecursionError):
        raise Wrong(f"{shown(word)} is not JSON (in quotes, like '{{\"a\": 1}}')") from None


_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Type(NamedTuple):
    """`check` takes a JSON value, `read` an operator's word; both raise Wrong."""

    check: Callable[[Any], Any]
    read: Callable[[str], Any]


TYPES = {
    "str": Type(_text, _text),
    "int": Type(_whole, _whole_word),
    "float": Type(_number, _number_word),
    "bool": Type(_flag, _flag_word),
    "json": Type(_anything, _json_word),
}


# ---- declarations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command; its place among the others is that of words without a name."""

    name: str
    type: str = "str"
    help: str = ""
    required: bool = True
    default: Any = None
    secret: bool = False

    def document(self) -> dict[str, Any]:
        told: dict[str, Any] = {"name": self.name, "type": self.type}
        if not self.required:
            told["default"] = self.default
        if self.secret:
            told["secret"] = True
        if self.help:
            told["help"] = self.help
        return told


@dataclass(frozen=True, slots=True)
class Declaration:
    """One GM command of an application."""

    name: str
    help: str = ""
    danger: str = WRITE
    answer: str = ""
    arguments: tuple[Argument, ...] = ()

    def document(self) -> dict[str, Any]:
        """As an application writes it."""
        return {
            "name": self.name,
            "help": self.help,
            "danger": self.danger,
            "answer": self.answer,
            "arguments": [argument.document() for argument in self.arguments],
        }

    def usage(self) -> str:
        """kick PLAYER:int [REASON:str]"""
        return " ".join([self.name, *map(_usage, self.arguments)])


@dataclass(frozen=True, slots=True)
class Declarations:
    """All commands of one application, by name. `digest` is the same wherever the commands are."""

    commands: Mapping[str, Declaration] = field(default_factory=dict)
    digest: str = ""

    def find(self, name: str) -> Declaration:
        """Raises UsageError."""
        found = self.commands.get(name)
        if found is None:
            there = (
                f" (there are: {', '.join(self.commands)})" if self.commands else " (it has declared none)"
            )
            raise UsageError(f'no GM command "{name}"{did_you_mean(name, self.commands) or there}')
        return found

    def documents(self) -> list[dict[str, Any]]:
        return [declaration.document() for declaration in self.commands.values()]


NONE_DECLARED = Declarations()


def _usage(argument: Argument) -> str:
    word = f"{argument.name.upper()}:{argument.type}"
    return word if argument.required else f"[{word}]"


def read_declarations(raw: Any) -> Declarations:
    """What an application says of its commands. ConfigError has a line per problem, each with its place."""
    problems: list[str] = []
    commands: dict[str, Declaration] = {}
    if not isinstance(raw, list):
        raise ConfigError(f"commands: {shown(raw)} is {kind(raw)}, not a list")
    if len(raw) > MAX_COMMANDS:
        raise ConfigError(f"commands: {len(raw)} are too many, {MAX_COMMANDS} are allowed")
    for number, each in enumerate(raw):
        place = f"commands[{number}]"
        try:
            command = _command(each, place)
        except Wrong as wrong:
            problems.append(str(wrong))
            continue
        if command.name in commands:
            problems.append(f"{place}.name: {shown(command.name)} is there twice")
        commands[command.name] = command
    if problems:
        raise ConfigError("\n".join(problems))
    found = [command.document() for command in commands.values()]
    size = len(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    if size > MAX_DECLARED_BYTES:
        raise ConfigError(f"commands: {size} bytes are too many in all, {MAX_DECLARED_BYTES} are allowed")
    return Declarations(commands, hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16])


def _command(raw: Any, place: str) -> Declaration:
    entry = _object(raw, place, ("name", "help", "danger", "answer", "arguments"))
    name = _word(entry.get("name"), f"{place}.name")
    if name == "help":
        raise Wrong(f'{place}.name: "help" is a word of the agent\'s own')
    place = f"{place} ({name})"
    danger = entry.get("danger", WRITE)
    if danger not in DANGERS:
        raise Wrong(f"{place}.danger: {shown(danger)} is none of {', '.join(DANGERS)}")
    raw_arguments = entry.get("arguments", [])
    if not isinstance(raw_arguments, list) or len(raw_arguments) > MAX_ARGUMENTS:
        raise Wrong(f"{place}.arguments: not a list of at most {MAX_ARGUMENTS}")
    arguments = [_argument(each, f"{place}.arguments[{number}]") for number, each in enumerate(raw_arguments)]
    names = [argument.name for argument in arguments]
    if len(set(names)) < len(names):
        raise Wrong(f"{place}.arguments: a name is there twice in {', '.join(names)}")
    return Declaration(
        name,
        _line(entry.get("help", ""), f"{place}.help"),
        danger,
        _line(entry.get("answer", ""), f"{place}.answer"),
        tuple(arguments),
    )


def _argument(raw: Any, place: str) -> Argument:
    entry = _object(raw, place, ("name", "type", "help", "default", "secret"))
    name = _word(entry.get("name"), f"{place}.name")
    type_ = entry.get("type", "str")
    if not isinstance(type_, str) or type_ not in TYPES:
        raise Wrong(f"{place}.type: {shown(type_)} is none of {', '.join(TYPES)}")
    required = "default" not in entry
    default = entry.get("default")
    if not required:
        try:
            default = TYPES[type_].check(default)
        except Wrong as wrong:
            if default is not None:
                raise Wrong(f"{place}.default: {wrong}") from None
        if _is_long(default):
            raise Wrong(f"{place}.default: longer than {MAX_DEFAULT_CHARS} characters")
    secret = entry.get("secret", False)
    if type(secret) is not bool:
        raise Wrong(f"{place}.secret: {shown(secret)} is not true or false")
    return Argument(name, type_, _line(entry.get("help", ""), f"{place}.help"), required, default, secret)


def _is_long(default: Any) -> bool:
    try:
        return len(json.dumps(default, ensure_ascii=False)) > MAX_DEFAULT_CHARS
    except RecursionError:
        return True


def _object(raw: Any, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise Wrong(f"{place}: {shown(raw)} is {kind(raw)}, not an object")
    strange = [name for name in raw if name not in known]
    if strange:
        raise Wrong(f"{place}: {unknown('field', strange[0], known)}")
    return raw


def _word(value: Any, place: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise Wrong(
            f"{place}: {shown(value)} is not a name of letters, digits, _ and -, beginning with a letter"
        )
    return value


def _line(value: Any, place: str) -> str:
    if (
        not isinstance(value, str)
        or len(value) > MAX_LINE_CHARS
        or not value.replace(WIDE_BLANK, " ").isprintable()
    ):
        raise Wrong(f"{place}: {shown(value)} is not one line of at most {MAX_LINE_CHARS} characters")
    return value
