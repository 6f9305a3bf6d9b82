"""The floor of a picture: python -m bench.reader '[port, machines, ip]' reads the records, as anybody would.

A process of its own, so that nothing else it holds slows it down. Each line on stdin is one read of everything; the
answer on stdout are its seconds, by the clock and of CPU time.
"""

import json
import sys
import time

import redis

from bench import writer
from roles.daemon.observer import FIELDS

CHUNK = 500


def read_all(client: redis.Redis, keys: list[str], ips: list[str]) -> None:
    """The same records and fields that a daemon reads, in pipelines, by redis-py with hiredis."""
    for at in range(0, len(keys), CHUNK):
        pipeline = client.pipeline(transaction=False)
        for key in keys[at : at + CHUNK]:
            pipeline.hmget(key, *FIELDS)
        pipeline.execute()
    pipeline = client.pipeline(transaction=False)
    for ip in ips:
        pipeline.hmget(f"machine:{ip}", "info", "lastupdate")
    pipeline.execute()


def main(port: int, machines: int, own_ip: str) -> None:
    places = writer.places(machines, own_ip)
    keys = [f"process:{region}.{ip}.{process['name']}" for region, ip, there in places for process in there]
    ips = [ip for _region, ip, _there in places]
    with redis.Redis(port=port, protocol=2, decode_responses=True) as client:
        for _ in sys.stdin:
            began, cpu_began = time.perf_counter(), time.process_time()
            read_all(client, keys, ips)
            print(time.perf_counter() - began, time.process_time() - cpu_began, flush=True)


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
