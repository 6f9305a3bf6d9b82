"""A daemon that does what the test says, and nothing by itself: plain sockets, no threads.

    with Daemon() as daemon:                            # daemon.address goes into AGENT_DAEMON
        app = daemon.welcome(globaldb=valkey.url)       # accepts, answers session.join and application.declare
        answer = app.ask("gm.execute", id="1", command="kick", arguments={"player": 1001}, user="ada", again=False)
        assert answer.fields["answer"] == {...}         # answer.kind, .seq, .name, .fields

Finer: `app = daemon.application()`, `join = app.take("session.join")`, `app.reply(join, "session.joined", ...)`,
`app.refuse(join, "forbidden", "...")`, `seq = app.request(...)`, `app.answer_to(seq)`, `app.raw(b"garbage")`,
`app.ended()` waits for the application to hang up, `app.close()`. A daemon that hangs is one that is not told to read.
`take` leaves what it was not asked for in `app.inbox`. Every wait has a time-out. Frames are those of agent.wire.

`Listener` alone is a stand-in globaldb as hostile as the test likes: `sock = listener.accept(); sock.sendall(...)`.
"""

import json
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from agent import wire
from tests.globaldb_servers import free_port

TIMEOUT_S = 15.0


class Message(NamedTuple):
    kind: int
    seq: int
    name: str
    fields: dict[str, Any]


class Listener:
    """Listens on a port that it keeps; `stop` and `start` as a server that is killed and comes back."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_why: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._open: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._socket.settimeout(TIMEOUT_S)

    def stop(self) -> None:
        for sock in (self._socket, *self._open):
            sock.close()

    def accept(self) -> socket.socket:
        sock, _ = self._socket.accept()
        sock.settimeout(TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(sock)
        return sock


class Daemon(Listener):
    def __enter__(self) -> "Daemon":
        return self

    def application(self) -> "Application":
        """The next connection, nothing read yet."""
        return Application(self.accept())

    def welcome(self, globaldb: str = "", heartbeat_s: float = 0.2) -> "Application":
        """The next connection, joined and declared; `.join` and `.declared` are its messages."""
        app = self.application()
        app.join = app.take("session.join")
        app.reply(
            app.join,
            "session.joined",
            daemon="192.168.1.11",
            version="0",
            heartbeat_s=heartbeat_s,
            globaldb=globaldb,
        )
        app.declared = app.take("application.declare")
        app.reply(app.declared, "application.declared")
        return app


class Application:
    """One connection of an application, seen from its daemon."""

    join: Message
    declared: Message

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox: list[Message] = []
        self._decoder = wire.Decoder(1024 * 1024)
        self._seq = 0

    # ---- from the application

    def take(self, name: str = "", match: Callable[[Message], bool] = lambda _m: True) -> Message:
        """The oldest unread message of this name that matches; EOFError when the application hung up before it."""
        while True:
            for i, message in enumerate(self.inbox):
                if name in ("", message.name) and match(message):
                    return self.inbox.pop(i)
            self._receive()

    def answer_to(self, seq: int) -> Message:
        return self.take(match=lambda m: m.kind in (wire.REPLY, wire.ERROR) and m.seq == seq)

    def ended(self) -> bool:
        """Waits until it has hung up; what it sent before is in the inbox."""
        try:
            while True:
                self._receive()
        except (EOFError, ConnectionError):
            return True

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the application hung up")
        for frame in self._decoder.feed(data):
            name, fields = json.loads(frame.body)
            self.inbox.append(Message(frame.kind, frame.seq, name, fields))

    # ---- to the application

    def ask(self, name: str, **fields: Any) -> Message:
        return self.answer_to(self.request(name, **fields))

    def request(self, name: str, **fields: Any) -> int:
        self._seq += 1
        self.send(wire.REQUEST, self._seq, name, fields)
        return self._seq

    def notice(self, name: str, **fields: Any) -> None:
        self.send(wire.NOTICE, 0, name, fields)

    def reply(self, to: Message, name: str, **fields: Any) -> None:
        self.send(wire.REPLY, to.seq, name, fields)

    def refuse(self, to: Message, code: str, text: str) -> None:
        self.send(wire.ERROR, to.seq, "error", {"code": code, "text": text})

    def send(self, kind: int, seq: int, name: str, fields: dict[str, Any]) -> None:
        self.raw(packed(kind, seq, name, fields))

    def raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()


def packed(kind: int, seq: int, name: str, fields: dict[str, Any]) -> bytes:
    body = json.dumps([name, fields], ensure_ascii=False, separators=(",", ":")).encode()
    return wire.pack(kind, seq, b"", b"", body)
