"""A command from a shell, login included, beside supervisorctl; 200 processes each."""

import subprocess
import time
from pathlib import Path

from bench import group, peer, process, supervisord
from bench.figure import Figure, alternately, at_most, side_by_side
from tests.scenarios.group import USER

SLEEPS = 200


def listed(folder: Path, quick: bool) -> list[Figure]:
    sleeps, runs = (5, 1) if quick else (SLEEPS, 25)
    folder.mkdir(exist_ok=True)
    with group.of_sleeps(folder, sleeps) as made:
        made.admin(group.TYPED_ON).operate("start", group.WORKS)
        words = [*group.command(), "admin", str(made.daemon_address[group.TYPED_ON]), "--user", USER,
                 "--password-file", str(made.password_file()), "-c", "list world"]  # fmt: skip

        def ours() -> float:
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=process.environment())
            return time.perf_counter() - began

        ours()  # the first run unpacks
        if peer.supervisor():
            with supervisord.running(folder, sleeps) as other:
                other.control("start", "all")
                mine, theirs = alternately(runs, ours, lambda: other.control("status"))
        else:
            (mine,), theirs = alternately(runs, ours), []
    return [
        side_by_side('`agent admin -c "list world"`, login included', "ms", [s * 1000 for s in mine],
                     f"supervisorctl status ({sleeps} programs)", [s * 1000 for s in theirs],
                     reach=at_most(2), aim=at_most(1))
    ]  # fmt: skip
