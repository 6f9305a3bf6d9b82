"""Real servers that know nothing of us: examples/real-servers.json, commanded from a machine that runs none of them.

That they run is asked of themselves, each in its own protocol.
"""

import json
import os
import socket
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.globaldb_servers import free_port
from tests.scenarios.group import ROOT, Group, alive, running
from tests.waiting import until

EXAMPLE = ROOT / "examples" / "real-servers.json"
ONE, TWO, DESK = "127.0.0.2", "127.0.0.3", "127.0.0.4"


def teeworlds_answers(host: str, port: int) -> bool:
    """Teeworlds 0.7: ask for a token, with it for the server's info."""
    own = b"\x12\x34\x56\x78"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect((host, port))
        try:
            sock.send(b"\x04\x00\x00" + b"\xff" * 4 + b"\x05" + own + bytes(508))
            token = sock.recv(2048)[8:12]
            sock.send(b"\x21" + token + own + b"\xff\xff\xff\xffgie3\x00")
            return b"\xff\xff\xff\xffinf3" in sock.recv(2048)
        except OSError:
            return False


def wesnoth_answers(host: str, port: int) -> bool:
    """wesnothd: four zero bytes (no TLS, please) are answered by four of its own and what comes after."""
    return len(_tcp(host, port, bytes(4))) >= 4


def freeciv_answers(host: str, port: int) -> bool:
    """freeciv 3: a request to join (4) is answered by a refusal with its reason, compressed if it is shorter so."""
    body = b"tester\0" + b"no capabilities\0" + b"-test\0" + struct.pack(">III", 3, 0, 6)
    reply = _tcp(host, port, struct.pack(">HB", 3 + len(body), 4) + body)
    if reply[:1] >= b"\x40":
        reply = zlib.decompressobj().decompress(reply[2:])
    return b"missing a capability" in reply


def _tcp(host: str, port: int, request: bytes) -> bytes:
    """The first words of the answer."""
    try:
        with socket.create_connection((host, port), 2) as sock:
            sock.settimeout(2)
            sock.sendall(request)
            return sock.recv(4096)
    except OSError:
        return b""


ANSWERS: dict[str, Callable[[str, int], bool]] = {
    "teeworlds": teeworlds_answers,
    "wesnoth": wesnoth_answers,
    "freeciv": freeciv_answers,
}


def example_here(folder: str) -> dict[str, Any]:
    """The file as it is, but for ports that somebody may have here, for where servers leave their things, and for a
    user whom only root may choose."""
    world: dict[str, Any] = json.loads(EXAMPLE.read_text().replace('"/var/tmp"', json.dumps(folder)))
    if os.geteuid() != 0:
        for program in world["programs"].values():
            del program["user"]
    for process in every_process(world):
        process["port"] = free_port()
    return world


def every_process(world: dict[str, Any]) -> list[dict[str, Any]]:
    return [process for ips in world["world"].values() for there in ips.values() for process in there]


def installed(world: dict[str, Any]) -> bool:
    return all(Path(program["command"][0]).exists() for program in world["programs"].values())


@pytest.fixture
def home() -> Iterator[str]:
    """Open to the user that the servers run as, which pytest's own folders are not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o777)
        yield folder


@pytest.mark.games
@pytest.mark.timeout(150)
def test_a_group_of_real_servers_is_run_from_another_machine(tmp_path: Path, home: str) -> None:
    world = example_here(home)
    if not installed(world):
        pytest.skip("apt-get install teeworlds-server wesnoth-1.16-server freeciv-server")
    servers = {
        f"{region}.{ip}.{process['name']}": process
        for region, ips in world["world"].items()
        for ip, there in ips.items()
        for process in there
    }

    def answering() -> set[str]:
        return {
            key for key, p in servers.items() if ANSWERS[p["type"]](p.get("host", "127.0.0.1"), p["port"])
        }

    with running(tmp_path, [ONE, TWO, DESK], world) as group:
        assert answering() == set()
        started = group.admin_command(DESK, "start 大区1 all", more=["--yes", "--json"])
        assert started.returncode == 0, started.stdout
        pids = {row["target"]: row["pid"] for row in json.loads(started.stdout)["outcomes"]}
        assert pids.keys() == servers.keys()
        assert answering() == set(servers)  # a success is said after the effect
        assert shown(group) == dict.fromkeys(servers, "RUNNING")

        lobby = f"大区1.{ONE}.lobby"
        stopped = group.admin_command(DESK, f"stop {ONE} lobby")
        assert stopped.returncode == 0, stopped
        assert answering() == set(servers) - {lobby} and not alive(pids[lobby])

        empire = f"大区1.{TWO}.empire"
        killed = group.admin_command(DESK, f"kill {TWO} {pids[empire]}")
        assert killed.returncode == 0, killed
        assert answering() == set(servers) - {lobby, empire}

        group.daemon(ONE).kill()
        assert answering() == set(servers) - {lobby, empire}
        since = group.roles["router"].said
        group.start_daemon(ONE)
        group.roles["router"].wait_for(f"machine {ONE}: online", since)
        expected = {**dict.fromkeys(servers, "RUNNING"), lobby: "STOPPED", empire: "STOPPED"}
        until(lambda: shown(group) == expected, 15)
        left = servers.keys() - {lobby, empire}
        assert {key: group.pids(key) for key in left} == {key: [pids[key]] for key in left}

        arena = f"大区1.{ONE}.arena2"  # restart: on-failure
        os.kill(pids[arena], 11)
        until(lambda: group.pids(arena) not in ([], [pids[arena]]) and arena in answering(), 15)

        ended = group.admin_command(DESK, "stop 大区1 all", more=["--yes"])
        assert ended.returncode == 0, ended
        assert answering() == set()
        assert not any(group.pids(key) for key in servers)
        assert set(shown(group).values()) == {"STOPPED"}


def shown(group: Group) -> dict[str, str]:
    listed = group.admin_command(DESK, "list 大区1", more=["--json"])
    return {process["key"]: process["verdict"] for process in json.loads(listed.stdout)["processes"]}
