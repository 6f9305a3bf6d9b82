"""A GM command, made from a function: its type hints are the arguments, its docstring's first line is the help. Pure.

    def kick(player: int, reason: str = "no reason given") -> dict:
        '''throw a player out'''

Whatever breaks the rules of docs/sdk.md is a ValueError where the command is declared, in the program's own code.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import body

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
DANGERS = ("read", "write", "red")
MAX_LINE = 200  # characters
MAX_ARGUMENTS = 32
MAX_DEFAULT = 1000  # characters of JSON
MAX_COMMANDS = 200

PLAIN = {str: "str", int: "int", float: "float", bool: "bool"}
JSON_HINTS = (dict, list, tuple, object, Any, type(None))
REQUIRED = inspect.Parameter.empty
FITS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "json": (object,),
}


class Argument:
    """One argument of a command, as operators see it."""

    def __init__(
        self, name: str, kind: str, default: Any = REQUIRED, secret: bool = False, help: str = ""
    ) -> None:
        check_name(name, "argument")
        check_line(help, f"the help of argument {name}")
        self.name, self.kind, self.default, self.secret, self.help = name, kind, default, secret, help
        if default is not REQUIRED:
            self.taken(default)
            check_default(default, name)

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"name": self.name, "type": self.kind}
        if self.default is not REQUIRED:
            row["default"] = self.default
        if self.secret:
            row["secret"] = True
        if self.help:
            row["help"] = self.help
        return row

    def taken(self, value: Any) -> Any:
        """`value` as the function gets it; ValueError where it is of another type. None is what it is by default."""
        if value is None and self.default is None:
            return None
        if not isinstance(value, FITS[self.kind]) or (
            isinstance(value, bool) and self.kind in ("int", "float")
        ):
            raise ValueError(f"argument {self.name}: a value that is not {self.kind}")
        return float(value) if isinstance(value, int) and self.kind == "float" else value


class Command:
    """What is declared of one command, and the function behind it."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        help: str,
        danger: str,
        answer: str,
        arguments: list[Argument],
    ) -> None:
        self.function, self.name, self.help, self.danger, self.answer = function, name, help, danger, answer
        self.arguments = {argument.name: argument for argument in arguments}
        check_name(name, "command")
        if name == "help":
            raise ValueError('a command cannot be called "help"')
        if danger not in DANGERS:
            raise ValueError(f"danger of {name} is {danger!r}, not one of {', '.join(DANGERS)}")
        check_line(help, f"the help of {name}")
        check_line(answer, f"the answer of {name}")
        if len(arguments) > MAX_ARGUMENTS:
            raise ValueError(f"{name} has {len(arguments)} arguments; the limit is {MAX_ARGUMENTS}")

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"name": self.name, "danger": self.danger}
        if self.help:
            row["help"] = self.help
        if self.answer:
            row["answer"] = self.answer
        row["arguments"] = [argument.row() for argument in self.arguments.values()]
        return row

    def words(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given` as the function gets it; ValueError where it is not what was declared."""
        unknown = sorted(given.keys() - self.arguments.keys())
        if unknown:
            raise ValueError(f"{self.name} has no argument {unknown[0]!r}"[:MAX_LINE])
        words = {name: self.arguments[name].taken(value) for name, value in given.items()}
        for name, argument in self.arguments.items():
            if name not in words and argument.default is REQUIRED:
                raise ValueError(f"{self.name} lacks its argument {name}")
        return words


def from_function(
    function: Callable[..., Any],
    name: str = "",
    danger: str = "write",
    answer: str = "",
    secrets: Iterable[str] = (),
    arguments: Mapping[str, str] | None = None,
) -> Command:
    """`arguments` are the help of each; ValueError names what is wrong."""
    name = name or function.__name__
    helps = dict(arguments or {})
    secret = {secrets} if isinstance(secrets, str) else set(secrets)
    declared = [
        Argument(p.name, kind, p.default, p.name in secret, helps.get(p.name, ""))
        for p, kind in _parameters(function, name)
    ]
    unknown = sorted((secret | helps.keys()) - {argument.name for argument in declared})
    if unknown:
        raise ValueError(f"{name} has no argument {unknown[0]}")
    return Command(function, name, _first_line(function), danger, answer, declared)


def check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: letters, digits, _ and - are allowed, a letter first, at most 64 of them"
        )


def check_line(line: str, what: str) -> None:
    if not isinstance(line, str) or not line.isprintable() or len(line) > MAX_LINE:
        raise ValueError(f"{what} is not one line of at most {MAX_LINE} characters")


def check_default(default: Any, name: str) -> None:
    try:
        body.check(default)
        length = len(json.dumps(default, ensure_ascii=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the default of argument {name}: {error}") from None
    if length > MAX_DEFAULT:
        raise ValueError(
            f"the default of argument {name} takes {length} characters; the limit is {MAX_DEFAULT}"
        )


def _first_line(function: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(function) or "").splitlines()
    return lines[0].strip() if lines else ""


def _parameters(function: Callable[..., Any], name: str) -> Iterable[tuple[inspect.Parameter, str]]:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError) as error:
        raise ValueError(f"the type hints of {name} cannot be read: {error}") from None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ValueError(f"{name}: operators cannot give {parameter}; only arguments with a name")
        yield parameter, _kind(hints.get(parameter.name, str), parameter.name)


def _kind(hint: Any, argument: str) -> str:
    parts = set(typing.get_args(hint)) - {type(None)} if _is_union(hint) else {hint}
    one = parts.pop() if len(parts) == 1 else None
    if isinstance(one, type) and one in PLAIN:  # Optional[int] is an int that may be left out
        return PLAIN[one]
    if hint in JSON_HINTS or typing.get_origin(hint) in JSON_HINTS or _is_union(hint):
        return "json"
    raise ValueError(
        f"argument {argument}: {hint!r} is not str, int, float, bool or something of JSON (dict, list)"
    )


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"  # int | None
