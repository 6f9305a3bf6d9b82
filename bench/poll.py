"""What an SDK costs in the loop of a game that has nothing to tell and is asked nothing: CPU time per turn.

The hosts are C, Lua and Python programs of a few lines (host.*), each joined to a real daemon and a real globaldb with
the token of a `sleep`. They measure themselves; an order is a line on their stdin.
"""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import process
from bench.figure import Figure, alternately, side_by_side
from bench.group import TYPED_ON, WORKS, keys, of_sleeps, pids
from tests.scenarios.group import Group
from tests.scenarios.puppet import surroundings
from tests.waiting import until

SDK = process.ROOT / "sdk"
SOURCES = process.ROOT / "bench"
INFO = ("host", "bench")  # in the records of all of them: what shows that the SDK has reached globaldb
PAUSE_MS = 1
SLEPT_TURNS = 50
SLEPT_PAIRS = 20  # with and without in turn, so that what else the machine does meets both alike
WARM_TURNS = 20  # what has come meanwhile is read, the heartbeat sent
FLOOR = "poll(2) on its two sockets, in C"


class Make(NamedTuple):
    """How to run a host, and how many turns of a busy loop are long enough to be measured."""

    command: Sequence[str]
    busy_turns: int
    environ: Mapping[str, str] = {}


class Host:
    """A running one, joined."""

    def __init__(self, child: subprocess.Popen, log: Path, busy_turns: int) -> None:
        self.child = child
        self.log = log
        self.busy_turns = busy_turns
        self._line()

    def busy_us(self, turn: str) -> float:
        self._measure("sdk", PAUSE_MS, WARM_TURNS)
        return self._measure(turn, 0, self.busy_turns)

    def slept_us(self, turn: str, pairs: int) -> float:
        """Beyond the same loop that only sleeps."""
        self._measure("sdk", PAUSE_MS, WARM_TURNS)
        found = alternately(
            pairs, *(lambda it=it: self._measure(it, PAUSE_MS, SLEPT_TURNS) for it in (turn, "nothing"))
        )
        return statistics.median(with_ - without for with_, without in zip(*found, strict=True))

    def _measure(self, turn: str, pause_ms: int, turns: int) -> float:
        self.child.stdin.write(f"{turn} {pause_ms} {turns}\n".encode())  # type: ignore[union-attr]
        self.child.stdin.flush()  # type: ignore[union-attr]
        return float(self._line())

    def _line(self) -> str:
        line: bytes = self.child.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise RuntimeError(f"the host broke off:\n{self.log.read_text()}")
        return line.decode()


def polled(folder: Path, quick: bool) -> list[Figure]:
    runs, pairs = (1, 2) if quick else (9, SLEPT_PAIRS)
    folder.mkdir(exist_ok=True)
    made = makes(folder)
    with of_sleeps(folder, len(made)) as group, ExitStack() as stack:
        admin = group.admin(TYPED_ON)
        admin.operate("start", WORKS)
        pids(admin, len(made))
        hosts = {
            name: stack.enter_context(hosting(folder, group, key, name, make))
            for (name, make), key in zip(made.items(), keys(len(made)), strict=True)
        }
        busy = [lambda host=host: host.busy_us("sdk") for host in hosts.values()]
        slept = [lambda host=host: host.slept_us("sdk", pairs) for host in hosts.values()]
        if "C" in hosts:
            busy.append(lambda: hosts["C"].busy_us("poll"))
            slept.append(lambda: hosts["C"].slept_us("poll", pairs))
        loops = {
            "busy loop": alternately(runs, *busy),
            f"loop that sleeps {PAUSE_MS} ms": alternately(runs, *slept),
        }
    return [
        side_by_side(f"one poll with nothing to do, {name}, {loop}", "µs", mine, FLOOR,
                     found[-1] if "C" in hosts else [])
        for loop, found in loops.items()
        for name, mine in zip(hosts, found, strict=False)
    ]  # fmt: skip


def makes(folder: Path) -> dict[str, Make]:
    """Those that this machine has the compiler or interpreter for."""
    found = {}
    if gcc := there("gcc"):
        target = str(folder / "host")
        sources = [str(SOURCES / "host.c"), str(SDK / "c" / "agent.c")]
        subprocess.run([gcc, "-std=c99", "-O2", f"-I{SDK}/c", *sources, "-lm", "-o", target], check=True)
        found["C"] = Make([target], 200_000)
    for name in ("lua5.4", "luajit"):
        if lua := there(name):
            found[name] = Make([lua, str(SOURCES / "host.lua"), str(SDK / "lua")], 50_000)
    path = {"PYTHONPATH": f"{process.ROOT}:{SDK}/python"}
    found["Python"] = Make([sys.executable, "-m", "bench.host"], 20_000, path)
    return found


def there(program: str) -> str | None:
    path = shutil.which(program)
    if not path:
        print(f"bench: {program} is missing, its figures are not measured", file=sys.stderr)
    return path


@contextmanager
def hosting(folder: Path, group: Group, key: str, name: str, make: Make) -> Iterator[Host]:
    pid = int(group.record(key)["pid"])
    ours = {word: value for word, value in surroundings(pid).items() if word.startswith("AGENT_")}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    log = folder / f"host-{name}.log"
    environ = process.environment(**{**make.environ, **ours})
    with process.running(make.command, log, environ, cwd=process.ROOT, **pipes) as child:
        host = Host(child, log, make.busy_turns)
        until(
            lambda: INFO in json.loads(group.record(key).get("info") or "{}").items(),
            what=f"the record of the host in {name}",
        )
        yield host
