"""The example server of every SDK (sdk/README.md): `python example.py [thread|poll|asyncio|gevent]`.

The game is the same under every host; only the loop around it differs, see the end of the file.
"""

import sys

HOST = sys.argv[1] if len(sys.argv) > 1 else "thread"
if HOST == "gevent":
    from gevent import monkey

    monkey.patch_all()  # before anything else is imported

import asyncio
import os
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

import agentsdk

TICK_S = 0.05
SAVE = os.environ.get("GAME_SAVE", "")
STAY = "GAME_STAY" in os.environ  # players do not leave when entry is closed


class Game:
    """Everything that a handler and the main loop both touch is touched under `lock`: with host "thread" (and gevent)
    handlers run beside the loop."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.players = [1001, 1002, 1003]
        self.open = True
        self.executed = 0
        self.stopping = False
        self.announced = False
        self.next_leaves_at = 0.0
        self.timers: List[Tuple[float, Callable[[], None]]] = []

    def info(self) -> Dict[str, Any]:
        return {"players": len(self.players), "map": "plains"}

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        with self.lock:
            self.timers.append((time.monotonic() + seconds, action))

    def tick(self) -> None:
        with self.lock:
            self.announced = self.announced or app.event("server_started", {"map": "plains"})
            now = time.monotonic()
            due = [timer for timer in self.timers if timer[0] <= now]
            self.timers = [timer for timer in self.timers if timer[0] > now]
            if not (self.open or STAY) and self.players and now >= self.next_leaves_at:
                self.players.pop()
                self.next_leaves_at = now + 0.2
        for _, action in due:
            action()


game = Game()
app = agentsdk.join(info=game.info, host="thread" if HOST == "gevent" else HOST)


@app.command(danger="read", answer="{players, map, open, executed}")
def status() -> Dict[str, Any]:
    """how the game is"""
    return {**game.info(), "open": game.open, "executed": game.executed}


@app.command(answer="{kicked, reason}", arguments={"player": "player id"})
def kick(player: int, reason: str = "no reason given") -> Dict[str, Any]:
    """throw a player out"""
    with game.lock:
        game.executed += 1
        if player not in game.players:
            raise agentsdk.Refused(f"no player {player}")
        game.players.remove(player)
    app.event("player_left", {"player": player})
    return {"kicked": player, "reason": reason}


@app.command
def broadcast(text: str) -> Dict[str, Any]:
    """tell everybody something"""
    print(f"broadcast: {text}", flush=True)
    with game.lock:
        game.executed += 1
        return {"heard": len(game.players), "text": text}


@app.command
def give(
    player: int, item: str, count: int = 1, rate: float = 1.0, silent: bool = False, extra: Any = None
) -> Dict[str, Any]:
    """give a player something"""
    with game.lock:
        game.executed += 1
    return {"player": player, "item": item, "count": count, "rate": rate, "silent": silent, "extra": extra}


@app.command(danger="red", secrets=("password",))
def unlock(password: str) -> Dict[str, Any]:
    """open the treasury"""
    with game.lock:
        game.executed += 1
    if password != "open sesame":
        raise agentsdk.Refused("wrong password")
    return {"unlocked": True}


@app.command
def slow(seconds: float) -> agentsdk.Later:
    """take some time"""
    with game.lock:
        game.executed += 1
    later = agentsdk.Later()
    game.after(seconds, lambda: later.answer({"slept": seconds}))
    return later


@app.command(danger="red")
def crash() -> None:
    """end at once"""
    os._exit(3)


@app.on_save
def save() -> agentsdk.Later:
    if SAVE == "decline":
        raise agentsdk.Refused("a match is running")
    later = agentsdk.Later()
    if SAVE != "silent":
        game.after(0.1, lambda: save_step(1, int(SAVE) if SAVE.isdigit() else 5, later))
    return later


def save_step(done: int, total: int, later: agentsdk.Later) -> None:
    app.progress(done, total, "players")
    if SAVE == "die" and done == 2:
        os._exit(4)
    if done < total:
        game.after(0.1, lambda: save_step(done + 1, total, later))
    else:
        later.answer(f"{len(game.players)} players saved")


@app.on_entry
def entry(open: bool, reason: str) -> str:
    with game.lock:
        game.open = open
        game.next_leaves_at = time.monotonic() + 0.2
    return "everybody may come in" if open else f"nobody may come in: {reason}"


# ---- one loop for each host


def with_thread() -> None:
    """The SDK has threads of its own; `beat` shows that this one does not hang."""
    while not game.stopping:
        game.tick()
        app.beat()
        time.sleep(TICK_S)


def with_poll() -> None:
    """The SDK works only in `poll`."""
    while not game.stopping:
        app.poll()
        game.tick()
        time.sleep(TICK_S)


async def with_asyncio() -> None:
    """The SDK works in the loop, beside everything else."""
    app.attach()
    while not game.stopping:
        game.tick()
        await asyncio.sleep(TICK_S)


def stop(_number: int, _frame: Any) -> None:
    game.stopping = True


signal.signal(signal.SIGTERM, stop)
if HOST == "poll":
    with_poll()
elif HOST == "asyncio":
    asyncio.run(with_asyncio())
else:
    with_thread()
print("bye", flush=True)
app.close()
