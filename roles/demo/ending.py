"""Ends everything that belongs to a demo's folder, whatever became of the demo itself.

What belongs to it shows in /proc, not in a name or a list that a crash could leave behind half-written:

    AGENT_DEMO=<folder>              in its environment: a role, started by the demo
    AGENT_OWNER=<folder>/daemon-…    in its environment: a game process, started by a daemon of the demo
    its executable lies in <folder>  the bundled Valkey, which overwrites the memory of its environment

Each process is pinned by a pidfd before it is looked at, so a recycled pid is never signalled. First the daemons, which
would start games again, then the games, which get time to save, and globaldb last.
"""

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

ROLES_S = 5.0
GAMES_S = 5.0
KILLED_S = 2.0
MARK = "AGENT_DEMO"

ROLE, GAME, STORE = "role", "game", "store"


def end(folder: Path) -> int:
    """Blocks until all of it is gone; returns how many were left that even SIGKILL did not end."""
    for kind, patience_s in ((ROLE, ROLES_S), (GAME, GAMES_S), (STORE, ROLES_S)):
        _end(folder, kind, patience_s)
    return len(members(folder))


def members(folder: Path) -> list[int]:
    """The pids, for showing."""
    return [pid for pid in _pids() if kind_of(pid, folder)]


def kind_of(pid: int, folder: Path) -> str:
    """What this process is in the demo of this folder; "" when it is none of it, or gone."""
    place = os.fsencode(folder)
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        executable = os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""
    if executable.startswith(place + b"/globaldb/"):
        return STORE
    if any(word.startswith(b"AGENT_OWNER=" + place + b"/") for word in words):
        return GAME
    return ROLE if MARK.encode() + b"=" + place in words else ""


def _end(folder: Path, kind: str, patience_s: float) -> None:
    """Politely, then by SIGKILL; again while new ones turn up."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, KILLED_S)):
        handles = _pinned(folder, kind)
        try:
            _signal(handles, number)
            _await(handles, wait_s)
        finally:
            for handle in handles:
                os.close(handle)


def _pinned(folder: Path, kind: str) -> list[int]:
    """A pidfd for each; the look comes after the pinning."""
    handles = []
    for pid in _pids():
        if not kind_of(pid, folder):
            continue
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        if kind_of(pid, folder) == kind:
            handles.append(handle)
        else:
            os.close(handle)
    return handles


def _signal(handles: Iterable[int], number: int) -> None:
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            continue


def _await(handles: Iterable[int], wait_s: float) -> None:
    """Until all have ended. A pidfd is readable from then on."""
    deadline = time.monotonic() + wait_s
    poll = select.poll()
    waiting = set(handles)
    for handle in waiting:
        poll.register(handle, select.POLLIN)
    while waiting and (left_s := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left_s * 1000):
            poll.unregister(handle)
            waiting.discard(handle)


def _pids() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]
