"""A whole group of real processes: globaldb, router, daemons on 127.0.0.2, .3, …, and admins that log in to them.

Every role is started as a user would start it; `command` is `python -m agent`, or the frozen binary. Only processes
started here (and game processes that their daemons started) are ever signalled, by pid.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent

from agent import address, dialer, messages
from agent.dispatch import SHARED, Table
from agent.handshake import Identity
from agent.link import Link
from agent.outcome import Outcome
from tests.globaldb_servers import Server, free_port, valkey_binary
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ROOT / "tests" / "programs"
SOURCE_COMMAND = (sys.executable, "-m", "agent")
USER, PASSWORD = "ada", "correct horse battery"
SERVING_S = 20.0


def program(name: str, *words: str, **launch: Any) -> dict[str, Any]:
    """A launch specification that runs tests/programs/<name>.py."""
    return {
        "command": [sys.executable, str(PROGRAMS / f"{name}.py"), *words],
        "ready": {"spawn": 0},
        **launch,
    }


class Role:
    """One running role: its process and what it has logged."""

    def __init__(self, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.log = log
        with open(log, "ab") as file:
            self.child = subprocess.Popen(
                command, stderr=file, stdout=file, stdin=subprocess.DEVNULL, env=dict(environ)
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, since: int = 0, timeout: float = SERVING_S) -> None:
        def said() -> bool:
            assert self.child.poll() is None or words in self.text()[since:], (
                f"{self.log.name} ended:\n{self.text()}"
            )
            return words in self.text()[since:]

        until(said, timeout, f"{words!r} in {self.log.name}")

    def kill(self) -> None:
        """kill -9."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.child.terminate()
        return self.child.wait(timeout=15)

    def freeze(self) -> None:
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    @property
    def said(self) -> int:
        """How much it has logged: `wait_for(words, since)` takes it."""
        return len(self.text())


class Admin:
    """A logged-in admin: `call` any message, or `operate` processes."""

    def __init__(self, where: address.Address, user: str = USER, password: str = PASSWORD) -> None:
        self.notices: list[Any] = []
        self.answers: list[list[Any]] = []  # verdicts of GM commands that came before the reply
        self.events: list[list[Any]] = []
        table = Table(SHARED)
        for kind in (messages.PictureChanged, messages.TargetFinished, messages.TargetProgressed):
            table.on(kind, ask=("daemon",))(lambda _state, _peer, message: self.notices.append(message))
        table.on(messages.GmAnswered, ask=("daemon",))(
            lambda _state, _peer, message: self.answers.extend(message.verdicts)
        )
        table.on(messages.EventsHappened, ask=("daemon",))(
            lambda _state, _peer, message: self.events.extend(message.events)
        )
        sock, server = dialer.connect(where, Identity("admin", user, "test", 0), password)
        self.link = Link(
            sock, local=b"", role="daemon", name=server.name, address=str(where), table=table, state=None
        )
        self._run = gevent.spawn(self.link.run)

    def call(self, message: Any, timeout: float = 20.0) -> Any:
        return self.link.call(message, timeout)

    def operate(
        self, verb: str, machine: str, name: str = "*", region: str = "*", timeout: float = 20.0, **more: Any
    ) -> dict[str, Outcome]:
        asked = messages.OperateGroup(verb, region, machine, name, wide=True, **more)
        return {row[0]: Outcome(*row) for row in self.call(asked, timeout).outcomes}

    def picture(self, **wanted: Any) -> dict[str, dict[str, Any]]:
        """key -> the columns of its row."""
        self.notices.clear()
        self.call(messages.WatchPicture(**wanted))
        changes = [notice for notice in self.notices if isinstance(notice, messages.PictureChanged)]
        rows = [row for change in changes for row in change.processes]
        return {row[0]: dict(zip(messages.PROCESS_COLUMNS, row, strict=True)) for row in rows}

    def sees_online(self, ips: Sequence[str]) -> bool:
        """Whether the daemon has heard from the router that these are there."""
        self.notices.clear()
        self.call(messages.WatchPicture(parts=["machines"]))
        return set(ips) <= {row[0] for notice in self.notices for row in notice.machines if row[1]}

    def verdicts(self) -> dict[str, str]:
        return {key: row["verdict"] for key, row in self.picture().items()}

    def close(self) -> None:
        self.link.close("test over")
        self._run.join(5)


class Group:
    def __init__(
        self,
        folder: Path,
        ips: Sequence[str],
        command: Sequence[str] = SOURCE_COMMAND,
        globaldb_binary: str = "",
    ) -> None:
        self.folder = folder
        self.ips = list(ips)
        self.command = list(command)
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self.globaldb = Server(
            globaldb_binary or valkey_binary(), folder / "globaldb", "appendonly yes", "appendfsync everysec"
        )
        self.router_address = address.Address("127.0.0.1", free_port())
        self.daemon_address = {ip: address.Address(ip, free_port()) for ip in ips}
        self.roles: dict[str, Role] = {}
        self._started: list[Role] = []
        self._admins: list[Admin] = []
        self._group_key = folder / "group.key"
        self._write_secret(self._group_key, self.run("key", "group").stdout)
        for ip in ips:
            self.make_machine_key(ip)
        self.add_user(USER, "* on *")

    # ---- the command line

    def run(
        self, *words: str, stdin: str | None = None, timeout: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess:
        environ = {**self.environ, "AGENT_GLOBALDB": self.globaldb.url if hasattr(self, "globaldb") else ""}
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=timeout, env=environ, input=stdin
        )
        assert not check or done.returncode == 0, (
            f"{words}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def add_user(self, name: str, *grants: str, password: str = PASSWORD) -> None:
        words = [word for grant in grants for word in ("--grant", grant)]
        self.run("user", "add", name, *words, "--password-file", str(self.password_file(password)))

    def password_file(self, password: str = PASSWORD) -> Path:
        path = self.folder / f"password-{abs(hash(password))}"
        if not path.exists():
            self._write_secret(path, password + "\n")
        return path

    def make_machine_key(self, ip: str) -> Path:
        path = self.folder / f"machine-{ip}.key"
        self._write_secret(path, self.run("key", "machine", ip, "--key", str(self._group_key)).stdout)
        return path

    def configure(self, document: Mapping[str, Any], *words: str) -> None:
        path = self.folder / "world.json"
        path.write_text(json.dumps(document, ensure_ascii=False))
        self.run("world", "import", str(path), *words)

    def admin_command(self, ip: str, *commands: str, user: str = USER, more: Sequence[str] = (), check: bool = False,
                      password: str = PASSWORD, timeout: float = 60) -> subprocess.CompletedProcess:  # fmt: skip
        words = [word for command in commands for word in ("-c", command)]
        return self.run("admin", str(self.daemon_address[ip]), "--user", user, "--password-file",
                        str(self.password_file(password)), *words, *more, check=check, timeout=timeout)  # fmt: skip

    # ---- roles

    def start_router(self, wait: bool = True) -> Role:
        return self._start(
            "router", wait, "--listen", str(self.router_address), "--key", str(self._group_key)
        )

    def start_daemon(
        self,
        ip: str,
        wait: bool = True,
        name: str = "",
        key: Path | None = None,
        listen: str = "",
        router: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Role:
        name = name or f"daemon-{ip}"
        key = key or self.folder / f"machine-{ip}.key"
        words = ("--ip", ip, "--listen", listen or str(self.daemon_address[ip]),
                 "--router", router or str(self.router_address), "--key", str(key))  # fmt: skip
        return self._start(name, wait, *words, role="daemon", environ=environ)

    def _start(
        self, name: str, wait: bool, *words: str, role: str = "", environ: Mapping[str, str] | None = None
    ) -> Role:
        log = self.folder / f"{name}.log"
        since = len(log.read_text(errors="replace")) if log.exists() else 0
        command = [
            *self.command,
            role or name,
            *words,
            "--globaldb",
            self.globaldb.url,
            "--state",
            str(self.folder / name),
        ]
        started = self.roles[name] = Role(command, log, {**self.environ, **(environ or {})})
        self._started.append(started)
        if wait:
            started.wait_for(" serving ", since)
        return started

    def start(self) -> None:
        """Router and all daemons, and wait until they are together."""
        self.start_router()
        for ip in self.ips:
            self.start_daemon(ip, wait=False)
        for ip in self.ips:
            self.roles[f"daemon-{ip}"].wait_for(" serving ")
            self.roles["router"].wait_for(f"machine {ip}: online")
        for ip in self.ips:
            admin = Admin(self.daemon_address[ip])
            until(
                lambda admin=admin: admin.sees_online(self.ips), what=f"all machines online, seen from {ip}"
            )
            admin.close()

    def admin(self, ip: str, user: str = USER, password: str = PASSWORD) -> Admin:
        made = Admin(self.daemon_address[ip], user, password)
        self._admins.append(made)
        return made

    # ---- what can be seen from outside

    def record(self, key: str) -> dict[str, str]:
        with self.globaldb.client() as client:
            return client.hgetall(f"process:{key}")

    def daemon(self, ip: str) -> Role:
        return self.roles[f"daemon-{ip}"]

    def audit(self) -> list[dict[str, Any]]:
        with self.globaldb.client() as client:
            return [json.loads(line) for line in client.lrange("audit", 0, -1)]

    def log_of(self, key: str) -> Path:
        """Where the daemon of its machine lets a process write."""
        return self.folder / f"daemon-{key.partition('.')[2].rpartition('.')[0]}" / "log" / f"{key}.log"

    def pids(self, key: str) -> list[int]:
        """Every living session leader that says it is this process of this group."""
        return [pid for pid in _all_pids() if self._is(pid, key)]

    def mine(self) -> set[int]:
        """Everything alive that a role of this group has started, whatever became of the role."""
        return {pid for pid in _all_pids() if alive(pid) and self._started_here(pid)}

    def _started_here(self, pid: int) -> bool:
        try:
            return self._mine(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
        except OSError:
            return False

    def _is(self, pid: int, key: str) -> bool:
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            return (
                f"AGENT_PROCESS={key}".encode() in environ and self._mine(environ) and os.getsid(pid) == pid
            )
        except OSError:
            return False

    def _mine(self, environ: list[bytes]) -> bool:
        return any(word.startswith(b"AGENT_OWNER=" + str(self.folder).encode()) for word in environ)

    def close(self) -> None:
        for admin in self._admins:
            admin.close()
        for role in self._started:  # one whose place another one took may live still
            if role.child.poll() is None:
                role.kill()
        for pid in self.mine():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.globaldb.stop()

    @staticmethod
    def _write_secret(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)


@contextmanager
def running(folder: Path, ips: Sequence[str], document: Mapping[str, Any], **more: Any) -> Iterator[Group]:
    """A configured group, all roles up; gone at the end."""
    group = Group(folder, ips, **more)
    try:
        group.configure(document)
        group.start()
        yield group
    finally:
        group.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
