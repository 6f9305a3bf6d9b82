"""The body of a frame: JSON [name, fields], and what values may be in it. Pure.

Integers fit into 64 bits, nesting is at most 64 deep, there is no NaN: whoever sends something else loses its link, so
nothing is encoded that `check` has not seen.
"""

from __future__ import annotations

import json
import math
from typing import Any

from .errors import WireError

MAX_DEPTH = 60  # of a value; the body around it takes a few more
LEAST_INT, MOST_INT = -(2**63), 2**63 - 1
MAX_DIGITS = 20  # of an integer: longer ones take Python quadratic time to read


def encode(name: str, fields: dict[str, Any]) -> bytes:
    """Raises ValueError or TypeError for what JSON, or the other end, cannot take."""
    check(fields)
    return text([name, fields]).encode("utf-8", "replace")


def text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check(value: Any, depth: int = 0) -> None:
    """ValueError for what must not travel."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, int) and not LEAST_INT <= value <= MOST_INT:
        raise ValueError("an integer of more than 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a float that is not finite")
    if isinstance(value, dict):
        for name in value:
            check(name, depth + 1)
    for item in _items(value):
        check(item, depth + 1)


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def decode(body: bytes) -> tuple[str, dict[str, Any]]:
    """(name, fields); raises WireError."""
    try:
        whole = json.loads(body.decode(), parse_int=_integer, parse_float=_float, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a body that is not JSON: {error}"[:200]) from None
    if not isinstance(whole, list) or len(whole) != 2:
        raise WireError("a body that is not JSON [name, fields]")
    name, fields = whole
    if not isinstance(name, str) or not isinstance(fields, dict):
        raise WireError("a body that is not JSON [name, fields]")
    return name, fields


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= MAX_DIGITS else MOST_INT + 1
    if not LEAST_INT <= value <= MOST_INT:
        raise ValueError("an integer of more than 64 bits")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a float that is not finite")
    return value


def _constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")
