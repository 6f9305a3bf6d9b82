"""The lobby of the example group: two players who wait become a match, and everybody's matches are counted.

Usage: groupserver.py NAME HOST:PORT FILE      FILE: where the counts are kept

One loop: the sockets of players (gates bring them), then the agent. What players say is in README.md.
"""

import json
import os
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any

import agentsdk

TICK_S = 0.05
MAX_LINE = 1024
GOODBYE_S = 5.0  # how long somebody may take to hang up, once he was told to
SAVE_EVERY_S = 60.0


class Player:
    """One connection; `name` is "" until he has entered."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.name = ""
        self.heard = b""
        self.ends_at = 0.0  # not 0: all is said, he only has to hang up

    def tell(self, *words: object) -> None:
        """One line, whatever an operator has typed. Lines here are few and short: who has no room does not read."""
        line = "".join(char if char.isprintable() else " " for char in " ".join(map(str, words)))
        try:
            self.sock.send(line.encode() + b"\n")
        except OSError:
            pass  # he is gone, as `read` will notice

    def dismiss(self, *words: object) -> None:
        """The last line to him. Closing at once, with lines of his unread, would take it back: he is to hang up."""
        self.tell(*words)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.ends_at = self.ends_at or time.monotonic() + GOODBYE_S


class Lobby:
    """Who is here, who waits for a match, and how many matches everybody had."""

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self.here: dict[str, Player] = {}
        self.waiting: list[Player] = []
        self.why_closed = ""  # "": it is open
        saved = json.loads(file.read_text()) if file.exists() else {}
        self.matches: int = saved.get("matches", 0)
        self.counts: dict[str, int] = saved.get("counts", {})

    def save(self) -> None:
        """The old file or the new one, never half of one."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"matches": self.matches, "counts": self.counts}))
        os.replace(new, self.file)

    def hear(self, player: Player, line: str) -> None:
        if player.ends_at:
            return  # nobody hears him any more
        if not player.name:
            self.enter(player, line.split())
        elif line == "queue":
            self.queue(player)
        elif line == "bye":
            self.leave(player)
            player.dismiss("bye see you")
        else:
            player.tell("error say: queue, or bye")

    def enter(self, player: Player, words: list[str]) -> None:
        if len(words) != 3 or words[:2] != ["enter", self.name] or len(words[2]) > 32:
            player.dismiss("no", self.name, "say: enter SERVER NAME")
        elif self.why_closed:
            player.dismiss("no", self.name, self.why_closed)
        elif words[2] in self.here:
            player.dismiss("no", self.name, "you are here already")
        else:
            player.name = words[2]
            self.here[player.name] = player
            player.tell("welcome", self.name, self.counts.get(player.name, 0))

    def queue(self, player: Player) -> None:
        if player not in self.waiting:
            self.waiting.append(player)
        if len(self.waiting) < 2:
            return
        pair = [self.waiting.pop(0), self.waiting.pop(0)]
        self.matches += 1
        for each in pair:
            self.counts[each.name] = self.counts.get(each.name, 0) + 1
            each.tell("match", self.matches, *(one.name for one in pair))

    def leave(self, player: Player) -> None:
        if self.here.get(player.name) is player:
            del self.here[player.name]
        if player in self.waiting:
            self.waiting.remove(player)


name, place, file = sys.argv[1:]
lobby = Lobby(name, Path(file))
app = agentsdk.join(info=lambda: {"players": len(lobby.here), "matches": lobby.matches}, host="poll")


@app.command(danger="read", answer="{players, waiting, matches}")
def status() -> dict[str, int]:
    """how the lobby is"""
    return {"players": len(lobby.here), "waiting": len(lobby.waiting), "matches": lobby.matches}


@app.command(answer="{heard}")
def broadcast(text: str) -> dict[str, int]:
    """tell everybody in the lobby"""
    for player in lobby.here.values():
        player.tell("notice", text)
    return {"heard": len(lobby.here)}


@app.command(danger="red", answer="{player, matches}", arguments={"player": "his name"})
def forget(player: str) -> dict[str, Any]:
    """forget how many matches a player had"""
    if player not in lobby.counts:
        raise agentsdk.Refused(f"{player} never had a match")
    app.event("forgotten", {"player": player})
    return {"player": player, "matches": lobby.counts.pop(player)}


@app.on_entry
def entry(open: bool, reason: str) -> str:
    lobby.why_closed = "" if open else reason or "closed"
    if open:
        return "everybody may come in"
    for player in lobby.here.values():
        player.tell("leave", lobby.name, reason)
    return f"nobody may come in, {len(lobby.here)} players are asked to leave"


@app.on_save
def save() -> str:
    lobby.save()  # takes milliseconds; what takes longer says app.progress(done, total, "players") on its way
    return f"{lobby.matches} matches of {len(lobby.counts)} players saved"


def read(player: Player) -> bool:
    """False when he has hung up."""
    try:
        data = player.sock.recv(8192)
    except BlockingIOError:
        return True
    except OSError:
        return False
    *lines, player.heard = (player.heard + data).split(b"\n")
    for line in lines:
        lobby.hear(player, line.decode(errors="replace"))
    return bool(data) and len(player.heard) <= MAX_LINE


def main() -> None:
    host, _, port = place.rpartition(":")
    door = socket.create_server((host, int(port)), backlog=512)
    door.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(door, selectors.EVENT_READ)
    save_at = time.monotonic() + SAVE_EVERY_S
    while True:
        ready = [key.fileobj for key, _ in selector.select(TICK_S)]
        if door in ready:
            sock, _ = door.accept()
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ, Player(sock))
        now = time.monotonic()
        for player in [key.data for key in selector.get_map().values() if key.data]:
            late = player.ends_at and now > player.ends_at
            if late or (player.sock in ready and not read(player)):
                lobby.leave(player)
                selector.unregister(player.sock)
                player.sock.close()
        if now > save_at:
            lobby.save()
            save_at = now + SAVE_EVERY_S
        app.poll()


main()
