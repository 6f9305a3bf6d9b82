"""What lies in examples/ is what users copy: it must be good."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent import settings
from agent.document import read_document
from agent.program import tier_of
from agent.selection import Selection
from agent.world import World
from roles.admin import grammar
from roles.admin import main as admin

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
WORLDS = sorted(EXAMPLES.glob("*.json"))
UNITS = sorted(EXAMPLES.glob("systemd/*.service"))
ROLE_USAGES = {
    role: (ROOT / "roles" / role / "main.py").read_text() for role in ("router", "daemon", "admin", "world")
}


def test_there_are_world_files_and_units() -> None:
    assert EXAMPLES / "small-group.json" in WORLDS
    assert len(UNITS) == 3


@pytest.mark.parametrize("path", WORLDS, ids=lambda path: path.name)
def test_a_world_file_is_good(path: Path) -> None:
    """As `agent world check` reads it."""
    world = World.from_document(read_document(path.read_bytes(), path.name), path.name)
    assert list(world.processes())


def test_the_small_group_shows_every_stage_of_a_start_and_says_how_each_process_is_up() -> None:
    document = json.loads((EXAMPLES / "small-group.json").read_text())
    programs = document["programs"]
    assert set(programs) == {"gateserver", "gameserver", "groupserver", "chatserver"}
    assert {program["tier"] for program in programs.values()} == {0, 1, 2}
    for program in programs.values():
        assert program["ready"] and program["stop_timeout_s"]


def test_the_settings_file_has_only_options_that_exist() -> None:
    document = tomllib.loads((EXAMPLES / "agent.toml").read_text())
    for role, options in document.items():
        usage = ROLE_USAGES.get(role) or (ROOT / "roles" / role / "main.py").read_text()
        for option in options:
            assert f"--{option.replace('_', '-')} " in usage, f"[{role}] {option}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    """The binary's path is replaced by one that is there."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/bin/agent", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"]},
    )
    said = [line for line in done.stderr.splitlines() if line.startswith(unit.name) or unit.name in line]
    assert (done.returncode, said) == (0, [])


def test_a_restart_of_the_daemon_does_not_touch_its_games() -> None:
    lines = (EXAMPLES / "systemd" / "agent-daemon.service").read_text().splitlines()
    assert "KillMode=process" in lines and "OOMPolicy=continue" in lines
    assert not [line for line in lines if re.match(r"(NoNewPrivileges|Private|Protect|Restrict)", line)]


def test_every_command_in_the_crontab_can_be_read() -> None:
    commands = re.findall(r'-c "([^"]+)"', (EXAMPLES / "crontab").read_text())
    assert len(commands) >= 4
    for command in commands:
        grammar.parse(command)


def test_a_person_is_asked_for_his_password_and_not_given_that_of_a_script() -> None:
    """With the example's settings file: neither name nor password file, which would be one user's for everybody."""
    words = ["--user", "ada", "--config", str(EXAMPLES / "agent.toml")]
    options = settings.load(admin.__doc__ or "", words, "admin", environ={})
    assert (options["--user"], options["--password-file"]) == ("ada", None)


class StartAll:
    """examples/start-all.sh with an `agent` that notes its commands; `codes`: how one with this word ends."""

    PROCESSES = (
        "NAME   VERDICT  WANTED\ngate1  STOPPED  down\ngame1  RUNNING  up\n2 processes: 1 RUNNING, 1 STOPPED"
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[str] = []

    def run(self, *words: str, **codes: int) -> subprocess.CompletedProcess:
        cases = "".join(f"*{word}*) exit {code} ;;\n" for word, code in codes.items())
        agent = self.folder / "agent"
        agent.write_text(
            f"""#!/bin/sh
for command; do :; done
echo "$command" >> {self.folder}/commands
case $command in
{cases}esac
case $command in list*) echo '{self.PROCESSES}' ;; esac
"""
        )
        agent.chmod(0o700)
        (self.folder / "commands").write_text("")
        (self.folder / "game-not-to-be-globbed").touch()
        done = subprocess.run(
            ["/bin/sh", EXAMPLES / "start-all.sh", *words],
            capture_output=True,
            text=True,
            timeout=20,
            cwd=self.folder,
            env={"PATH": f"{self.folder}:{os.environ['PATH']}"},
        )
        self.commands = (self.folder / "commands").read_text().splitlines()
        return done


@pytest.fixture
def start_all(tmp_path: Path) -> StartAll:
    return StartAll(tmp_path)


def test_the_start_script_goes_in_the_order_of_the_tiers(start_all: StartAll) -> None:
    done = start_all.run("大区1", "192.168.1.10")
    assert (done.returncode, done.stderr) == (0, "")
    for command in start_all.commands:
        grammar.parse(command)
    world = World.from_document(
        read_document((EXAMPLES / "small-group.json").read_bytes(), "small-group.json")
    )
    *steps, rest, shown = start_all.commands
    assert (rest, shown) == ("start 大区1 all all", "list 大区1")
    tiers = [
        {tier_of(process, world.programs) for process in world.select(Selection(name=step.split()[-1]))}
        for step in steps
    ]
    assert tiers == [{0}, {1}, {2}]


def test_the_start_script_says_in_the_end_what_is_not_up_also_after_a_failure(start_all: StartAll) -> None:
    done = start_all.run("大区1", game=1)
    assert start_all.commands[-2:] == ["start 大区1 all game*", "list 大区1"], "gates stay shut"
    assert done.returncode == 1
    assert "not all of game* came up" in done.stderr
    assert "gate1  STOPPED" in done.stdout and "game1" not in done.stdout


@pytest.mark.parametrize(
    ("codes", "expected"),
    [({"group": 3}, 3), ({"list": 5}, 5), ({"group": 1, "list": 3}, 3), ({"group": 5, "list": 3}, 5)],
)
def test_the_start_script_ends_with_the_worst_exit_code(
    start_all: StartAll, codes: dict[str, int], expected: int
) -> None:
    assert start_all.run("大区1", **codes).returncode == expected


@pytest.mark.parametrize("words", [(), ("大区1", "192.168.1.10", "more")])
def test_the_start_script_says_how_it_is_used(start_all: StartAll, words: tuple[str, ...]) -> None:
    done = start_all.run(*words)
    assert (done.returncode, done.stderr) == (2, "usage: start-all.sh REGION [DAEMON]\n")
    assert start_all.commands == []
