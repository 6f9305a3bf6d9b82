"""A message <-> the body of a frame: JSON [name, fields]. Pure; agent/messages.py is what is entered here.

Rules for editors:

- fields are JSON: str, int, float, bool, list, dict, or object for any of them; a reader ignores fields that it does
  not know and refuses wrong types;
- whatever a peer sends ends as a message, a WireError or a Refused, and whatever a handler returns can be sent.

A request's remaining time travels as the reserved field `left_s`, so that each hop can say where time ran out.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar, get_origin

import ujson

from agent.errors import Refused, WireError

LEFT = "left_s"
MAX_LEFT_S = 1e9
MAX_DEPTH = 64
MAX_INT = 2**63
MAX_SHOWN = 80  # characters of somebody's wrong word in our answer and in our log

BY_NAME: dict[str, type] = {}
NAME_OF: dict[type, str] = {}
REPLY_OF: dict[type, type] = {}
_CHECKS: dict[type, dict[str, tuple[type, ...]]] = {}
_REQUIRED: dict[type, frozenset[str]] = {}

T = TypeVar("T", bound=type)


def message(name: str, reply: type | None = None) -> Callable[[T], T]:
    """Enter a dataclass into the catalogue under its wire name; a taken name fails at import."""

    def enter(cls: T) -> T:
        if name in BY_NAME:
            raise ValueError(f"message {name} is defined twice: {BY_NAME[name].__name__} and {cls.__name__}")
        BY_NAME[name] = cls
        NAME_OF[cls] = name
        if reply is not None:
            REPLY_OF[cls] = reply
        hints = cls.__annotations__
        _CHECKS[cls] = {f.name: _json_types(hints[f.name]) for f in dataclasses.fields(cls)}
        _REQUIRED[cls] = frozenset(
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        )
        return cls

    return enter


def _json_types(hint: Any) -> tuple[type, ...]:
    kind = get_origin(hint) or hint
    return (int, float) if kind is float else (kind,)


def encode(value: Any, left_s: float | None = None) -> bytes:
    """The body of a frame: JSON [name, fields]. What JSON or UTF-8 cannot say (see `tame`) is said otherwise."""
    fields = {name: getattr(value, name) for name in _CHECKS[type(value)]}
    if left_s is not None:
        fields[LEFT] = round(left_s, 3)
    whole = [NAME_OF[type(value)], fields]
    try:
        return _dump(whole, allow_nan=False)
    except (ValueError, OverflowError):  # half a surrogate pair is a ValueError too
        return _dump(tame(whole))


def _dump(whole: list[Any], allow_nan: bool = True) -> bytes:
    return ujson.dumps(whole, ensure_ascii=False, escape_forward_slashes=False, allow_nan=allow_nan).encode()


def tame(value: Any, depth: int = 0) -> Any:
    """What anybody may have written into globaldb, made fit for the wire: no NaN or infinity, no half of a surrogate
    pair, no number too long for a reader, nothing nested so deep that a reader gives up."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < MAX_INT else None
    if isinstance(value, dict):
        return {tame(str(name)): tame(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [tame(item, depth + 1) for item in value]
    return value


def decode(body: bytes) -> tuple[Any, float | None]:
    """The message in a body, and the time its asker still has.

    Raises WireError (no message at all) or Refused (a message, with bad fields).
    """
    try:
        name, fields = ujson.loads(body)
    except (ValueError, TypeError) as error:
        raise WireError(f"body is not JSON [name, fields]: {error}") from None
    if not isinstance(name, str) or not isinstance(fields, dict):
        raise WireError("body is not JSON [name, fields]")
    cls = BY_NAME.get(name)
    if cls is None:
        raise Refused(
            "bad_request", f"unknown message {name[:MAX_SHOWN]!r}: is the other side a newer version?"
        )
    left_s = fields.get(LEFT)
    if left_s is not None and not _is_time(left_s):
        raise Refused("bad_request", f"message {name}: {LEFT} is not a number of seconds")
    checks = _CHECKS[cls]
    known = {}
    for key, kinds in checks.items():
        if key not in fields:
            continue
        item = fields[key]
        if not isinstance(item, kinds) or (isinstance(item, bool) and not {bool, object} & set(kinds)):
            raise Refused("bad_request", f"message {name}: field {key} is not {kinds[-1].__name__}")
        known[key] = item
    missing = _REQUIRED[cls] - known.keys()
    if missing:
        raise Refused("bad_request", f"message {name}: field {', '.join(sorted(missing))} is missing")
    return cls(**known), left_s


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_LEFT_S < value < MAX_LEFT_S
