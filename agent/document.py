"""A world file's text: bytes ─► document (plain objects) ─► text again. JSON, or TOML for reading.

A document holds what was written, whatever it means: agent/reader.py makes sense of it. What JSON's own reader would
swallow or lose (a key that stands twice, half a surrogate pair, NaN, a date of TOML) is kept to be complained of.
"""

import json
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from agent.errors import ConfigError
from agent.problem import Problem, is_utf8, shown


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


def read_value(text: str) -> Any:
    """One JSON text of globaldb; ValueError or RecursionError where it is none."""
    return json.loads(text, parse_constant=_constant)


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
        raise ConfigError(
            f"{source}, line {error.lineno}, column {error.colno}: {error.msg}{_comma_hint(error)}"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    except ValueError as error:  # NaN, Infinity, a number of thousands of digits
        raise ConfigError(f"{source}: {error}") from None


def _comma_hint(error: json.JSONDecodeError) -> str:
    before, after = error.doc[: error.pos].rstrip()[-1:], error.doc[error.pos :].lstrip()[:2]
    trailing = before == "," and after[:1] in ("]", "}", ",")
    pointed_at = after in (",]", ",}")  # by some versions of Python
    return " (a comma too many?)" if trailing or pointed_at else ""


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


def text_problems(value: Any, path: str) -> Iterator[Problem]:
    """Keys that stand twice, strings that no UTF-8 can carry, numbers that are none: at any depth."""
    if isinstance(value, str):
        if not is_utf8(value):
            yield Problem(path, f"{json.dumps(value)} has half a surrogate pair")
    elif isinstance(value, dict):
        for key in getattr(value, "doubled", ()):
            yield Problem(path, f"{shown(key)} stands twice")
        for key, inner in value.items():
            if not is_utf8(key):
                yield Problem(path, f"the key {json.dumps(key)} has half a surrogate pair")
            else:
                yield from text_problems(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from text_problems(inner, f"{path}[{i}]")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            yield Problem(path, "is no finite number")
    elif not isinstance(value, (int, type(None))):
        yield Problem(path, f"{value} is a date, which JSON does not have; write a string")
