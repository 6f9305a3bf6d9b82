"""The example server in every implementation: how each is built, and one that runs.

A toolchain that is missing fails the test and names its Debian package: nothing is skipped in silence.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.waiting import until

SDK = Path(__file__).resolve().parents[2] / "sdk"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-O2", "-g"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


class Implementation(NamedTuple):
    """`build` makes what is to be run in a folder of its own, once per session, and returns its command."""

    name: str
    build: Callable[[Path], list[str]]


def python(host: str) -> Implementation:
    return Implementation(
        f"python-{host}", lambda _folder: [sys.executable, str(SDK / "python/example.py"), host]
    )


def lua(interpreter: str) -> Implementation:
    def build(_folder: Path) -> list[str]:
        path = tool(interpreter, interpreter)
        found = subprocess.run([path, "-e", 'require "socket"'], capture_output=True, text=True)
        if found.returncode:
            pytest.fail(f"{interpreter} has no LuaSocket (apt-get install lua-socket): {found.stderr}")
        return [path, str(SDK / "lua/example.lua")]

    return Implementation(interpreter, build)


def c(name: str, *flags: str) -> Implementation:
    def build(folder: Path) -> list[str]:
        sources = [str(SDK / "c" / source) for source in ("example.c", "agent.c")]
        target = folder / "example"
        compile(tool("gcc", "gcc"), "-std=c99", *WARNINGS, *flags, *sources, "-o", str(target))
        return [str(target)]

    return Implementation(name, build)


def cpp(folder: Path) -> list[str]:
    """The game in C++, the SDK in C, as a C++ game server would have it."""
    library, target = folder / "agent.o", folder / "example"
    compile(tool("gcc", "gcc"), "-std=c99", *WARNINGS, "-c", str(SDK / "c/agent.c"), "-o", str(library))
    source = ["-x", "c++", str(SDK / "c/example.c"), "-x", "none"]
    compile(tool("g++", "g++"), "-std=c++11", *WARNINGS, *source, str(library), "-o", str(target))
    return [str(target)]


def tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.fail(f"{name} is not installed (apt-get install {package})")
    return path


def compile(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(words)}\n{done.stderr}")


IMPLEMENTATIONS = [
    *(python(host) for host in ("thread", "poll", "asyncio", "gevent")),
    c("c"),
    c("c-asan", *SANITIZE),
    Implementation("c++", cpp),
    lua("lua5.4"),
    lua("luajit"),
    lua("lua5.1"),
    lua("lua5.2"),
    lua("lua5.3"),
]
# Some 20 s each. The others differ little from one that is here, and are tested under a real daemon and by test_lua.py.
CONFORMING = [each for each in IMPLEMENTATIONS if each.name not in ("c", "lua5.1", "lua5.2", "lua5.3")]


class Game:
    """One running example server, which ends with the `with`. `environment` is added to one that knows no agent."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        self._log = folder / f"game{len(list(folder.glob('game*')))}.log"
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "GAME_"))
        }
        with open(self._log, "wb") as log:
            self._child = subprocess.Popen(command, env={**clean, **environment}, stdout=log, stderr=log)
        self.pid = self._child.pid
        self._ends_by_signal = command[-1].endswith(".lua")  # plain Lua cannot catch one

    def __enter__(self) -> "Game":
        return self

    def __exit__(self, *_why: object) -> None:
        self._child.kill()
        self._child.wait()
        if _why[0]:
            print(self.output())

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def runs(self) -> bool:
        return self._child.poll() is None

    def terminate(self) -> None:
        self._child.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        until(lambda: not self.runs(), what=f"the end of pid {self.pid}")
        return self._child.returncode

    def said_bye(self) -> bool:
        """Waits for its end: whether that is the one that SIGTERM should make."""
        if self._ends_by_signal:
            return self.exit_code() == -signal.SIGTERM
        return self.exit_code() == 0 and "bye" in self.output()
