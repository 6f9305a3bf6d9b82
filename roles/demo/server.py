"""A game process of the demo: `agent demo-server TYPE HOST PORT [REPORT_TO]`. Standard library only, no gevent.

It listens, answers every line with its state, has players who come and go, and on SIGTERM saves for a moment before it
ends. The line `crash` makes it crash, `hang` makes it stop doing anything for ever.
With REPORT_TO (globaldb's host:port) it writes its own record, as a game server in any language would: see report().
"""

import contextlib
import os
import random
import selectors
import signal
import socket
import sys
import time
from typing import Any

TICK_S = 1.0
SAVING_S = (0.3, 0.9)
REPORT_EVERY_S = 2.0
LONGEST_LINE_BYTES = 1024


class Game:
    def __init__(self, type_: str, host: str, port: int, report_to: str) -> None:
        self.type = type_
        self.key = os.environ.get("AGENT_PROCESS", type_)
        self.players = 0
        self.stopping = False
        self.began = time.monotonic()
        self._report_to = report_to
        self._selector = selectors.DefaultSelector()
        listener = socket.create_server((host, port))
        self._selector.register(listener, selectors.EVENT_READ, self._welcome)

    def run(self) -> None:
        next_tick = next_report = time.monotonic()
        while not self.stopping:
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._players_come_and_go()
            if self._report_to and now >= next_report:
                next_report = now + REPORT_EVERY_S
                self._report()
            for event, _ in self._selector.select(max(0.0, next_tick - now)):
                event.data(event.fileobj)

    def state(self) -> str:
        return f"{self.key}: {self.players} players, up {time.monotonic() - self.began:.0f} s"

    def save(self) -> None:
        say(f"saving {self.players} players")
        time.sleep(random.uniform(*SAVING_S))
        say("saved")

    def _players_come_and_go(self) -> None:
        self.players = max(0, self.players + random.randint(-4, 6))

    def _report(self) -> None:
        with contextlib.suppress(OSError):  # globaldb is away: the next report will do
            report(self._report_to, self.key, self.players)

    def _welcome(self, listener: socket.socket) -> None:
        link, _ = listener.accept()
        link.setblocking(False)
        self._selector.register(link, selectors.EVENT_READ, self._answer)

    def _answer(self, link: socket.socket) -> None:
        try:
            line = link.recv(LONGEST_LINE_BYTES).decode(errors="replace").strip()
            if not line:
                raise ConnectionError
            if line == "crash":
                raise SystemExit("crashed, as asked")
            link.send(f"{self.state()}\n".encode())
        except OSError:
            self._selector.unregister(link)
            link.close()
            return
        while line == "hang":
            time.sleep(3600)


def report(globaldb: str, key: str, players: int) -> None:
    """All that a game server has to do to be seen: two fields of one hash, at a fixed rate (docs/globaldb.md)."""
    host, _, port = globaldb.rpartition(":")
    info = f'{{"players": {players}}}'
    words = ["HMSET", f"process:{key}", "info", info, "lastupdate", f"{time.time():.3f}"]
    encoded = [word.encode() for word in words]
    request = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
    with socket.create_connection((host, int(port)), timeout=1.0) as link:
        link.sendall(request)
        link.recv(64)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main(argv: list[str]) -> int:
    if len(argv) not in (3, 4):
        print("usage: agent demo-server TYPE HOST PORT [REPORT_TO]", file=sys.stderr)
        return 2
    game = Game(argv[0], argv[1], int(argv[2]), argv[3] if len(argv) > 3 else "")

    def stop(_number: int, _frame: Any) -> None:
        game.stopping = True

    signal.signal(signal.SIGTERM, stop)
    say(f"{game.type} {game.key} listens on {argv[1]}:{argv[2]}")
    game.run()
    game.save()
    return 0
