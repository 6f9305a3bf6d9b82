"""Aligned columns for a terminal: a 大区 name takes two cells a character."""

import re
import unicodedata
from collections.abc import Sequence

COLOURS = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "grey": 90, "bold": 1}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
GAP = "  "

Cell = object | tuple[object, str]  # a value, or (value, colour)


def safe(text: str) -> str:
    """Without what would steer the terminal: anybody may have written it."""
    return _UNSAFE.sub("�", text)


def width(text: str) -> int:
    """Cells on the screen: two for East Asian wide and full width, none for what combines with the one before.

    (wcwidth knows more, joined emoji too, and importing it takes as long as the rest of a one-shot's tables.)
    """
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def render(
    rows: Sequence[Sequence[Cell]], headers: Sequence[str] = (), align: str = "", colour: bool = False
) -> str:
    """One line per row, without a last newline. `align` has < or > per column; what it lacks is left.

    A cell may be (value, colour name): it is coloured only if `colour`, and its width is the value's. None
    is "".
    """
    lines = [[(header, "bold") for header in headers]] if headers else []
    table = [[_cell(cell) for cell in row] for row in [*lines, *rows]]
    columns = max(map(len, table), default=0)
    widths = [max((width(row[i][0]) for row in table if i < len(row)), default=0) for i in range(columns)]
    return "\n".join(_line(row, widths, align, colour) for row in table)


def paint(text: str, colour: str) -> str:
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour in COLOURS else text


def _cell(cell: Cell) -> tuple[str, str]:
    value, colour = cell if isinstance(cell, tuple) else (cell, "")
    return "" if value is None else safe(str(value)), str(colour)


def _line(row: list[tuple[str, str]], widths: list[int], align: str, colour: bool) -> str:
    out = []
    for i, (text, its_colour) in enumerate(row):
        padding = " " * (widths[i] - width(text))
        shown = paint(text, its_colour) if colour else text
        right = align[i : i + 1] == ">"
        last = i == len(row) - 1
        out.append(padding + shown if right else shown if last else shown + padding)
    return GAP.join(out).rstrip()
