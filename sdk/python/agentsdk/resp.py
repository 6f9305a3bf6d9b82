"""RESP2, as much as a record needs: commands out; OK, a number or an error in. Pure.

Whoever answers anything else is not globaldb, or not in its right mind: WireError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from .errors import WireError

MAX_LINE_BYTES = 4 * 1024
MAX_DIGITS = 20


class Failure(str):
    """An error that the server answered."""


Reply = Union[str, int, Failure]


def encode(*words: str) -> bytes:
    encoded = [word.encode("utf-8", "replace") for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


class Decoder:
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Reply]:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            yield _reply(line)
        if len(self._rest) > MAX_LINE_BYTES:
            raise WireError(f"a reply of more than {MAX_LINE_BYTES} bytes")


def _reply(line: bytes) -> Reply:
    sign, text = line[:1], line[1:].decode(errors="replace")
    if sign == b"+":
        return text
    if sign == b"-":
        return Failure(text[:MAX_LINE_BYTES])
    if sign == b":" and len(text) <= MAX_DIGITS and text.lstrip("-").isdecimal():
        return int(text)
    raise WireError(f"a reply that nobody asked for: {line[:40]!r}")
