"""Lines that are wider than the terminal go on below, under the column that they are in. Pure.

A table's last column is the one with sentences in it (DETAIL, NOTE, VERDICT); what it says is never cut off.
"""

from collections.abc import Sequence
from typing import Any

from agent.table import GAP, render, safe, width

LEAST = 30  # cells beside the other columns; where there are fewer, it goes on at the left
LEFT = 4


class Hanging(str):
    """A line whose last column begins at cell `indent`."""

    indent = 0
    needless = False  # the last column: a header with nothing below it


def hanging(line: str, indent: int) -> Hanging:
    found = Hanging(line)
    found.indent = indent
    return found


def table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str] = (), align: str = "", before: str = ""
) -> list[str]:
    """Nothing without rows. `before` stands at the left of each line."""
    if not rows:
        return []
    every = [*([headers] if headers else []), *rows]
    last = max(map(len, every)) - 1
    widths = [max(width(_text(row[i])) for row in every if i < len(row)) for i in range(last)]
    indent = width(before) + sum(widths) + len(GAP) * last
    lines = [hanging(before + line, indent) for line in render(rows, headers, align).splitlines()]
    if headers:
        lines[0].needless = not any(_text(row[last]) for row in rows if last < len(row))
    return list(lines)


def _text(value: Any) -> str:
    return "" if value is None else safe(str(value))


def fold(line: str, most: int) -> list[str]:
    """In pieces of at most so many cells."""
    if width(line) <= most:
        return [line]
    if getattr(line, "needless", False):
        return fold(line[: line.rstrip().rindex(" ")].rstrip(), most)
    blanks = len(line) - len(line.lstrip())
    indent = ahead = getattr(line, "indent", blanks)  # `ahead` of it is no place to break
    if most - indent < LEAST:
        indent, ahead = min(LEFT, most // 2), blanks
    pieces, rest = [], str(line)
    while width(rest) > most:
        end = _fitting(rest, most)
        blank = rest.rfind(" ", _fitting(rest, ahead) + 1, end + 1)
        end = blank if blank > 0 else end
        pieces.append(rest[:end].rstrip())
        rest, ahead = " " * indent + rest[end:].lstrip(), indent
    return [*pieces, rest] if rest.strip() else pieces


def _fitting(text: str, most: int) -> int:
    """How many characters take at most so many cells."""
    if text.isascii():
        return min(most, len(text))
    cells = 0
    for number, character in enumerate(text):
        cells += width(character)
        if cells > most:
            return number
    return len(text)
