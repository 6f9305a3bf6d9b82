"""The records of a large group, as its daemons and game servers write them.

`python -m bench.writer '[port, machines, ip]'` writes each anew once in HEARTBEAT_S, a slice at a time,
until it is ended.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import redis

PROCESSES = 20
MACHINES_PER_REGION = 50
HEARTBEAT_S = 5.0
SLICES = 50

Place = tuple[str, str, list[dict[str, Any]]]  # region, ip, its processes


def places(machines: int, own_ip: str) -> list[Place]:
    """`own_ip` is the first of them."""
    ips = [own_ip, *(f"10.{at // 250}.{at % 250}.7" for at in range(1, machines))]
    return [
        (
            f"大区{at // MACHINES_PER_REGION + 1}",
            ip,
            [{"type": "game", "name": f"game{i + 1}", "host": "0.0.0.0", "port": 9000 + i, "agentcount": 0}
             for i in range(PROCESSES)],
        )
        for at, ip in enumerate(ips)
    ]  # fmt: skip


def parts(all_places: list[Place]) -> Iterator[list[Place]]:
    size = max(1, len(all_places) // SLICES)
    for at in range(0, len(all_places), size):
        yield all_places[at : at + size]


def write(client: redis.Redis, part: list[Place]) -> None:
    now = time.time()
    pipeline = client.pipeline(transaction=False)
    for region, ip, processes in part:
        about = {
            "load": [random.random()] * 3,
            "cpu": 12.5,
            "memory": 5 << 30,
            "version": "0.1.0",
            "skew_s": 0.0,
        }
        pipeline.hset(f"machine:{ip}", mapping={"info": json.dumps(about), "lastupdate": round(now, 3)})
        for number, process in enumerate(processes):
            info = {"cpu": round(random.random() * 50, 1), "rss": random.randrange(1 << 30), "threads": 12,
                    "players": random.randrange(500), "version": "1.2.3"}  # fmt: skip
            record = {"info": json.dumps(info), "pid": 1000 + number, "lastupdate": round(now, 3), "startcount": 3,
                      "wanted": "up", "state": "RUNNING", "since": now - 3600, "exit": "",
                      "incarnation": "0123456789abcdef"}  # fmt: skip
            pipeline.hset(f"process:{region}.{ip}.{process['name']}", mapping=record)
    pipeline.execute()


def main(port: int, machines: int, own_ip: str) -> None:
    client = redis.Redis(port=port, protocol=2)
    slices = list(parts(places(machines, own_ip)))
    due = time.monotonic()
    while True:
        for part in slices:
            write(client, part)
            due += HEARTBEAT_S / len(slices)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
