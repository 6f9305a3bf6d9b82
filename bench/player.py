"""Applications that answer at once: any number of them in one process of its own, with epoll and nothing else.

    python -m bench.player '{"pids": [1234, …]}'           joins with the tokens in these processes' environments
    python -m bench.player '{"port": 12345, "count": 3}'   bare: as many plain sockets, to a program like bench.crier

It says a line when all are there, and answers every request with the same words, unread, until it is ended.
"""

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent import codec, messages, wire
from bench import process
from tests.scenarios.puppet import Puppet

TELL = {"name": "tell", "danger": "read", "arguments": [{"name": "text", "type": "str"}]}
TEXT = "the server will be restarted in ten minutes, please find a safe place"
ANSWER = codec.encode(messages.GmAnswer({"heard": 12}))


@contextmanager
def playing(folder: Path, name: str, **order: Any) -> Iterator[int]:
    """The pid of the program, when all are there."""
    command = [sys.executable, "-m", "bench.player", json.dumps(order)]
    log = folder / f"player-{name}.log"
    with process.running(command, log, cwd=process.ROOT, stdout=subprocess.PIPE) as child:
        if child.stdout is None or not child.stdout.readline():
            raise RuntimeError(f"the player broke off:\n{log.read_text()}")
        yield child.pid


def joined(pid: int) -> socket.socket:
    puppet = Puppet(pid)
    for said in (puppet.join(), puppet.ask(messages.DeclareApplication(commands=[TELL]))):
        if isinstance(said, messages.Error):
            raise SystemExit(f"{puppet.words['key']}: {said.code}: {said.text}")
    return puppet.sock


def serve(socks: list[socket.socket]) -> None:
    poll = select.epoll()
    playing = {sock.fileno(): (sock, wire.Decoder()) for sock in socks}
    for number, (sock, _decoder) in playing.items():
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(number, select.EPOLLIN)
    while playing:
        for number, _events in poll.poll():
            sock, decoder = playing[number]
            try:
                data = sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                poll.unregister(number)
                del playing[number]
            for frame in decoder.feed(data):
                if frame.kind == wire.REQUEST:
                    sock.sendall(wire.pack(wire.REPLY, frame.seq, b"", b"", ANSWER))


def main(order: dict[str, Any]) -> None:
    process.raise_file_limit()
    if "pids" in order:
        socks = [joined(pid) for pid in order["pids"]]
    else:
        socks = [socket.create_connection(("127.0.0.1", order["port"])) for _ in range(order["count"])]
    print("playing", flush=True)
    serve(socks)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
