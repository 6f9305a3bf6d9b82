"""The table as docs/performance.md: what was measured, on what, and the command that repeats it."""

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from agent.build import git_commit
from bench import group, peer
from bench.figure import HEADINGS, Figure
from tests.globaldb_servers import valkey_binary

PAGE = group.ROOT / "docs" / "performance.md"

INTRODUCTION = """\
# Performance

Every figure stands beside a peer or beside what the machine can do at all, measured in the same run, in turn
(A B A B …).
The ratio is the median of the single runs' ratios: absolute numbers depend on the machine and on what else it does,
ratios much less. *Reach* must hold; *aim* is what we work towards.
"""

# What a reader must know to judge a row.
ABOUT = {
    "relay": "20 links, each sends frames of about 256 bytes to random ones of the other 19, as fast as they are taken."
    " Counted is the CPU time of the relaying process only. `relay` is the router's relay on plain sockets, `router`"
    " the real router with TLS and 20 daemons that have logged in with their keys. nats-server has the same payloads"
    " and the same pattern, one subject per client, and one processor (GOMAXPROCS=1).",
    "start": "An admin on one machine starts the processes of another: admin → daemon → router → daemon. The clock"
    " stops when the last of their records in globaldb says RUNNING and its `startcount` has been raised. The floor"
    " only calls posix_spawn: no session, log file, identity, journal, record.",
    "roundtrip": "One command after the other in one session, over three programs and back: over TLS, with the rights"
    " and the configuration read from globaldb at both daemons, and the audit written. The floor passes as many bytes"
    " through three gevent programs on plain sockets, and does nothing else.",
    "gm": "One GM command after the other in one session, to an application that answers at once: a program with"
    " epoll, so that it is the agent that is measured. Every program on the way is a hop of the floor, the"
    " application too. Each daemon reads the rights from globaldb, the one asked the configuration too; the id is"
    " remembered, so that it runs at most once; the audit is written. A run is 180 calls, so its p99 is close to its"
    " worst.",
    "broadcast": "One `gm` to everybody: 50 applications on each of 20 daemons, all played by one program with"
    " epoll, and all of it on this one machine. The floor is a program with epoll that writes a frame of the same"
    " size to 1,000 sockets of the same player and reads 1,000 answers: one process in place of 21, no TLS, no"
    " names. CPU time is that of the roles until 0.3 s after the last answer, less what they use when nothing"
    " happens; the floor's is that of its one program.",
    "poll": "CPU time of one turn of a game's loop that only polls its SDK, joined to a real daemon and"
    " globaldb. In a loop that sleeps, what counts is what it takes beyond the same loop without the SDK, both in"
    " turn, 50 turns each: after a sleep caches are cold, and each look at a socket costs more than in a busy"
    " loop.",
    "idle": "All three supervisors at the same time, over 40 s. A page shared with other processes counts in full.",
    "oneshot": "The whole command as cron would run it, from the second run on: unpacked binary, TLS, login, picture.",
    "login": "One real daemon; the records of all machines are written by the bench, each once in 5 s as the group's"
    " own daemons do. The clock runs from the end of the login to the decoded picture. The floor reads the same fields"
    " of the same records and nothing more. A tick's cost is CPU time of the daemon, against CPU time of the floor.",
}


def machine() -> list[str]:
    """What the figures were measured on, one line each."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("gevent", "redis", "hiredis", "ujson"))
    return [
        f"- {datetime.date.today()}, commit {git_commit()}"
        + (
            "; roles from source" if group.from_source else "; roles from `dist/agent`, the relay from source"
        ),
        f"- {os.cpu_count()} × {model}, {memory_gb:.0f} GB, Linux {platform.release()}",
        f"- Python {platform.python_version()}, {packages}",
        f"- {', '.join(peers())}",
        f"- load average at the end {os.getloadavg()[0]:.1f}, {os.getloadavg()[1]:.1f}, {os.getloadavg()[2]:.1f}:"
        " above 2 the machine had other work too",
    ]


def built() -> str:
    """What the roles ran as, in its own words."""
    done = subprocess.run([*group.command(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def peers() -> list[str]:
    nats, supervisor, pm2 = peer.nats_server(), peer.supervisor(), peer.pm2()
    return [
        f"Valkey {valkey_version()}",
        f"nats-server {peer.version([str(nats), '--version'])}" if nats else "no nats-server",
        f"Supervisor {peer.version([str(supervisor / 'supervisord'), '--version'])}" if supervisor else "no Supervisor",
        f"pm2 {peer.pm2_version(pm2)}" if pm2 else "no pm2",
    ]  # fmt: skip


def valkey_version() -> str:
    done = subprocess.run([valkey_binary(), "--version"], capture_output=True, text=True, check=False)
    return next((word[2:] for word in done.stdout.split() if word.startswith("v=")), "?")


def table(figures: Sequence[Figure]) -> str:
    rows = [HEADINGS, ["---"] * len(HEADINGS), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def page(measured: Mapping[str, Sequence[Figure]]) -> str:
    figures = [figure for row in measured.values() for figure in row]
    about = [f"- **{row}** — {text}" for row, text in ABOUT.items()]
    notes = [f"- {figure.what}: {figure.note}" for figure in figures if figure.note]
    parts = [
        INTRODUCTION,
        table(figures),
        "## The rows",
        "\n".join(about + notes),
        "## What costs, and what misses",
        WHY,
        "## Measured on",
        "\n".join(machine()),
        "## Again",
        "    ./build.sh bench              # everything, some 12 minutes\n"
        "    ./build.sh bench relay start  # some rows; without writing this page\n",
        "Peers are installed outside the checkout, into ~/.cache/agent-bench (AGENT_BENCH_DIR).",
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def write(measured: Mapping[str, Sequence[Figure]]) -> None:
    PAGE.write_text(page(measured), encoding="utf-8")
    print(f"bench: wrote {PAGE.relative_to(group.ROOT)}", file=sys.stderr)


WHY = """\
- **relay without TLS.** A loop in CPython that cuts a frame off the stream, looks its addresses up and copies it to its
  target's list takes 0.35 µs a frame by itself, in a warm cache; `perf` sees four fifths of the relay's time in the
  interpreter and a tenth in the kernel. nats-server does the same in compiled code. Why ours is ahead with TLS we
  have not looked into.
- **command round trip.** The reach is missed, and by far. What is compared is not the same work: a command crosses TLS
  three times each way, is decoded and dispatched by two daemons, and both read the user's rights and the configuration
  anew from globaldb, so that a right taken away acts at once. (With both kept for a tenth of a second, CPU time of one
  `start` was 1.1 ms in daemon A, 0.7 ms in B and 0.4 ms in the router: still over the reach, so it was left out.)
  `who`, which goes the same way with no record, journal or audit, is the lightest command there is, and misses too.
- **GM round trip.** The reach is missed, for the reasons of the command round trip. CPU time of one command is 1.1 ms
  in the daemon asked, 0.85 ms in the other one and 0.33 ms in the router (from source). By py-spy a third of what the
  daemons do is writing to and reading from sockets, TLS for the most part; a fifth at the daemon asked and a seventh
  at the other one is reading user and configuration anew (its sockets included). The rest is spread thin: decoding,
  greenlets, audit, log. The floor waits too: with others' tests on the machine it was 0.31 ms and ours 3.2 ms, on the
  quiet machine 0.47 ms and 3.1 ms, which we take for the time to wake programs on processors that have gone to sleep.
- **broadcast.** No bound is set for it. It costs a quarter of a millisecond of CPU time for each application, all roles
  together; a sixth of that is the daemon asked. There, by py-spy, a seventh is looking up three times for each target
  what the user may; the rest is making, reading, checking and passing on 1,000 verdicts. Each application's request is
  encoded by itself, where the floor writes the same bytes 1,000 times.
- **poll.** No bound is set for it. The C SDK looks at its sockets once a millisecond at most, so in a busy loop it only
  looks at the clock; where it does look, it costs half as much again as poll(2). 32 µs for Python are 3 % of one
  processor for a game with 1,000 turns a second, and 0.06 % for one with 20.
- **start of 200 processes.** What is beyond the floor makes a start a promise: a journal line before and after, so that
  the next daemon knows the process whenever this one dies; its identity read from /proc; two log lines; its record and
  its count in globaldb. By py-spy a third of the daemon's time for it is `Popen`.
- **memory.** 41 MB are there before the daemon does anything: gevent with ssl 15 MB, redis-py 9 MB (it imports its
  asyncio half too), the interpreter 8 MB.
- **`list world`.** Most of it is starting and importing: `agent admin -c help`, which connects to nobody, took 175 ms
  in the hour in which `list world` took 218 ms.
- **the full picture.** Beside reading: a verdict for each of 20,000 processes, 5 MB of JSON made here and read there.
"""
