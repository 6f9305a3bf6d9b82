"""A player of teeworlds 0.7, who joins, stays, chats, and hears what the server tells him. DDNet lets him in too.

    TOKEN ─► ◄─ TOKEN   CONNECT ─► ◄─ ACCEPT   INFO ─► ◄─ MAP_CHANGE   READY ─► ◄─ CON_READY
    StartInfo ─► ◄─ ReadyToEnter   ENTERGAME ─►   … keep alive, and acknowledge every vital chunk

He does not move, and a lost packet is only ever sent again by the server: on one machine that is enough. The table
that packets are compressed with is read from the server's own binary.
"""

import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

CONTROL, COMPRESSED, CONNLESS = 1, 4, 8  # flags of a packet
VITAL = 1  # of a chunk
KEEP_ALIVE, CONNECT, ACCEPT, CLOSE, TOKEN = 0, 1, 2, 4, 5
INFO, MAP_CHANGE, CON_READY, READY, ENTERGAME = 1, 2, 5, 18, 19  # messages of the system
BROADCAST, CHAT, READY_TO_ENTER, SAY, START_INFO = 2, 3, 8, 24, 27  # messages of the game
END = 256  # the symbol after the last byte of a compressed packet
TICK_S = 0.1


class Player:
    """In a thread of his own until `leave`, or until he is thrown out: then `gone` is the reason."""

    def __init__(self, host: str, port: int, name: str, binary: str, password: str = "") -> None:
        self.name, self.password = name, password
        self.playing = False
        self.gone = ""
        self.heard: list[str] = []  # broadcasts and chat
        self._tree = tree(Path(binary).read_bytes())
        self._token, self._theirs = os.urandom(4), b"\xff" * 4
        self._sent = self._got = 0  # vital chunks
        self._says: list[bytes] = []
        self._left = False
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect((host, port))
        self._sock.settimeout(TICK_S)
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        self._says.append(message(SAY, False, 1, -1, text))

    def leave(self) -> None:
        self._left = True
        self._thread.join(5)

    # ---- packets

    def _play(self) -> None:
        spoken_at = 0.0
        while not self._left and not self.gone:
            if time.monotonic() > spoken_at + 0.5:
                self._insist()
                spoken_at = time.monotonic()
            while self.playing and self._says:
                self._chunk(self._says.pop(0))
            try:
                self._hear(self._sock.recv(2048))
            except OSError:  # nothing came, or the server is not there
                time.sleep(TICK_S / 10)
        self._control(CLOSE)
        self._sock.close()

    def _insist(self) -> None:
        """What is asked until it is answered, and then that he is still there."""
        if self._theirs == b"\xff" * 4:
            self._control(TOKEN, self._token + bytes(508))
        elif not self._sent:
            self._control(CONNECT, self._token + bytes(508))
        else:
            self._control(KEEP_ALIVE)

    def _control(self, kind: int, more: bytes = b"") -> None:
        self._packet(CONTROL, 0, bytes([kind]) + more)

    def _chunk(self, body: bytes) -> None:
        self._sent = (self._sent + 1) % 1024
        size, number = len(body), self._sent
        head = bytes([VITAL << 6 | size >> 6 & 0x3F, size & 0x3F | number >> 2 & 0xC0, number & 0xFF])
        self._packet(0, 1, head + body)

    def _packet(self, flags: int, chunks: int, payload: bytes) -> None:
        try:
            self._sock.send(
                bytes([flags << 2 | self._got >> 8, self._got & 0xFF, chunks]) + self._theirs + payload
            )
        except OSError:
            pass  # the server is not there

    def _hear(self, packet: bytes) -> None:
        flags, chunks, payload = packet[0] >> 2, packet[2], packet[7:]
        if packet[3:7] != self._token or flags & CONNLESS:
            return
        if flags & CONTROL:
            self._controlled(payload)
            return
        if flags & COMPRESSED:
            payload = decompress(self._tree, payload)
        for _ in range(chunks):
            size = (payload[0] & 0x3F) << 6 | payload[1] & 0x3F
            vital = payload[0] >> 6 & VITAL
            start = 3 if vital else 2
            number = (payload[1] & 0xC0) << 2 | payload[2]
            if not vital or number == (self._got + 1) % 1024:
                self._got = number if vital else self._got
                self._told(payload[start : start + size])
            payload = payload[start + size :]

    def _controlled(self, payload: bytes) -> None:
        if payload[0] == TOKEN and self._theirs == b"\xff" * 4:
            self._theirs = payload[1:5]
            self._insist()
        elif payload[0] == ACCEPT and not self._sent:
            self._chunk(message(INFO, True, "0.7 802f1be60a05665f", self.password, 0x0705))
        elif payload[0] == CLOSE:
            self.playing = False
            self.gone = payload[1:].split(b"\0")[0].decode() or "no reason"

    # ---- messages

    def _told(self, body: bytes) -> None:
        what, body = unpack(body)
        told = (what >> 1, bool(what & 1))
        if told == (MAP_CHANGE, True):
            self._chunk(message(READY, True))
        elif told == (CON_READY, True):
            looks = ["standard"] + [""] * 5 + [0] * 12
            self._chunk(message(START_INFO, False, self.name, "", -1, *looks))
        elif told == (READY_TO_ENTER, False):
            self._chunk(message(ENTERGAME, True))
            self.playing = True
        elif told == (BROADCAST, False):
            self.heard.append(body.split(b"\0")[0].decode())
        elif told == (CHAT, False):
            for _ in range(3):  # to whom, from whom, to which one
                _, body = unpack(body)
            self.heard.append(body.split(b"\0")[0].decode())


def message(what: int, system: bool, *fields: Any) -> bytes:
    words = (pack(each) if isinstance(each, int) else each.encode() + b"\0" for each in fields)
    return pack(what << 1 | system) + b"".join(words)


def pack(number: int) -> bytes:
    """Six bits and the sign, then seven bits at a time; the highest says that more follow."""
    sign, number = (0x40, ~number) if number < 0 else (0, number)
    out = [sign | number & 0x3F]
    number >>= 6
    while number:
        out[-1] |= 0x80
        out.append(number & 0x7F)
        number >>= 7
    return bytes(out)


def unpack(body: bytes) -> tuple[int, bytes]:
    number, shift, at = body[0] & 0x3F, 6, 1
    while body[at - 1] & 0x80:
        number |= (body[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return ~number if body[0] & 0x40 else number, body[at:]


def tree(binary: bytes) -> Any:
    """The Huffman tree, from the table of frequencies in a server: a leaf is its symbol, a node a pair."""
    at = binary.index(struct.pack("<4I", 1 << 30, 4545, 2657, 431))
    counts = [*struct.unpack_from("<256I", binary, at), 1]
    left: list[tuple[int, Any]] = [(count, symbol) for symbol, count in enumerate(counts)]
    while len(left) > 1:
        left.sort(key=lambda each: -each[0])  # equal ones keep their order, which decides what the tree is
        (less, zero), (more, one) = left.pop(), left.pop()
        left.append((less + more, (zero, one)))
    return left[0][1]


def decompress(node: Any, data: bytes) -> bytes:
    root, out = node, bytearray()
    for place in range(len(data) * 8):
        node = node[data[place // 8] >> place % 8 & 1]
        if node == END:
            break
        if isinstance(node, int):
            out.append(node)
            node = root
    return bytes(out)
