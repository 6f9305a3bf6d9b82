"""The fake players of the example group, all in one process: they walk, talk, and move when they are told to.

Usage: crowd.py PLAYERS SECONDS GATES... [--json]

GATES are those of one region, as HOST:PORT,HOST:PORT; the players are spread over the regions, each goes to one of its
region's gates and, through it, to game1 or game2. Every fifth also sits in chat1, every fifth in the lobby of group1.
One line each second says how they are (with --json as one JSON object); SIGTERM or Ctrl-C sends them home early.
"""

import asyncio
import itertools
import json
import random
import signal
import sys
import time
from collections import Counter
from typing import Any

GAMES = ("game1", "game2")
RETRY_S = 0.5
AVOID_S = 10.0  # whoever said no, or asked us to leave
HURRY_S = 3.0  # at most so long until somebody leaves who is asked to
ANSWER_S = 30.0
KNOWN = {"said", "at", "item", "notice", "match", "room"}  # words that need no reaction


class Crowd:
    """What all of them have seen."""

    def __init__(self) -> None:
        self.home = asyncio.Event()  # set: everybody says bye
        self.counts: Counter[str] = Counter()
        self.here: Counter[str] = Counter()  # server -> how many are on it
        self.heard: dict[str, set[str]] = {}  # notice -> names of players

    def report(self) -> dict[str, Any]:
        names = ("entered", "moved", "refused", "dismissed", "lost", "errors", "lines", "matches")
        return {
            "on": dict(sorted(self.here.items())),
            **{name: self.counts[name] for name in names},
            "heard": {text: len(names) for text, names in self.heard.items()},
        }


class Visitor:
    """One player on one kind of server, wherever there is room."""

    def __init__(
        self, crowd: Crowd, name: str, region: int, gates: list[str], servers: tuple[str, ...]
    ) -> None:
        self.crowd, self.name, self.region = crowd, name, region
        self.choices = list(itertools.product(gates, servers))
        random.shuffle(self.choices)
        self.avoid_until: dict[str, float] = {}  # gate or server -> when it may be tried again

    async def live(self) -> None:
        while not self.crowd.home.is_set():
            gate, server = min(self.choices, key=self.reluctance)
            try:
                await self.visit(gate, server)
            except (OSError, EOFError):
                self.crowd.counts["refused"] += 1  # there is nobody behind the door
                self.avoid(gate)
            await self.pause(random.uniform(RETRY_S, 2 * RETRY_S))

    def reluctance(self, choice: tuple[str, str]) -> float:
        return max(self.avoid_until.get(each, 0.0) for each in choice)

    def avoid(self, who: str) -> None:
        self.avoid_until[who] = time.monotonic() + AVOID_S

    async def pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.crowd.home.wait(), seconds)
        except TimeoutError:
            pass

    async def visit(self, gate: str, server: str) -> None:
        """One connection, from `enter` to the end."""
        host, _, port = gate.rpartition(":")
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), ANSWER_S)
        try:
            writer.write(f"enter {server} {self.name}\n".encode())
            word, _, rest = (await asyncio.wait_for(self.read(reader), ANSWER_S)).partition(" ")
            if word == "welcome":
                await self.stay(reader, writer, gate, server)
            else:
                self.crowd.counts["refused"] += 1
                self.told_by(rest.partition(" ")[0], gate)
        finally:
            writer.close()

    async def read(self, reader: asyncio.StreamReader) -> str:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line.decode().rstrip("\n")

    async def stay(self, reader: Any, writer: Any, gate: str, server: str) -> None:
        place = f"{self.region}.{server}"
        self.crowd.counts["entered"] += 1
        self.crowd.here[place] += 1
        acting = asyncio.create_task(self.act(writer, server))
        over = asyncio.create_task(self.leave_when_it_is_over(writer, acting))
        try:
            await self.listen(reader, writer, acting, gate, server)
        finally:
            acting.cancel()
            over.cancel()
            self.crowd.here[place] -= 1

    async def act(self, writer: Any, server: str) -> None:
        """Each does something about every second."""
        while True:
            await asyncio.sleep(random.uniform(0.5, 1.5))
            if server.startswith("group"):
                line = "queue"
            elif server.startswith("chat") or random.random() < 0.1:
                line = f"say I am {self.name} and like it here"
            else:
                line = f"move {random.randint(-1, 1)} {random.randint(-1, 1)}"
            writer.write(line.encode() + b"\n")

    async def leave_when_it_is_over(self, writer: Any, acting: asyncio.Task) -> None:
        await self.crowd.home.wait()
        acting.cancel()
        writer.write(b"bye\n")

    async def leave_soon(self, writer: Any, acting: asyncio.Task) -> None:
        await asyncio.sleep(random.uniform(0, HURRY_S))
        acting.cancel()
        writer.write(b"bye\n")

    async def listen(self, reader: Any, writer: Any, acting: asyncio.Task, gate: str, server: str) -> None:
        leaving: asyncio.Task | None = None
        while True:
            try:
                word, _, rest = (await self.read(reader)).partition(" ")
            except (OSError, EOFError):
                self.crowd.counts["lost"] += 1  # without a word
                break
            self.crowd.counts["lines"] += 1
            if word == "notice":
                self.crowd.heard.setdefault(rest, set()).add(self.name)
            elif word == "match":
                self.crowd.counts["matches"] += 1
            elif word == "leave" and not leaving:
                self.told_by(rest.partition(" ")[0], gate)
                leaving = asyncio.create_task(self.leave_soon(writer, acting))
            elif word == "bye":
                if not leaving and not self.crowd.home.is_set():
                    self.crowd.counts["dismissed"] += 1  # kicked, or the server is being stopped
                    self.avoid(server)
                break
            elif word not in KNOWN and word != "leave":
                self.crowd.counts["errors"] += 1
                print(f"{self.name}: {word} {rest}", file=sys.stderr)
        if leaving:
            self.crowd.counts["moved"] += 1
            leaving.cancel()

    def told_by(self, who: str, gate: str) -> None:
        """A gate says its own name, which we do not know: it is the one that is no server."""
        servers = {server for _, server in self.choices}
        self.avoid(who if who in servers else gate)


async def main(players: int, seconds: float, regions: list[list[str]], as_json: bool) -> None:
    crowd = Crowd()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, crowd.home.set)
    loop.call_later(seconds, crowd.home.set)
    tasks = []
    for n in range(players):
        region, name = n % len(regions), f"p{n + 1}"
        kinds = [GAMES] + [("chat1",)] * (n % 5 == 1) + [("group1",)] * (n % 5 == 2)
        tasks += [Visitor(crowd, name, region + 1, regions[region], kind).live() for kind in kinds]
    everybody = asyncio.gather(*tasks)
    while not everybody.done():
        await asyncio.wait([everybody], timeout=1)
        report = crowd.report()
        print(json.dumps(report, ensure_ascii=False) if as_json else shown(report), flush=True)
    await everybody


def shown(report: dict[str, Any]) -> str:
    """`1.game1 38  1.game2 37 | entered 75  lines 812 | 75 heard "back soon"`: what is 0 is left out."""
    on, heard = report["on"], report["heard"]
    counts = {name: number for name, number in report.items() if name not in ("on", "heard")}
    parts = [
        "  ".join(f"{name} {number}" for name, number in each.items() if number) for each in (on, counts)
    ]
    return " | ".join(
        [parts[0] or "nobody is in", parts[1], *(f'{n} heard "{text}"' for text, n in heard.items())]
    )


words = [word for word in sys.argv[1:] if word != "--json"]
if len(words) < 3:
    sys.exit(__doc__)
asyncio.run(
    main(int(words[0]), float(words[1]), [gates.split(",") for gates in words[2:]], "--json" in sys.argv)
)
