"""Templates in launch specifications: `{field}` is a value by its name, `{{` and `}}` are braces.

    text ─► parse ─► fill_in ─► Filled      a process is there: every field has its value
                 └─► keep_open ─► Unfilled  a program without a process: looked through for mistakes only

What is filled in is taken as it is and never read as a template again.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from agent.problem import kind, unknown

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

Fill = Callable[[str, Mapping[str, Any]], str]  # fill_in or keep_open


class Filled(str):
    """A string that came out of a template: where a number is wanted, its digits will do."""


class Unfilled(str):
    """A template that nobody can fill in yet (a program without a process): every check lets it pass."""


class Nested(str):
    """Among the values of a template: one that is a template itself, so that no other can take it."""


class TemplateError(ValueError):
    """A template that cannot be read or filled in; `where` is its place inside the value (`[2]`, `.PATH`)."""

    where = ""


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[str | tuple[str], ...]:
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
    parts = _parse(text)
    if not any(isinstance(part, tuple) for part in parts):
        return "".join(part for part in parts if isinstance(part, str))
    return Filled("".join(part if isinstance(part, str) else _value(part[0], text, values) for part in parts))


def _value(name: str, template: str, values: Mapping[str, Any]) -> str:
    if name not in values:
        raise TemplateError(f'template "{template}": {unknown("field", name, sorted(values))}')
    value = values[name]
    if isinstance(value, Nested):
        raise TemplateError(f'template "{template}": field "{name}" is a template itself')
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise TemplateError(f'template "{template}": field "{name}" is {kind(value)}, which no template can take')


def keep_open(text: str, _values: Mapping[str, Any]) -> str:
    """Reads the template for its mistakes; what has fields stays open."""
    parts = _parse(text)
    is_open = any(isinstance(part, tuple) for part in parts)
    return Unfilled(text) if is_open else "".join(part for part in parts if isinstance(part, str))


def expand(value: Any, fill: Fill, values: Mapping[str, Any], path: str = "") -> Any:
    """`value` with every string in it filled in; a TemplateError has the place of the template that cannot be."""
    if isinstance(value, str):
        try:
            return fill(value, values)
        except TemplateError as error:
            error.where = path
            raise
    if isinstance(value, list):
        return [expand(inner, fill, values, f"{path}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, dict):
        return {name: expand(inner, fill, values, f"{path}.{name}") for name, inner in value.items()}
    return value
