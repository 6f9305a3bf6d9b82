"""An application played by the test: it takes the token from the environment of a process that the agent started."""

import socket
from pathlib import Path
from typing import Any

from agent import codec, messages, wire
from agent.address import parse


def surroundings(pid: int) -> dict[str, str]:
    """The environment of a process."""
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = [word.decode().partition("=") for word in words if word]
    return {name: value for name, _, value in pairs}


class Puppet:
    """`join` it, `declare`, then `next` is whatever the daemon says."""

    def __init__(self, pid: int, **instead: str) -> None:
        """`instead`: what to say in place of what stands in the environment."""
        environ = surroundings(pid)
        self.daemon = parse(environ["AGENT_DAEMON"], 0)
        fields = {"key": "AGENT_PROCESS", "incarnation": "AGENT_INCARNATION", "token": "AGENT_TOKEN"}
        self.words = {name: environ[variable] for name, variable in fields.items()} | instead
        self.seq = 0
        self.source = ("", 0)

    def connect(self) -> None:
        self.sock = socket.create_connection((self.daemon.host, self.daemon.port), 10, self.source)
        self.decoder = wire.Decoder()
        self.frames: list[wire.Frame] = []

    def join(self) -> Any:
        """What the daemon says to it: Joined, or Error."""
        self.connect()
        return self.ask(messages.Join(wire.PROTOCOL, **self.words, sdk="puppet"))

    def declare(self, *commands: str, **able: bool) -> Any:
        entries = [{"name": name, "danger": "read"} for name in commands]
        return self.ask(messages.DeclareApplication(commands=entries, **able))

    def ask(self, message: Any) -> Any:
        self.seq += 1
        self.send(wire.REQUEST, self.seq, message)
        return self.next()[1]

    def send(self, kind: int, seq: int, message: Any) -> None:
        self.sock.sendall(wire.pack(kind, seq, b"", b"", codec.encode(message)))

    def next(self, timeout: float = 15.0) -> tuple[wire.Frame, Any]:
        """The next frame but pings. Raises ConnectionError at the end."""
        self.sock.settimeout(timeout)
        while True:
            while not self.frames:
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError("the daemon has hung up")
                self.frames += self.decoder.feed(data)
            frame = self.frames.pop(0)
            message, _left_s = codec.decode(frame.body)
            if not isinstance(message, messages.Ping):
                return frame, message

    def answer(self, frame: wire.Frame, message: Any) -> None:
        self.send(wire.ERROR if isinstance(message, messages.Error) else wire.REPLY, frame.seq, message)

    def hangs_up(self) -> bool:
        """Whether the daemon ends the link."""
        try:
            while True:
                self.next()
        except (ConnectionError, OSError):
            return True

    def close(self) -> None:
        self.sock.close()
