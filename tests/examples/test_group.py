"""The group of examples/group as its README tells it: servers in three languages, 150 players, and what operators do
to them. One story: the tests share the group and its players, who must never lose a connection without a word."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from roles.admin import grammar
from tests.globaldb_servers import free_port
from tests.scenarios.games import FIRST, SECOND, call, joined, task
from tests.scenarios.group import ROOT, Group, running
from tests.sdk.servers import tool
from tests.waiting import until

EXAMPLE = ROOT / "examples" / "group"
REGIONS = ("大区1", "大区2")
PLAYERS = 150
PATIENCE_S = 30.0
NOTICE = "维护将在15分钟后开始"

pytestmark = pytest.mark.timeout(150)


def build(folder: Path) -> None:
    """The example as its Makefile leaves it, in a folder of its own."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("run", "data", "gateserver"))
    tool("gcc", "gcc"), tool("lua5.4", "lua5.4 lua-socket")
    done = subprocess.run(
        [tool("make", "make"), f"SDK={ROOT / 'sdk' / 'c'}"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def world(folder: Path) -> dict[str, Any]:
    """world.json with the example there, this Python, and ports that are free."""
    text = (EXAMPLE / "world.json").read_text()
    text = text.replace("/srv/agent/examples/group", str(folder)).replace("/srv/agent", str(ROOT))
    text = text.replace('"python3"', json.dumps(sys.executable))
    ports: dict[str, str] = {}
    for port in re.findall(r'"port": (\d+)', text):
        ports[port] = until(lambda: next(iter({str(free_port())} - set(ports.values())), ""))
    return json.loads(re.sub(r"\b\d{5}\b", lambda found: ports.get(found[0], found[0]), text))


class Crowd:
    """crowd.py, and the last thing it said about its players."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        gates = [
            ",".join(
                f"{process['host']}:{process['port']}"
                for processes in document["world"][region].values()
                for process in processes
                if process["type"] == "gateserver"
            )
            for region in REGIONS
        ]
        self.log, self.errors = folder / "crowd.log", folder / "crowd.errors"
        command = [sys.executable, str(EXAMPLE / "crowd.py"), str(PLAYERS), "600", *gates, "--json"]
        with open(self.log, "wb") as out, open(self.errors, "wb") as errors:
            self.child = subprocess.Popen(command, stdout=out, stderr=errors)

    def report(self) -> dict[str, Any]:
        lines = [line for line in self.log.read_text().splitlines(True) if line.endswith("\n")]
        return json.loads(lines[-1]) if lines else {}

    def on(self, *places: str) -> int:
        """How many are there: `1.game1` is that of 大区1. Without one: on any game."""
        here = self.report().get("on", {})
        return sum(here.get(place, 0) for place in places or ("1.game1", "1.game2", "2.game1", "2.game2"))

    def heard(self, notice: str) -> int:
        return self.report()["heard"].get(notice, 0)

    def is_well(self) -> bool:
        """Raises unless it is."""
        assert self.child.poll() is None, self.errors.read_text()
        report = self.report()
        assert not report or (report["lost"], report["errors"]) == (0, 0), (report, self.errors.read_text())
        return True

    def all_in(self) -> bool:
        return self.is_well() and self.on() == PLAYERS


@contextmanager
def playing(group: Group, document: dict[str, Any]) -> Iterator[Crowd]:
    crowd = Crowd(group.folder, document)
    try:
        yield crowd
    finally:
        crowd.child.kill()
        crowd.child.wait()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Group, Crowd]]:
    folder = tmp_path_factory.mktemp("group")
    build(folder / "example")
    document = world(folder / "example")
    with running(folder, [FIRST, SECOND], document) as group:
        start(group)
        with playing(group, document) as crowd:
            yield group, crowd


@pytest.fixture
def group(story: tuple[Group, Crowd]) -> Group:
    start(story[0])
    return story[0]


@pytest.fixture
def crowd(story: tuple[Group, Crowd], group: Group) -> Crowd:
    until(story[1].all_in, PATIENCE_S, "every player is on some game")
    return story[1]


def start(group: Group) -> None:
    done = group.admin_command(FIRST, *(f"start {region} all" for region in REGIONS), more=["--yes"])
    assert done.returncode == 0, done.stdout + done.stderr
    admin = group.admin(FIRST)
    until(lambda: len(joined(admin)) == 11, PATIENCE_S, "all have joined")
    admin.close()


def broadcast(group: Group, crowd: Crowd, text: str) -> None:
    done = group.admin_command(FIRST, f"gm gateserver broadcast '{text}'", more=["--yes"])
    assert done.returncode == 0 and "3 answered" in done.stdout, done.stdout + done.stderr
    until(lambda: crowd.is_well() and crowd.heard(text) == PLAYERS, PATIENCE_S, "every player has heard it")


def files(group: Group, beginning: str) -> int:
    return len(list((group.folder / "example" / "data").glob(f"{beginning}.*")))


def test_every_command_of_the_readme_can_be_read() -> None:
    commands = re.findall(r"-c (\"[^\"]+\"|'[^']+')", (EXAMPLE / "README.md").read_text())
    assert len(commands) >= 8
    for command in commands:
        grammar.parse(command[1:-1])


def test_a_broadcast_through_all_regions_reaches_every_player(group: Group, crowd: Crowd) -> None:
    broadcast(group, crowd, NOTICE)
    shown = group.admin_command(SECOND, "list 大区1", "list 大区2").stdout
    assert shown.count("RUNNING  up") == 11, shown


def test_a_game_server_is_drained_while_its_players_move_to_the_other(group: Group, crowd: Crowd) -> None:
    key, notice = f"大区1.{FIRST}.game1", "game1 closes, please move"
    before, moved = crowd.on("1.game1"), crowd.report()["moved"]
    assert before, "somebody is to leave"

    done = group.admin_command(SECOND, f'drain 大区1 {FIRST} game1 --deadline 10m --notice "{notice}"')

    assert done.returncode == 0 and "begun" in done.stdout, done
    until(lambda: crowd.is_well() and task(group, key)["phase"] in ("done", "failed"), 2 * PATIENCE_S)
    ended = task(group, key)
    assert (ended["phase"], ended["detail"]) == ("done", "nobody was left; saved, then signal TERM"), ended
    until(lambda: crowd.all_in() and crowd.on("1.game2") == PLAYERS / 2, PATIENCE_S, "all are on game2")
    assert crowd.report()["moved"] - moved == before and crowd.heard(notice) > 0
    assert crowd.report()["dismissed"] == 0, "each left by himself"
    assert not group.pids(key) and group.record(key)["wanted"] == "down"
    assert files(group, "大区1.game1") == before
    assert "has left, 0 are still here" in group.log_of(key).read_text()


def test_a_game_is_saved_with_everybody_on_it_before_it_is_restarted(group: Group, crowd: Crowd) -> None:
    admin = group.admin(FIRST)
    verdicts = call(admin, "大区2:gameserver", "give", "p2", "gold", "5")
    ((key, (_, answer, _)),) = [each for each in verdicts.items() if each[1][0] == "answered"]
    assert answer == {"player": "p2", "item": "gold", "now": 5}
    region, rest = key.split(".", 1)
    machine, name = rest.rsplit(".", 1)
    before, there = int(group.record(key)["startcount"]), crowd.on(f"2.{name}")

    done = group.admin_command(FIRST, f"restart {region} {machine} {name}", more=["--yes"])

    assert done.returncode == 0, done
    assert int(group.record(key)["startcount"]) == before + 1
    assert files(group, f"{region}.{name}") >= there
    assert "item gold 5" in (group.folder / "example" / "data" / f"{region}.{name}.p2").read_text()
    until(lambda: crowd.all_in() and crowd.report()["dismissed"] == there, PATIENCE_S, "all have come back")


def test_a_daemon_killed_under_load_costs_no_player_his_connection(group: Group, crowd: Crowd) -> None:
    keys = [f"{region}.{SECOND}.{name}" for region, name in
            [("大区1", "game2"), ("大区1", "gate2"), ("大区2", "group1"), ("大区2", "chat1"), ("大区2", "game1"),
             ("大区2", "gate1")]]  # fmt: skip
    pids = {key: group.pids(key) for key in keys}
    report = crowd.report()

    group.daemon(SECOND).kill()
    until(
        lambda: crowd.is_well() and crowd.report()["lines"] > report["lines"] + 500, PATIENCE_S, "they play"
    )
    since = group.daemon(SECOND).said
    group.start_daemon(SECOND)

    assert "adopted 6 running processes" in group.daemon(SECOND).text()[since:]
    start(group)  # all of them have joined the new one
    broadcast(group, crowd, "we are back")
    assert {key: group.pids(key) for key in keys} == pids
    after = crowd.report()
    assert [after[name] for name in ("entered", "moved", "dismissed", "refused")] == [
        report[name] for name in ("entered", "moved", "dismissed", "refused")
    ]


def test_all_is_stopped_with_players_on_it_and_what_saves_has_saved(group: Group, crowd: Crowd) -> None:
    done = group.admin_command(FIRST, "stop * all", more=["--yes", "--json"])
    assert done.returncode == 0, done
    outcomes = {row["target"]: row for row in json.loads(done.stdout)["outcomes"]}
    assert len(outcomes) == 11
    for key, outcome in outcomes.items():
        saves = outcome["name"].startswith(("game", "group"))
        assert outcome["detail"].startswith("saved, then ") == saves, (key, outcome)
    assert not [key for key in outcomes if group.pids(key)]

    until(lambda: crowd.is_well() and crowd.on() == 0, PATIENCE_S, "everybody was told")
    crowd.child.terminate()
    assert crowd.child.wait(PATIENCE_S) == 0
    assert (crowd.report()["lost"], crowd.report()["errors"]) == (0, 0), crowd.errors.read_text()
