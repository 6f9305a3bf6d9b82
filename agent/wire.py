"""The frame: how every byte between two agents is cut into messages. Pure.

    +------------+---------+---------+------------+------------+-----+-----+---------------------------+
    | length u32 | kind u8 | seq u32 | dst_len u8 | src_len u8 | dst | src | body: JSON [name, fields] |
    +------------+---------+---------+------------+------------+-----+-----+---------------------------+

All numbers are big-endian. `length` counts what follows it. REQUEST wants exactly one REPLY or ERROR with the same
seq; NOTICE wants nothing. `dst` is empty (the peer itself), an ip (that machine's daemon) or `<region>.<ip>.<name>`
(that application process); `src` is who speaks. Rules for editors:

- a relay decides on `dst` and `src` alone and passes the bytes on as they came: nothing here may make it parse a body;
- `length` is checked against the limit before a byte of the body is awaited;
- a frame of under 16 MiB begins with a zero byte, a TLS record with 0x16: that is how a listener tells them apart.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.errors import WireError

PROTOCOL = 1

REQUEST, REPLY, ERROR, NOTICE = 1, 2, 3, 4
KINDS = frozenset((REQUEST, REPLY, ERROR, NOTICE))

PREFIX = struct.Struct(">IBIBB")
PREFIX_BYTES = PREFIX.size  # 11
PREFIX_NO_SEQ = struct.Struct(">IB4xBB")  # what a relay looks at
LENGTH_BYTES = 4
HEAD_BYTES = PREFIX_BYTES - LENGTH_BYTES  # what `length` counts beside dst, src and body
ADDRESS_AT = (
    9  # offset of dst_len: dst_len, src_len, dst, src lie together, and a relay looks them up as one key
)

MAX_FRAME_BYTES = 4 * 1024 * 1024  # after login
MAX_HELLO_BYTES = 4 * 1024  # before login
MAX_NAME_BYTES = 255
MAX_SEQ = 0xFFFFFFFF


class Frame(NamedTuple):
    kind: int
    seq: int
    dst: bytes
    src: bytes
    body: bytes


def pack(kind: int, seq: int, dst: bytes, src: bytes, body: bytes) -> bytes:
    return (
        PREFIX.pack(HEAD_BYTES + len(dst) + len(src) + len(body), kind, seq, len(dst), len(src))
        + dst
        + src
        + body
    )


def address_key(dst: bytes, src: bytes) -> bytes:
    """The bytes of a frame that say where it goes and who says so, as a relay finds them at ADDRESS_AT."""
    return bytes((len(dst), len(src))) + dst + src


def frame_end(data: bytes, offset: int, limit: int) -> int:
    """Where the frame that begins at `offset` ends, which may be behind the end of `data`; 11 bytes must be there."""
    length, kind, _seq, dst_len, src_len = PREFIX.unpack_from(data, offset)
    if length > limit:
        raise WireError(f"frame of {length} bytes; the limit is {limit}")
    if length < HEAD_BYTES + dst_len + src_len:
        raise WireError(f"frame length {length} is shorter than its own addresses")
    if kind not in KINDS:
        raise WireError(f"frame of unknown kind {kind}")
    return offset + LENGTH_BYTES + length


def unpack(data: bytes, offset: int, end: int) -> Frame:
    """The frame in data[offset:end], which `frame_end` has measured."""
    _length, kind, seq, dst_len, src_len = PREFIX.unpack_from(data, offset)
    dst_at = offset + PREFIX_BYTES
    src_at = dst_at + dst_len
    body_at = src_at + src_len
    return Frame(kind, seq, data[dst_at:src_at], data[src_at:body_at], data[body_at:end])


class Decoder:
    """Bytes in, whole frames out; keeps what is left of a frame until its rest comes."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self.limit = limit
        self._rest = bytearray()
        self._wanted = 0  # so long must `_rest` become before there is anything to do

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that `data` completes. Raises WireError, after which the stream is of no use any more."""
        data = self.join(data)
        offset = 0
        while len(data) - offset >= PREFIX_BYTES:
            end = frame_end(data, offset, self.limit)
            if end > len(data):
                break
            yield unpack(data, offset, end)
            offset = end
        self.keep(data, offset)

    def join(self, data: bytes) -> bytes:
        """What was left over with `data` behind it, or nothing while that is not yet a whole frame.

        A caller that cuts frames itself gives what is left over to `keep`. Bytes are put together once per frame, not
        once per chunk: a peer that sends 4 MiB byte by byte would keep us busy for hours.
        """
        if not self._rest:
            return data
        self._rest += data
        if len(self._rest) < self._wanted:
            return b""
        whole, self._rest = bytes(self._rest), bytearray()
        return whole

    def keep(self, data: bytes, offset: int) -> None:
        """Raises WireError when what is left begins a frame over the limit."""
        if offset >= len(data):
            return
        self._rest += memoryview(data)[offset:]
        self._wanted = LENGTH_BYTES
        if len(self._rest) >= LENGTH_BYTES:
            length = int.from_bytes(self._rest[:LENGTH_BYTES], "big")
            if length > self.limit:
                raise WireError(f"frame of {length} bytes; the limit is {self.limit}")
            self._wanted = max(PREFIX_BYTES, LENGTH_BYTES + length)
