"""Groups to measure: one machine with many `sleep`s and another one to type commands on, everything real."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.scenarios.group import ROOT, SOURCE_COMMAND, Admin, Group
from tests.waiting import until

BINARY = ROOT / "dist" / "agent"
TYPED_ON, WORKS = "127.0.0.2", "127.0.0.3"
REGION = "r"
SLEEP = shutil.which("sleep") or "/bin/sleep"
SLEEP_S = "86400"

from_source = False  # --source


def command() -> list[str]:
    """The frozen binary, which is what ships; from source where there is none, or it is asked for."""
    return [str(BINARY)] if BINARY.exists() and not from_source else list(SOURCE_COMMAND)


def document(sleeps: int) -> dict[str, Any]:
    program = {"command": [SLEEP, SLEEP_S], "ready": {"spawn": 0}}
    processes = [{"type": "sleep", "name": f"sleep{i + 1}"} for i in range(sleeps)]
    return {"programs": {"sleep": program}, "world": {REGION: {TYPED_ON: [], WORKS: processes}}}


def keys(sleeps: int) -> list[str]:
    return [f"{REGION}.{WORKS}.sleep{i + 1}" for i in range(sleeps)]


def pids(admin: Admin, count: int) -> list[int]:
    """Those of all processes of the group, as soon as their records tell them."""

    def found() -> list[int]:
        told = [row["pid"] for row in admin.picture().values() if row["pid"]]
        return told if len(told) == count else []

    return until(found, what=f"{count} records with a pid")


@contextmanager
def of_sleeps(folder: Path, sleeps: int) -> Iterator[Group]:
    group = Group(folder, [TYPED_ON, WORKS], command())
    try:
        group.configure(document(sleeps))
        group.start()
        yield group
    finally:
        group.close()
