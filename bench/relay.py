"""Frames relayed per second of the relay's CPU time: our router beside nats-server on one processor."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent import certificate
from agent.key import machine_key, parse_group_key
from bench import peer, process
from bench.figure import Figure, alternately, at_least, side_by_side
from bench.relay_load import LINKS, ip_of
from tests.globaldb_servers import free_port
from tests.scenarios.group import Group, program


def plain(folder: Path, quick: bool) -> list[Figure]:
    """The relay without TLS."""
    with agent_plain(folder) as (pid, order):
        return _beside_nats(folder, quick, "relay, no TLS", pid, order)


def shipped(folder: Path, quick: bool) -> list[Figure]:
    """The router as it ships."""
    with agent_router(folder) as (pid, order):
        return _beside_nats(folder, quick, "router as it ships, TLS", pid, order)


def _beside_nats(folder: Path, quick: bool, what: str, pid: int, order: dict[str, Any]) -> list[Figure]:
    runs, frames = (1, 2_000) if quick else (7, 500_000 if not order["tls"] else 300_000)
    order = {**order, "frames": frames}
    with loaded(folder, pid, order) as ours:
        if not peer.nats_server():
            (mine,), theirs = alternately(runs, ours), []
        else:
            with (
                nats(folder, order["tls"]) as (nats_pid, nats_order),
                loaded(folder, nats_pid, {**nats_order, "frames": frames}) as other,
            ):
                ours(), other()  # warm
                mine, theirs = alternately(runs, ours, other)
    return [
        side_by_side(what, "frames/CPU s", mine, "nats-server, GOMAXPROCS=1" + (", TLS" if order["tls"] else ""),
                     theirs, reach=at_least(0.6), aim=at_least(1.0))
    ]  # fmt: skip


@contextmanager
def loaded(folder: Path, pid: int, order: dict[str, Any]) -> Iterator[Callable[[], float]]:
    """Frames per CPU second of `pid`, one round a call."""
    command = [sys.executable, "-m", "bench.relay_load", json.dumps(order)]
    log = folder / f"load-{order['relay']}.log"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with process.running(command, log, cwd=process.ROOT, **pipes) as child:

        def round_() -> float:
            before = process.cpu_s(pid)
            child.stdin.write(b"\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            if not answer:
                raise RuntimeError(f"the load broke off:\n{log.read_text()}")
            return int(answer) / (process.cpu_s(pid) - before)

        yield round_


@contextmanager
def agent_plain(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    port = free_port()
    command = [sys.executable, "-m", "bench.relay_plain", str(port)]
    with process.running(command, folder / "relay.log", cwd=process.ROOT) as child:
        process.wait_for_port(port)
        yield child.pid, {"relay": "agent", "port": port, "tls": False}


@contextmanager
def agent_router(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """A real router, and keys for the daemons that log in to it."""
    folder.mkdir(exist_ok=True)
    group = Group(folder, [])
    try:
        ips = [ip_of(number) for number in range(LINKS)]
        machine = [{"type": "game", "name": "game1"}]
        group.configure(
            {"programs": {"game": program("steady")}, "world": {"r": dict.fromkeys(ips, machine)}}
        )
        router = group.start_router()
        secret = parse_group_key((folder / "group.key").read_text(), "group.key")
        keys = {ip: machine_key(secret, ip) for ip in ips}
        yield router.pid, {"relay": "agent", "port": group.router_address.port, "tls": True, "keys": keys}
    finally:
        group.close()


@contextmanager
def nats(folder: Path, tls: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    port = free_port()
    lines = [f"listen: 127.0.0.1:{port}", 'ping_interval: "1h"', 'write_deadline: "60s"']
    if tls:
        pem = certificate.own_certificate(folder)
        lines += [f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}']
    config = folder / "nats.conf"
    config.write_text("\n".join(lines) + "\n")
    environ = process.environment(GOMAXPROCS="1")
    with process.running([str(peer.nats_server()), "-c", str(config)], folder / "nats.log", environ) as child:
        process.wait_for_port(port)
        yield child.pid, {"relay": "nats", "port": port, "tls": tls}
