"""The demo as a user meets it: a real run of it, and nothing left afterwards, however it ends."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.address import Address
from roles.demo import ending, folder
from roles.demo.main import banner
from tests.scenarios.group import alive
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DEMO = [sys.executable, "-m", "agent", "demo"]
BEGINS_S = 40.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the demos of a test make their folders; what they leave is ended."""
    yield tmp_path
    for left in tmp_path.glob(f"{folder.PREFIX}*"):
        ending.end(left)


def environ(place: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(place)}


def run(place: Path, *words: str, **more: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*DEMO, *words],
        env=environ(place),
        capture_output=True,
        text=True,
        timeout=55,
        **{"stdin": subprocess.DEVNULL, **more},  # type: ignore[call-overload]
    )


def begin(place: Path, *words: str, **more: object) -> subprocess.Popen:
    return subprocess.Popen([*DEMO, *words], env=environ(place), **more)  # type: ignore[call-overload]


def folder_of(place: Path) -> Path | None:
    return next(iter(place.glob(f"{folder.PREFIX}*")), None)


def everything_left(place: Path) -> list[int]:
    """Pids of any process that was started from below `place`."""
    mark = f"{place}/{folder.PREFIX}".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark in words and int(pid) != os.getpid():
            found.append(int(pid))
    return found


def games(place: Path) -> list[int]:
    found = folder_of(place)
    return (
        [pid for pid in ending.members(found) if ending.kind_of(pid, found) == ending.GAME] if found else []
    )


def test_commands_run_on_a_whole_group_and_nothing_of_it_is_left(place: Path) -> None:
    done = run(place, "--json", "-c", "list world", "-c", "start all", "-c", "list machine")
    assert done.returncode == 0, done.stderr
    world, started, machines = map(json.loads, done.stdout.splitlines())
    assert {region["region"] for region in world["regions"]} == {"华东一区", "华北二区"}
    assert world["total"]["machines"] == 3
    assert {outcome["result"] for outcome in started["outcomes"]} == {"ok"}
    assert len(started["outcomes"]) == world["total"]["processes"]
    assert all(machine["online"] for machine in machines["machines"])
    assert folder_of(place) is None
    assert everything_left(place) == []


def test_the_exit_code_is_that_of_the_commands_and_piped_lines_are_commands(place: Path) -> None:
    done = run(place, "--machines", "1", stdin=None, input="list machine\nlist 10.9.9.9\nlist world\n")
    assert done.returncode == 2
    assert "127.0.0.2" in done.stdout and 'no machine "10.9.9.9"' in done.stderr
    assert folder_of(place) is None and everything_left(place) == []


def test_what_is_kept_goes_on_until_it_is_stopped(place: Path) -> None:
    done = run(place, "--machines", "1", "--keep", "-c", "start all")
    assert done.returncode == 0, done.stderr
    kept = folder_of(place)
    assert kept is not None and kept.stat().st_mode & 0o777 == 0o700
    assert f"demo --stop {kept}" in done.stderr and "admin" in done.stderr
    players = games(place)
    assert len(players) == 5
    listed = subprocess.run(
        [sys.executable, "-m", "agent", "world", "export", "--config", str(kept / "agent.toml")],
        env=environ(place), capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert "华东一区" in json.loads(listed.stdout)["world"]
    assert run(place, "--machines", "1", "-c", "help").stderr.count(str(kept)) == 0, "kept is not abandoned"

    assert run(place, "--stop", str(kept)).returncode == 0
    assert folder_of(place) is None and everything_left(place) == []
    assert not any(map(alive, players))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_games_too(place: Path, number: int) -> None:
    demo = begin(place, "--machines", "1", "-c", "start all", "-c", "watch",
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
    until(lambda: len(games(place)) == 5, BEGINS_S, "five games")
    demo.send_signal(number)
    assert demo.wait(timeout=30) == 128 + number
    assert folder_of(place) is None and everything_left(place) == []


class Terminal:
    """The demo in a tmux window."""

    def __init__(self, place: Path) -> None:
        self._socket = str(place / "tmux")
        settings = [f"{name}={value}" for name, value in environ(place).items()]
        command = shlex.join(["env", "LANG=C.UTF-8", *settings, *DEMO, "--machines", "1"])
        words = (
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "40",
            f"{command}; echo left with $?; cat",
        )
        self._tmux(*words)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], check=True, capture_output=True, text=True
        )
        return done.stdout

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def ctrl_c(self) -> None:
        self._tmux("send-keys", "C-c")

    def shows(self, text: str, timeout: float = 20.0) -> None:
        until(lambda: text in self._tmux("capture-pane", "-p"), timeout, text)

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(place: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    terminal = Terminal(place)
    yield terminal
    terminal.close()


def test_in_a_terminal_one_is_logged_in_and_ctrl_c_ends_a_command_only(
    place: Path, terminal: Terminal
) -> None:
    terminal.shows("5 STOPPED · picture", BEGINS_S)
    terminal.type("watch")
    terminal.shows("Ctrl-C ends it")
    terminal.ctrl_c()
    terminal.type("list world")
    terminal.shows("华东一区         1          5        5")
    terminal.type("exit")
    terminal.shows("left with 0")
    assert folder_of(place) is None and everything_left(place) == []


def test_a_closed_terminal_ends_everything(place: Path, terminal: Terminal) -> None:
    terminal.shows("5 STOPPED · picture", BEGINS_S)
    terminal.type("start 127.0.0.2 all")
    terminal.shows("5 ok")
    assert len(games(place)) == 5
    terminal.close()
    until(lambda: folder_of(place) is None and everything_left(place) == [], 30, "the end of everything")


def test_after_sigkill_the_next_demo_says_how_to_get_rid_of_what_is_left(place: Path) -> None:
    demo = begin(place, "--machines", "1", "-c", "start all", "-c", "watch",
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
    until(lambda: len(games(place)) == 5, BEGINS_S, "five games")
    left = folder_of(place)
    assert left is not None
    demo.kill()
    demo.wait()
    told = run(place, "--machines", "1", "-c", "help", "-c", "list world")
    assert f"demo --stop {left}" in told.stderr
    assert len(games(place)) == 5, "it is left alone until somebody says so"

    assert run(place, "--stop", str(left)).returncode == 0
    assert folder_of(place) is None
    until(lambda: everything_left(place) == [], 5)


def test_only_a_demos_folder_can_be_stopped(place: Path) -> None:
    other = place / "precious"
    other.mkdir()
    (other / "file").write_text("data")
    for path in (other, place / "missing", Path("/")):
        done = run(place, "--stop", str(path))
        assert done.returncode == 2 and str(path) in done.stderr
    assert (other / "file").exists()


def test_settings_for_the_real_group_are_not_heard(place: Path) -> None:
    config = place / "real.toml"
    config.write_text('globaldb = "redis://127.0.0.1:1"\n[admin]\nuser = "root"\n')
    env = {**environ(place), "AGENT_CONFIG": str(config), "AGENT_GLOBALDB": "redis://127.0.0.1:1",
           "AGENT_USER": "ada", "AGENT_PASSWORD": "not the demo's", "AGENT_ROUTER": "127.0.0.1:1"}  # fmt: skip
    done = subprocess.run([*DEMO, "--machines", "1", "-c", "list world"], env=env, capture_output=True, text=True,
                          timeout=55, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "华东一区" in done.stdout


def test_a_role_that_cannot_start_is_quoted_and_nothing_is_left(place: Path) -> None:
    done = subprocess.run([*DEMO, "-c", "list world"], env={**environ(place), "PATH": "/nonexistent"},
                          capture_output=True, text=True, timeout=55, stdin=subprocess.DEVNULL,
                          preexec_fn=_small_files)  # fmt: skip
    assert done.returncode == 1
    assert "globaldb" in done.stderr
    assert folder_of(place) is None and everything_left(place) == []


def _small_files() -> None:
    """The server does not fit onto such a disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_hint_how_to_crash_a_game_works_as_it_is_printed_in_any_shell_and_needs_no_other_tool() -> None:
    with socket.create_server(("127.0.0.1", 0)) as game:
        game.settimeout(10)
        place = Address(*game.getsockname())
        group = SimpleNamespace(ips=["127.0.0.2"], place_of=lambda _name: place)
        [hint] = [line for line in banner(group, keep=False).splitlines() if "echo crash" in line]  # type: ignore[arg-type]
        subprocess.run(["/bin/sh", "-c", hint], check=True, timeout=10, env={"PATH": os.environ["PATH"]})
        link, _ = game.accept()
        with link:
            assert link.recv(100) == b"crash\n"
