"""The roles of the demo as child processes: started like a user would, listened to through their logs."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent import frozen
from agent.address import Address
from agent.errors import AgentError
from roles.demo import ending, scene

SERVING_S = 30.0
LOOK_EVERY_S = 0.02
KEPT = ("AGENT_BINARY", "AGENT_CACHE", "AGENT_LOG_LEVEL", "AGENT_DEBUG")


def environment(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Without this user's own AGENT_… settings, which are about his real group."""
    env = {name: value for name, value in environ.items() if not name.startswith("AGENT_") or name in KEPT}
    env[ending.MARK] = str(folder)
    if not frozen.is_frozen():
        env["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(frozen.resource_path("")), env.get("PYTHONPATH")])
        )
    return env


class Role:
    """One role that serves, or tries to."""

    def __init__(self, name: str, words: Sequence[str], address: Address, log: Path) -> None:
        self.name = name
        self.words = words  # of its command line, but for --listen
        self.address = address
        self.log = log
        self.child: subprocess.Popen | None = None

    def wait_for(self, words: str) -> None:
        """Until its log has these words. Raises AgentError if it ends, or does not say them in time."""
        deadline = time.monotonic() + SERVING_S
        assert self.child is not None
        while True:
            ended = self.child.poll() is not None
            text = self.log.read_text(errors="replace")
            if words in text:
                return
            if ended:
                raise AgentError(f"demo: {self.name} ended at once:\n{text.strip() or '(it said nothing)'}")
            if time.monotonic() > deadline:
                raise AgentError(f"demo: {self.name} does not serve after {SERVING_S:.0f} s:\n{text.strip()}")
            time.sleep(LOOK_EVERY_S)


class Crew:
    def __init__(self, folder: Path, settings: Path) -> None:
        self._folder = folder
        self._settings = settings
        self._environ = environment(folder)

    def command(self, *words: str) -> list[str]:
        """The command line of a role that hears of no other settings than the demo's."""
        return [*frozen.own_command(), *words, "--config", str(self._settings)]

    def start(self, name: str, usual: Address, *words: str) -> Role:
        """At its usual address if that is free, else at any port of that host. Does not wait, see `serving`."""
        place = usual if scene.is_free(usual) else scene.free(usual.host)
        role = Role(name, words, place, self._folder / f"{name}.log")
        self._spawn(role)
        return role

    def serving(self, role: Role) -> Role:
        """Waits until it serves."""
        try:
            role.wait_for(" serving")
        except AgentError:
            if scene.is_free(role.address):
                raise
            role.address = scene.free(role.address.host)  # somebody else took the port since we looked
            self._spawn(role)
            role.wait_for(" serving")
        return role

    def _spawn(self, role: Role) -> None:
        with open(role.log, "wb") as file:
            role.child = subprocess.Popen(
                self.command(*role.words, "--listen", str(role.address)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self._environ,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C at the shell is not meant for it
            )

    def shell(self, *words: str) -> subprocess.Popen:
        """The admin, at our own terminal."""
        return subprocess.Popen(self.command("admin", *words), env=self._environ)
