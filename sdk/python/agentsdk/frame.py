"""The frame: how bytes between an application and its daemon are cut into messages. Pure.

    +------------+---------+---------+------------+------------+-----+-----+---------------------------+
    | length u32 | kind u8 | seq u32 | dst_len u8 | src_len u8 | dst | src | body: JSON [name, fields] |
    +------------+---------+---------+------------+------------+-----+-----+---------------------------+

All numbers are big-endian, `length` counts what follows it. Rules for editors:

- `length` is checked against the limit before a byte of the body is awaited;
- bytes that have come are looked at once per frame, not once per chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .errors import WireError

REQUEST, REPLY, ERROR, NOTICE = 1, 2, 3, 4
KINDS = frozenset((REQUEST, REPLY, ERROR, NOTICE))

PREFIX = struct.Struct(">IBIBB")
LENGTH_BYTES = 4
HEAD_BYTES = PREFIX.size - LENGTH_BYTES  # what `length` counts beside dst, src and body
MAX_FRAME_BYTES = 1024 * 1024
MAX_SEQ = 0xFFFFFFFF


class Frame(NamedTuple):
    kind: int
    seq: int
    dst: bytes
    src: bytes
    body: bytes


def pack(kind: int, seq: int, body: bytes, dst: bytes = b"", src: bytes = b"") -> bytes:
    length = HEAD_BYTES + len(dst) + len(src) + len(body)
    return PREFIX.pack(length, kind, seq, len(dst), len(src)) + dst + src + body


class Decoder:
    """Bytes in, whole frames out; keeps what is left of a frame until its rest comes."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._wanted = LENGTH_BYTES  # so long must `_rest` become before there is anything to do

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that `data` completes. Raises WireError, after which the stream is of no use any more."""
        self._rest += data
        if len(self._rest) < self._wanted:
            return
        whole, offset = bytes(self._rest), 0
        while len(whole) - offset >= LENGTH_BYTES:
            end = offset + LENGTH_BYTES + self._length(whole, offset)
            if end > len(whole):
                break
            yield unpack(whole, offset, end)
            offset = end
        self._keep(whole, offset)

    def _length(self, whole: bytes, offset: int) -> int:
        length = int.from_bytes(whole[offset : offset + LENGTH_BYTES], "big")
        if length > self.limit:
            raise WireError(f"a frame of {length} bytes; the limit is {self.limit}")
        if length < HEAD_BYTES:
            raise WireError(f"a frame of {length} bytes, shorter than its own head")
        return length

    def _keep(self, whole: bytes, offset: int) -> None:
        self._rest = bytearray(whole[offset:])
        self._wanted = LENGTH_BYTES
        if len(self._rest) >= LENGTH_BYTES:
            self._wanted += self._length(whole, offset)


def unpack(data: bytes, offset: int, end: int) -> Frame:
    """The frame in data[offset:end], which is whole."""
    length, kind, seq, dst_len, src_len = PREFIX.unpack_from(data, offset)
    if kind not in KINDS:
        raise WireError(f"a frame of unknown kind {kind}")
    if length < HEAD_BYTES + dst_len + src_len:
        raise WireError(f"a frame of {length} bytes, shorter than its own addresses")
    src_at = offset + PREFIX.size + dst_len
    body_at = src_at + src_len
    return Frame(kind, seq, data[src_at - dst_len : src_at], data[src_at:body_at], data[body_at:end])
