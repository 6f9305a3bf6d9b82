"""A program that knows nothing of us hangs: its daemon sees it from outside, and says so until it goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.globaldb_servers import free_port
from tests.scenarios.group import Admin, Group, program
from tests.waiting import until

HERE, THERE = "127.0.0.2", "127.0.0.3"
TEEWORLDS = Path("/usr/games/teeworlds-server")
QUICK = {"heartbeat_s": 0.5, "silent_after_s": 4}
SEEN_S = 25.0
BEATS = 5


def key(name: str) -> str:
    return f"大区1.{THERE}.{name}"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    group = Group(tmp_path_factory.mktemp("group"), [HERE, THERE])
    probed = {"ready": {"port": "{port}"}, "probe": {"port": "{port}"}, **QUICK}
    world = {
        "programs": {
            "tcp": program("hung_server", "{port}", **{**probed, "report": "agent"}),
            "udp": program("hung_server", "{port}", "udp", **{**probed, "protocol": "udp"}),
            "teeworlds": {
                "command": [str(TEEWORLDS), "bindaddr {host}", "sv_port {port}", "sv_register 0"],
                "env": {"HOME": "/var/tmp"},
                "protocol": "udp",
                **probed,
            },
        },
        "world": {
            "大区1": {
                HERE: [],
                THERE: [
                    {"type": type_, "name": type_, "host": THERE if type_ == "teeworlds" else "0.0.0.0",
                     "port": free_port()}
                    for type_ in ("tcp", "udp", "teeworlds")
                ],
            }
        },
    }  # fmt: skip
    try:
        group.configure(world)
        group.start()
        yield group
    finally:
        group.close()


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    """At the other machine's daemon, so that everything seen is seen through globaldb."""
    admin = group.admin(HERE)
    yield admin
    admin.close()


def start(admin: Admin, name: str) -> int:
    outcome = admin.operate("start", THERE, name, timeout=40)[key(name)]
    assert outcome.good, outcome
    until_verdict(admin, name, "RUNNING")
    return outcome.pid


def until_verdict(admin: Admin, name: str, wanted: str) -> None:
    until(lambda: admin.verdicts()[key(name)] == wanted, SEEN_S, f"{name} {wanted}")


@pytest.mark.timeout(150)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_server_that_hangs_is_silent_and_runs_again_when_it_goes_on(admin: Admin, protocol: str) -> None:
    pid = start(admin, protocol)
    os.kill(pid, signal.SIGUSR1)
    until_verdict(admin, protocol, "SILENT")
    assert admin.picture()[key(protocol)]["pid"] == pid

    os.kill(pid, signal.SIGUSR2)
    until_verdict(admin, protocol, "RUNNING")
    assert admin.picture()[key(protocol)]["pid"] == pid


@pytest.mark.games
@pytest.mark.timeout(150)
@pytest.mark.skipif(not TEEWORLDS.exists(), reason="apt-get install teeworlds-server")
def test_a_real_udp_server_that_is_well_runs_however_often_it_is_probed(group: Group, admin: Admin) -> None:
    pid = start(admin, "teeworlds")
    log = group.log_of(key("teeworlds"))
    beats, verdicts = {group.record(key("teeworlds"))["lastupdate"]}, set()
    said = log.read_text()

    def probed() -> bool:
        beats.add(group.record(key("teeworlds"))["lastupdate"])
        verdicts.add(admin.verdicts()[key("teeworlds")])
        return len(beats) > BEATS

    until(probed, SEEN_S)
    assert verdicts == {"RUNNING"}
    assert admin.picture()[key("teeworlds")]["pid"] == pid
    assert log.read_text() == said, "and a byte that is no packet leaves no trace in its log"
