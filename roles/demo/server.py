"""A game process of the demo: `agent demo-server TYPE HOST PORT`. The Python SDK and the standard library, no gevent.

It listens, answers every line with its state, has players who come and go, reports itself, takes GM commands, saves
when it is asked to and closes its entry. The line `crash` makes it crash, `hang` makes it stop doing anything for ever.
"""

import os
import random
import selectors
import signal
import socket
import sys
import time
from typing import Any

from sdk.python import agentsdk

TICK_S = 1.0
LOOP_S = 0.1
SAVE_STEPS = 8
LONGEST_LINE_BYTES = 1024
HAS_PLAYERS = ("gateserver", "gameserver")


class Game:
    """One process; `app` is its side of the agent."""

    def __init__(self, type_: str, host: str, port: int) -> None:
        self.type = type_
        self.key = os.environ.get("AGENT_PROCESS", type_)
        self.players = 0
        self.open = True
        self.stopping = False
        self.began = time.monotonic()
        self.saving: agentsdk.Later | None = None
        self.saved = 0  # steps
        self.app = agentsdk.join(info=self.info, host="poll")
        self._selector = selectors.DefaultSelector()
        listener = socket.create_server((host, port))
        self._selector.register(listener, selectors.EVENT_READ, self._welcome)

    def run(self) -> None:
        next_tick = time.monotonic()
        while not self.stopping:
            self.app.poll()
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK_S
                self._players_come_and_go()
            if self.saving is not None:
                self._save_a_part(self.saving)
            for event, _ in self._selector.select(LOOP_S):
                event.data(event.fileobj)

    def info(self) -> dict[str, Any]:
        return {"players": self.players}

    def state(self) -> str:
        return f"{self.key}: {self.players} players, up {time.monotonic() - self.began:.0f} s"

    def save(self) -> agentsdk.Later:
        """Part by part, so that the loop goes on and operators see how far it is."""
        say(f"saving {self.players} players")
        self.saving, self.saved = agentsdk.Later(), 0
        return self.saving

    def set_entry(self, open: bool, reason: str) -> str:
        self.open = open
        say(f"entry is {'open' if open else 'closed'} ({reason})")
        return "open" if open else "closed"

    def _save_a_part(self, later: agentsdk.Later) -> None:
        self.saved += 1
        self.app.progress(self.players * self.saved // SAVE_STEPS, self.players, "players")
        if self.saved == SAVE_STEPS:
            say("saved")
            self.saving = None
            later.answer(f"{self.players} players")

    def _players_come_and_go(self) -> None:
        if self.type in HAS_PLAYERS:
            change = random.randint(-4, 6) if self.open else -random.randint(1, 6)
            self.players = max(0, self.players + change)

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


def declare(game: Game) -> None:
    """What operators can call: `gm help gameserver`."""
    app = game.app

    @app.command(danger="read", answer="{players, open, up_s}")
    def status() -> dict[str, Any]:
        """how it is"""
        return {"players": game.players, "open": game.open, "up_s": round(time.monotonic() - game.began)}

    app.on_save(game.save)
    if game.type == "groupserver":
        return

    @app.command
    def broadcast(text: str) -> dict[str, Any]:
        """tell everybody something"""
        say(f"broadcast: {text}")
        return {"heard": game.players}

    if game.type == "chatserver":
        return

    @app.command
    def kick(player: int, reason: str = "no reason given") -> dict[str, Any]:
        """throw a player out"""
        if not 0 < player <= game.players:
            raise agentsdk.Refused(f"no player {player}: there are {game.players}")
        game.players -= 1
        app.event("player_kicked", {"player": player, "reason": reason})
        return {"kicked": player, "reason": reason}

    @app.command(danger="red", secrets=("password",))
    def wipe(password: str) -> dict[str, Any]:
        """throw all players out (the password is demo)"""
        if password != "demo":
            raise agentsdk.Refused("wrong password")
        gone, game.players = game.players, 0
        return {"kicked": gone}

    app.on_entry(game.set_entry)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main(argv: list[str]) -> int:
    if len(argv) != 3:
        print("usage: agent demo-server TYPE HOST PORT", file=sys.stderr)
        return 2
    game = Game(argv[0], argv[1], int(argv[2]))
    declare(game)

    def stop(_number: int, _frame: Any) -> None:
        game.stopping = True

    signal.signal(signal.SIGTERM, stop)
    say(f"{game.type} {game.key} listens on {argv[1]}:{argv[2]}")
    game.run()
    say("bye")
    game.app.close()
    return 0
