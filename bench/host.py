"""A game in Python that has nothing to do: python -m bench.host, with AGENT_… in its environment (bench.poll).

An order on stdin, `TURN PAUSE_MS COUNT`: so many turns of `sdk` or `nothing`; answered with µs of CPU time for each.
"""

import sys
import time
from collections.abc import Callable

import agentsdk

MOST_TURNS = 10_000  # until it has joined
FIRST_TURNS = 50  # after it has joined: globaldb is reached, the record written


def us(turn: Callable[[], object], pause_s: float, count: int) -> float:
    began = time.process_time()
    if pause_s:
        for _ in range(count):
            turn()
            time.sleep(pause_s)
    else:
        for _ in range(count):
            turn()
    return (time.process_time() - began) / count * 1e6


def main() -> None:
    app = agentsdk.join(info=lambda: {"host": "bench", "players": 0}, host="poll")
    for _ in range(MOST_TURNS):
        if app.joined:
            break
        us(app.poll, 0.001, 1)
    else:
        raise SystemExit("the daemon does not let us in")
    us(app.poll, 0.01, FIRST_TURNS)
    print("joined", flush=True)
    turns = {"sdk": app.poll, "nothing": lambda: None}
    for line in sys.stdin:
        turn, pause_ms, count = line.split()
        print(us(turns[turn], int(pause_ms) / 1000, int(count)), flush=True)


if __name__ == "__main__":
    main()
