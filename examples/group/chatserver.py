"""The chat of the example group: rooms, and who may not talk in them.

Usage: chatserver.py NAME HOST:PORT

asyncio: one task for each player (gates bring them), and the agent in the same loop, so there is nothing to lock.
What players say is in README.md.
"""

import asyncio
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Any

import agentsdk

MAX_LINE = 1024
GOODBYE_S = 5.0  # how long somebody may take to hang up, once he was told to
MAX_WAITING = 65536  # bytes for a player who does not read


class Player:
    def __init__(self, name: str, writer: StreamWriter) -> None:
        self.name, self.writer = name, writer
        self.room = "lobby"
        self.muted_until = 0.0

    def tell(self, *words: object) -> None:
        tell(self.writer, *words)


def tell(writer: StreamWriter, *words: object) -> None:
    """One line, whatever an operator has typed. Never waits: who does not read is dropped."""
    line = "".join(char if char.isprintable() else " " for char in " ".join(map(str, words)))
    writer.write(line.encode() + b"\n")
    if writer.transport.get_write_buffer_size() > MAX_WAITING:
        writer.transport.abort()


async def hang_up(reader: StreamReader, writer: StreamWriter) -> None:
    """Closing at once, with lines of his unread, would take the last words to him back: he is to hang up first."""
    try:
        writer.write_eof()
        async with asyncio.timeout(GOODBYE_S):
            while await reader.read(MAX_LINE):
                pass
    except OSError:
        pass  # he is gone already, or does not go
    writer.close()


class Chat:
    """Who is here, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.here: dict[str, Player] = {}
        self.why_closed = ""  # "": it is open

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, from its first line to its last."""
        try:
            player = self.enter((await reader.readline()).decode(errors="replace").split(), writer)
            if player:
                await self.listen(player, reader)
        except (ConnectionError, ValueError):
            pass  # he is gone, or his line has no end
        finally:
            await hang_up(reader, writer)

    def enter(self, words: list[str], writer: StreamWriter) -> Player | None:
        if len(words) != 3 or words[:2] != ["enter", self.name] or len(words[2]) > 32:
            tell(writer, "no", self.name, "say: enter SERVER NAME")
        elif self.why_closed:
            tell(writer, "no", self.name, self.why_closed)
        elif words[2] in self.here:
            tell(writer, "no", self.name, "you are here already")
        else:
            player = self.here[words[2]] = Player(words[2], writer)
            player.tell("welcome", self.name, player.room)
            return player
        return None

    async def listen(self, player: Player, reader: StreamReader) -> None:
        try:
            while line := await reader.readline():
                if not self.hear(player, line.decode(errors="replace").strip()):
                    break
        finally:
            del self.here[player.name]

    def hear(self, player: Player, line: str) -> bool:
        """False after his last word."""
        word, _, rest = line.partition(" ")
        if word == "say" and time.monotonic() < player.muted_until:
            player.tell("error you are muted")
        elif word == "say":
            self.tell_room(player.room, "said", player.name, rest)
        elif word == "room" and rest.isidentifier():
            player.room = rest
            player.tell("room", rest)
        elif word == "bye":
            player.tell("bye see you")
            return False
        else:
            player.tell("error say: say TEXT, room NAME, or bye")
        return True

    def tell_room(self, room: str, *words: object) -> None:
        for player in self.here.values():
            if player.room == room:
                player.tell(*words)


name, place = sys.argv[1:]
chat = Chat(name)
app = agentsdk.join(info=lambda: {"players": len(chat.here)}, host="asyncio")


def called(player: str) -> Player:
    if player not in chat.here:
        raise agentsdk.Refused(f"no player {player} on {name}")
    return chat.here[player]


@app.command(danger="read", answer="{players, rooms}")
def status() -> dict[str, Any]:
    """how the chat is"""
    rooms = [player.room for player in chat.here.values()]
    return {"players": len(chat.here), "rooms": {room: rooms.count(room) for room in sorted(set(rooms))}}


@app.command(answer="{heard}")
def broadcast(text: str, room: str = "") -> dict[str, int]:
    """tell everybody, or one room"""
    heard = [player for player in chat.here.values() if room in ("", player.room)]
    for player in heard:
        player.tell("notice", text)
    return {"heard": len(heard)}


@app.command(answer="{muted, minutes}", arguments={"player": "his name", "minutes": "0 ends it"})
def mute(player: str, minutes: float = 10.0) -> dict[str, Any]:
    """let a player say nothing for some time"""
    called(player).muted_until = time.monotonic() + 60 * minutes
    app.event("player_muted", {"player": player, "minutes": minutes})
    return {"muted": player, "minutes": minutes}


@app.on_entry
def entry(open: bool, reason: str) -> str:
    chat.why_closed = "" if open else reason or "closed"
    if open:
        return "everybody may come in"
    for player in chat.here.values():
        player.tell("leave", name, reason)
    return f"nobody may come in, {len(chat.here)} players are asked to leave"


# There is no on_save: a chat has nothing to lose, and is stopped at once.


async def main() -> None:
    host, _, port = place.rpartition(":")
    app.attach()
    server = await asyncio.start_server(chat.serve, host, int(port), limit=MAX_LINE, backlog=512)
    async with server:
        await server.serve_forever()


asyncio.run(main())
