"""What the demo plays: machines, two regions, programs. Pure, but for asking which ports are free.

华东一区   127.0.0.2 gate game chat group      127.0.0.3 gate game
华北二区   127.0.0.4 gate game chat group      (the later half of the machines)
"""

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.address import Address

REGIONS = ("华东一区", "华北二区")
USER = "demo"
FIRST_GAME_PORT = 7001
MOST_MACHINES = 50


def ips(machines: int) -> list[str]:
    """Every address of 127.0.0.0/8 is this machine's own."""
    return [f"127.0.0.{number}" for number in range(2, 2 + machines)]


def world(command: Sequence[str], machines: Sequence[str]) -> dict[str, Any]:
    """The world file. `command` starts this program."""
    east = (len(machines) + 1) // 2
    regions = {REGIONS[0]: machines[:east], REGIONS[1]: machines[east:]}
    return {
        "programs": _programs(command),
        "regions": {region: {} for region, its in regions.items() if its},
        "world": {
            region: {ip: list(_processes(ip, first=ip == its[0])) for ip in its}
            for region, its in regions.items()
            if its
        },
    }


def _programs(command: Sequence[str]) -> dict[str, Any]:
    server = [*command, "demo-server", "{type}", "{host}", "{port}"]
    common = {
        "ready": {"port": "{port}"},
        "restart": "on-failure",
        "stop_timeout_s": 10,
        "heartbeat_s": 2,
        "silent_after_s": 6,
    }
    return {
        "groupserver": {"command": server, "tier": 0, **common},
        "chatserver": {"command": server, "tier": 0, **common},
        "gameserver": {"command": server, "tier": 1, **common},
        "gateserver": {"command": server, "tier": 2, **common},
    }


def _processes(ip: str, *, first: bool) -> Iterator[dict[str, Any]]:
    """A region's first machine also has what the region has once."""
    ports = free_ports(ip)
    kinds = ["gate", "game1", "game2", *(["chat", "group"] if first else [])]
    for name in kinds:
        yield {"type": f"{name.rstrip('12')}server", "name": name, "host": ip, "port": next(ports)}


def free_ports(ip: str) -> Iterator[int]:
    return (port for port in range(FIRST_GAME_PORT, 65536) if is_free(Address(ip, port)))


def is_free(address: Address) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)  # a second bind may pass with SO_REUSEADDR, a second listen does not
        except OSError:
            return False
    return True


def free(host: str) -> Address:
    """Some port that nobody has."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return Address(host, probe.getsockname()[1])


def settings_file(globaldb: Address, password_file: Path) -> str:
    """The TOML file that makes every command of `agent` speak to this group."""
    return (
        f'globaldb = "redis://{globaldb}"\n\n'
        f'[admin]\nuser = "{USER}"\npassword_file = {json.dumps(str(password_file), ensure_ascii=False)}\n'
    )
