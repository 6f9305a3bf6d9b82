"""A group whose processes are the example server of the SDKs, for stories about applications."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent import messages
from agent.selection import Selection
from tests.scenarios.group import ROOT, Admin, Group, running
from tests.waiting import until

EXAMPLE = ROOT / "sdk" / "python" / "example.py"
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


def game(**launch: Any) -> dict[str, Any]:
    """A launch specification; `save` is the example's GAME_SAVE."""
    env = {"GAME_SAVE": launch.pop("save")} if "save" in launch else {}
    return {
        "command": [sys.executable, str(EXAMPLE), "poll"],
        "ready": {"spawn": 0},
        "heartbeat_s": 0.5,
        "silent_after_s": 5,
        "stop_timeout_s": 10,
        "env": env,
        **launch,
    }


def key(name: str, ip: str = FIRST, region: str = "大区1") -> str:
    return f"{region}.{ip}.{name}"


@contextmanager
def playing(
    folder: Path, programs: Mapping[str, Any], places: Mapping[str, Sequence[str]], **more: Any
) -> Iterator[Group]:
    """`places`: ip -> names of processes; the type of `chat1` is `chat`. All started, and joined."""
    machines = {
        ip: [{"type": name.rstrip("0123456789"), "name": name} for name in names]
        for ip, names in places.items()
    }
    with running(folder, list(places), {"programs": programs, "world": {"大区1": machines}}, **more) as group:
        start(group, places)
        yield group


def start(group: Group, places: Mapping[str, Sequence[str]]) -> None:
    admin = group.admin(next(iter(places)))
    until(lambda: admin.sees_online(list(places)), 30, "all machines are together")
    outcomes = admin.operate("start", "*", timeout=60)
    assert {outcome.result for outcome in outcomes.values()} <= {"ok", "already"}, outcomes
    everybody = [key(name, ip) for ip, names in places.items() for name in names]
    until(lambda: joined(admin) >= set(everybody), 30, "all have joined and declared")


def joined(admin: Admin) -> set[str]:
    """Who has joined and declared commands, in the whole group."""
    return {row[0] for row in admin.call(messages.DescribeGm()).processes if row[2] not in ("", "-")}


def call(
    admin: Admin, target: str, command: str, *words: str, timeout: float = 20.0, **more: Any
) -> dict[str, list]:
    """key -> [verdict, answer, text]; confirmed unless said otherwise."""
    selection = Selection.parse_target(target)
    more = {"wide": True, "sure": True, "id": "", **more}
    id_ = more.pop("id") or f"test-{call_number()}"
    asked = messages.CallGm(
        selection.region, selection.machine, selection.name, command, id_, words=list(words), **more
    )
    admin.answers.clear()
    last = admin.call(asked, timeout).verdicts
    rows = [*admin.answers, *last]
    assert len({row[0] for row in rows}) == len(rows), "a target has one verdict"
    return {row[0]: row[1:] for row in rows}


_numbers = iter(range(1, 10**9))


def call_number() -> int:
    return next(_numbers)


def status(admin: Admin, target: str) -> dict[str, Any]:
    (answer,) = call(admin, target, "status").values()
    assert answer[0] == "answered", answer
    return answer[1]


def task(group: Group, process: str) -> dict[str, Any]:
    """As globaldb has it; empty where there is none."""
    with group.globaldb.client() as client:
        return json.loads(client.hget("task", process) or "{}")
