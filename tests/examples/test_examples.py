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

from agent.document import read_document
from agent.world import World
from roles.admin import grammar

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


def test_every_command_in_the_crontab_and_the_start_script_can_be_read() -> None:
    commands = re.findall(r'-c "([^"]+)"', (EXAMPLES / "crontab").read_text())
    commands += re.findall(
        r'-c "([^"]+)"', (EXAMPLES / "start-all.sh").read_text().replace("$region", "大区1")
    )
    assert len(commands) >= 5
    for command in commands:
        grammar.parse(command)
