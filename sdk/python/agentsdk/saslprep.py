"""SASLprep (RFC 4013), so that one password typed on two keyboards is one. Pure: the tables are Python's own."""

from __future__ import annotations

import stringprep
import unicodedata
from typing import Callable

Table = Callable[[str], bool]

PROHIBITED: tuple[tuple[Table, str], ...] = (
    (stringprep.in_table_c12, "a space that is not ASCII's"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a character of private use"),
    (stringprep.in_table_c4, "no character at all"),
    (stringprep.in_table_c5, "half of a surrogate pair"),
    (stringprep.in_table_c6, "a character that stands for a lost one"),
    (stringprep.in_table_c7, "a character that only describes others"),
    (stringprep.in_table_c8, "a character that changes how others are shown"),
    (stringprep.in_table_c9, "a tag"),
    (stringprep.in_table_a1, "a character that Unicode 3.2 does not have"),
)


def prepared(text: str) -> str:
    """ValueError names what no name or password may have."""
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for character in normal:
        for is_in, what in PROHIBITED:
            if is_in(character):
                raise ValueError(f"it has {what} in it")
    if normal and not _has_one_direction(normal):
        raise ValueError("it is written in two directions")
    return normal


def _has_one_direction(text: str) -> bool:
    """RFC 3454 §6."""
    if any(map(stringprep.in_table_d1, text)):
        ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
        return ends and not any(map(stringprep.in_table_d2, text))
    return True
