"""What is wrong with somebody's configuration: where, and in words that show the value as it stands there."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from agent.names import did_you_mean


class Problem(NamedTuple):
    """Something wrong, and the path to it (`programs.game.restart`, `world.大区1.192.168.1.10[2].port`)."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def shown(value: object) -> str:
    """A value as it stands in the file, shortened for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def kind(value: object) -> str:
    kinds = {str: "a string", bool: "true or false", int: "a number", float: "a number",
             list: "a list", dict: "an object", type(None): "null"}  # fmt: skip
    return kinds.get(type(value), type(value).__name__)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`no field "prot" (did you mean "port"?); known: host, port`"""
    known = list(known)
    return f'no {what} "{name}"{did_you_mean(name, known)}; known: {", ".join(known)}'


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can carry it: half a surrogate pair, which JSON can write, is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
