"""What a daemon costs that only looks after 200 processes, beside supervisord and pm2, all at the same time."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import peer, process, supervisord
from bench.figure import Figure, at_most
from bench.group import SLEEP, SLEEP_S, TYPED_ON, WORKS, of_sleeps
from tests.waiting import until

SLEEPS = 200
LEAST_MB, LEAST_CPU = 70.0, 1.0
BEYOND_SUPERVISORD_MB = 20.0


def watched(folder: Path, quick: bool) -> list[Figure]:
    sleeps, settle_s, watch_s = (5, 0.5, 1.0) if quick else (SLEEPS, 10.0, 40.0)
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        group = stack.enter_context(of_sleeps(folder, sleeps))
        admin = group.admin(TYPED_ON)
        admin.operate("start", WORKS)
        pids = {"agent": group.roles[f"daemon-{WORKS}"].pid}
        if peer.supervisor():
            other = stack.enter_context(supervisord.running(folder, sleeps))
            other.control("start", "all")
            pids["supervisord"] = other.pid
        if peer.pm2():
            pids["pm2"] = stack.enter_context(pm2(folder, sleeps))
        time.sleep(settle_s)
        before = {name: process.cpu_s(pid) for name, pid in pids.items()}
        began = time.monotonic()
        time.sleep(watch_s)
        passed_s = time.monotonic() - began
        cpu = {name: 100 * (process.cpu_s(pid) - before[name]) / passed_s for name, pid in pids.items()}
        held = {name: process.memory(pid) for name, pid in pids.items()}
    mine, its, pm2s = held["agent"], held.get("supervisord"), held.get("pm2")
    of = f"daemon with {sleeps} children, idle"
    note = f"PSS {mine.pss:.0f} MB, USS {mine.uss:.0f} MB"
    return [
        Figure(f"{of}: RSS", "MB", mine.rss, "70 MB", LEAST_MB, reach=at_most(1), note=note),
        Figure(f"{of}: RSS", "MB", mine.rss, "supervisord + 20 MB",
               its.rss + BEYOND_SUPERVISORD_MB if its else None, aim=at_most(1)),
        Figure(f"{of}: RSS", "MB", mine.rss, "pm2", pm2s.rss if pm2s else None),
        Figure(f"{of}: CPU", "%", cpu["agent"], "1 %", LEAST_CPU, reach=at_most(1)),
        Figure(f"{of}: CPU", "%", cpu["agent"], "supervisord", cpu.get("supervisord")),
        Figure(f"{of}: CPU", "%", cpu["agent"], "pm2", cpu.get("pm2")),
    ]  # fmt: skip


@contextmanager
def pm2(folder: Path, sleeps: int) -> Iterator[int]:
    """The pid of a pm2 daemon that looks after them."""
    home = folder / "pm2"
    apps = [
        {"name": f"sleep{i}", "script": SLEEP, "args": SLEEP_S, "interpreter": "none"} for i in range(sleeps)
    ]
    config = folder / "pm2.config.json"
    config.write_text(json.dumps({"apps": apps}))
    environ = process.environment(PM2_HOME=str(home))
    program = str(peer.pm2())

    def run(*words: str) -> None:
        subprocess.run([program, *words], env=environ, check=True, stdout=subprocess.DEVNULL, timeout=120)

    try:
        run("start", str(config))
        pid = int((home / "pm2.pid").read_text())
        until(lambda: len(process.children(pid)) >= sleeps, what="pm2's processes")
        yield pid
    finally:
        run("kill")
