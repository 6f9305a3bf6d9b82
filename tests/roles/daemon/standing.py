"""A daemon's state over a real globaldb, without sockets: handlers are called as a link would call them."""

import json
from pathlib import Path
from typing import Any

from agent import codec, messages, wire
from agent.globaldb import GlobalDb
from agent.link import Peer
from agent.store import Store
from agent.user import new_user
from agent.world import World
from roles.daemon.state import DaemonState
from tests.globaldb_servers import Server

IP, FAR = "192.168.1.10", "192.168.1.11"
PASSWORD = "correct horse"


class AdminLink:
    """What the daemon sends to an admin, instead of a socket."""

    def __init__(self) -> None:
        self.peer: Peer
        self.queued_bytes = 0
        self.closed_why = ""
        self.frames: list[bytes] = []

    def push(self, frame: bytes) -> bool:
        if not self.closed_why:
            self.frames.append(frame)
        return not self.closed_why

    def notify(self, message: Any, dst: bytes = b"") -> bool:
        return self.push(wire.pack(wire.NOTICE, 0, dst, b"", codec.encode(message)))

    def goodbye(self, text: str, code: str = "") -> None:
        self.closed_why = text

    def heard(self) -> list[Any]:
        """Everything since the last time, as a reader with the usual limit takes it."""
        frames, self.frames = self.frames, []
        return [codec.decode(frame.body)[0] for frame in wire.Decoder().feed(b"".join(frames))]

    def rows(self) -> dict[str, dict[str, Any]]:
        changes = [notice for notice in self.heard() if isinstance(notice, messages.PictureChanged)]
        rows = [row for change in changes for row in change.processes]
        return {row[0]: dict(zip(messages.PROCESS_COLUMNS, row, strict=True)) for row in rows}


class Standing:
    """One machine's daemon; `world` is what is configured, `user` makes operators."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.globaldb = GlobalDb(Store(server.url))
        self.state = DaemonState(IP, self.globaldb, folder, "127.0.0.1:8889")

    def configure(self, document: dict[str, Any]) -> None:
        old = self.globaldb.read_world()
        self.globaldb.write_world(World.from_document(document), old)

    def user(self, name: str, *grants: str) -> None:
        self.globaldb.write_user(new_user(name, PASSWORD, grants))

    def peer(self, name: str = "ada", role: str = "admin") -> Peer:
        link = AdminLink()
        peer = link.peer = Peer(role, name, "127.0.0.9:5000", link)  # type: ignore[arg-type]
        peer.deadline = float("inf")
        return peer

    def record(self, key: str, **fields: object) -> None:
        self.globaldb.write_records({key: fields})

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.globaldb.store.lrange("audit", 0, -1)]

    def close(self) -> None:
        self.state.close()
        self.state._means.journal.close()
        self.globaldb.store.close()


def world(**processes: list[str]) -> dict[str, Any]:
    """`world(ten=["game1"], eleven=["gate1"])`: on IP and on FAR, in 大区1."""
    places = {"ten": IP, "eleven": FAR}
    machines = {
        places[where]: [{"type": "game", "name": name} for name in names]
        for where, names in processes.items()
    }
    return {
        "programs": {"game": {"command": ["sleep", "1000"], "ready": {"spawn": 0}}},
        "world": {"大区1": machines},
    }


def key(name: str, ip: str = IP) -> str:
    return f"大区1.{ip}.{name}"
