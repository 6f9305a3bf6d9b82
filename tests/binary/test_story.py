"""The whole story on the frozen binary alone: an empty folder, an empty environment, no Python, no checkout."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.globaldb_servers import free_port
from tests.scenarios.group import alive
from tests.waiting import until

MACHINES = ("127.0.0.2", "127.0.0.3")
PASSWORD = "correct horse battery"


class Place:
    """An empty folder with the binary in it, and what was started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen] = []
        self.globaldb = f"redis://127.0.0.1:{free_port()}"
        self.router = f"127.0.0.1:{free_port()}"
        self.daemons = {ip: f"{ip}:{free_port()}" for ip in MACHINES}

    def run(self, *words: str, check: int | None = 0) -> str:
        done = subprocess.run(
            ["./agent", *words],
            cwd=self.folder,
            env={},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert check is None or done.returncode == check, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def start(self, name: str, *words: str) -> subprocess.Popen:
        log = self.folder / f"{name}.log"
        since = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as file:
            child = subprocess.Popen(
                ["./agent", *words],
                cwd=self.folder,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.running.append(child)
        until(lambda: " serving" in log.read_text()[since:] or child.poll() is not None, 20)
        assert child.poll() is None, log.read_text()
        return child

    def start_daemon(self, ip: str) -> subprocess.Popen:
        return self.start(
            f"daemon-{ip}", "daemon", "--ip", ip, "--listen", self.daemons[ip], "--router", self.router,
            "--globaldb", self.globaldb, "--key", f"{ip}.key", "--state", f"state-{ip}",
        )  # fmt: skip

    def admin(self, ip: str, *commands: str, check: int | None = 0) -> str:
        words = [word for command in commands for word in ("-c", command)]
        return self.run(
            "admin", self.daemons[ip], "--user", "ada", "--password-file", "password", *words, "--json", "--yes",
            check=check,
        )  # fmt: skip

    def write_secret(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o600)

    def pid_of(self, key: str) -> int:
        """From its record, read as any program would."""
        state = json.loads(self.admin(MACHINES[1], f"list {key.split('.', 1)[1].rsplit('.', 1)[0]}"))
        return next(row["pid"] for row in state["processes"] if row["name"] == key.rsplit(".", 1)[1])


@pytest.fixture
def place(built, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "agent").symlink_to(built)
    place = Place(folder)
    yield place
    for ip in MACHINES:
        place.admin(MACHINES[1], f"stop {ip} all", check=None)
    for child in reversed(place.running):
        if child.poll() is None:
            child.kill()
        child.wait()


@pytest.mark.timeout(180)
def test_a_group_runs_from_one_file_and_its_games_survive_the_daemon(place):
    place.start("globaldb", "globaldb", "--dir", "data", "--listen", place.globaldb.removeprefix("redis://"))
    place.write_secret("group.key", place.run("key", "group"))
    place.write_secret("password", PASSWORD)
    for ip in MACHINES:
        place.write_secret(f"{ip}.key", place.run("key", "machine", ip, "--key", "group.key"))
    world = {
        "programs": {"game": {"command": ["/bin/sleep", "1000"], "ready": {"spawn": 0}}},
        "world": {"大区1": {ip: [{"type": "game", "name": f"game{i}"}] for i, ip in enumerate(MACHINES, 1)}},
    }
    (place.folder / "world.json").write_text(json.dumps(world))
    place.run("world", "import", "world.json", "--globaldb", place.globaldb)
    place.run(
        "user", "add", "ada", "--grant", "* on *", "--password-file", "password", "--globaldb", place.globaldb
    )
    place.start("router", "router", "--listen", place.router, "--globaldb", place.globaldb, "--key", "group.key",
                "--state", "state-router")  # fmt: skip
    daemons = {ip: place.start_daemon(ip) for ip in MACHINES}
    until(lambda: (place.folder / "router.log").read_text().count(": online") == 2, 20)

    place.admin(MACHINES[1], "start 大区1 all")
    first, second = place.pid_of("大区1.127.0.0.2.game1"), place.pid_of("大区1.127.0.0.3.game2")
    assert alive(first) and alive(second)
    environ = Path(f"/proc/{first}/environ").read_bytes().split(b"\0")
    assert not [
        word for word in environ if word.startswith((b"LD_LIBRARY_PATH", b"_PYI_", b"_MEI", b"AGENT_BINARY"))
    ]

    daemons["127.0.0.2"].kill()
    daemons["127.0.0.2"].wait()
    assert alive(first)
    place.start_daemon("127.0.0.2")
    until(lambda: (place.folder / "router.log").read_text().count("127.0.0.2: online") == 2, 20)
    assert place.pid_of("大区1.127.0.0.2.game1") == first

    place.admin(MACHINES[1], f"kill 127.0.0.2 {first}")
    assert not alive(first) and alive(second)
    place.admin(MACHINES[0], "stop 127.0.0.3 all")
    assert not alive(second)


@pytest.mark.timeout(120)
def test_roles_end_in_order_on_sigterm_and_leave_nothing_on_sigkill(place):
    place.write_secret("group.key", place.run("key", "group"))
    place.write_secret("password", PASSWORD)
    globaldb = place.start(
        "globaldb", "globaldb", "--dir", "data", "--listen", place.globaldb.removeprefix("redis://")
    )
    router = place.start("router", "router", "--listen", place.router, "--globaldb", place.globaldb, "--key",
                         "group.key", "--state", "state-router")  # fmt: skip
    assert children(router.pid) == []
    router.send_signal(signal.SIGTERM)
    assert router.wait(timeout=15) == 0
    assert children(globaldb.pid) == []
    globaldb.kill()
    assert globaldb.wait(timeout=15) == -signal.SIGKILL
    assert sorted(entry for entry in os.listdir(place.folder) if entry.startswith((".agent", "_MEI"))) == []


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
