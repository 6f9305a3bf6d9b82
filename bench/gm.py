"""A GM command: admin → daemon A → router → daemon B → application and back, and with one daemon only."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import codec, gm, messages, wire
from bench.figure import Figure, alternately, at_most, side_by_side
from bench.group import REGION, TYPED_ON, WORKS, of_sleeps, pids
from bench.player import TELL, TEXT, playing
from bench.roundtrip import bare_hops, bare_path, there_and_back, timed
from tests.scenarios.group import Admin, Group

HOPS, HOPS_OF_ONE = 4, 2  # the application is one of them
CALLS = 180  # a user may make 50 a second, and 200 at once: each run is in the session of another user

_numbers = itertools.count(1)


def answered(folder: Path, quick: bool) -> list[Figure]:
    runs, calls = (1, 20) if quick else (9, CALLS)
    folder.mkdir(exist_ok=True)
    size = len(wire.pack(wire.REQUEST, 1, b"", b"", codec.encode(order(REGION, WORKS, "sleep1"), 20.0)))
    with (
        of_sleeps(folder, 1) as group,
        bare_path(folder, HOPS) as far,
        bare_path(folder, HOPS_OF_ONE) as near,
    ):
        admin = group.admin(TYPED_ON)
        admin.operate("start", WORKS)
        with playing(folder, "gm", pids=pids(admin, 1)):
            measures = [in_sessions(group, TYPED_ON, runs + 1, calls),
                        in_sessions(group, WORKS, runs + 1, calls),
                        lambda: timed(calls, lambda: there_and_back(far, size)),
                        lambda: timed(calls, lambda: there_and_back(near, size))]  # fmt: skip
            for measure in measures:
                measure()
            found: list[list[Any]] = alternately(runs, *measures)
    ways = (("two daemons", found[0], HOPS, found[2]), ("one daemon", found[1], HOPS_OF_ONE, found[3]))
    return [
        side_by_side(f"GM command round trip, {what}, {percentile}", "ms", [run[at] for run in mine],
                     bare_hops(hops), [run[at] for run in floor], reach=at_most(4), aim=at_most(2))
        for what, mine, hops, floor in ways
        for at, percentile in enumerate(("p50", "p99"))
    ]  # fmt: skip


def in_sessions(group: Group, ip: str, sessions: int, calls: int) -> Callable[[], Any]:
    """`timed`, each time by a user who has not called yet."""
    users = [f"{ip.replace('.', '-')}-{number}" for number in range(sessions)]
    for user in users:
        group.add_user(user, "* on *")
    admins = iter([group.admin(ip, user) for user in users])

    def run() -> Any:
        admin = next(admins)
        return timed(calls, lambda: call(admin, order(REGION, WORKS, "sleep1")))

    return run


def order(region: str, machine: str, name: str) -> messages.CallGm:
    id_ = f"bench-{next(_numbers)}"
    return messages.CallGm(region, machine, name, TELL["name"], id_, words=[TEXT], wide=True, sure=True)


def call(admin: Admin, asked: messages.CallGm, targets: int = 1) -> None:
    """Raises RuntimeError unless all of them answer."""
    admin.answers.clear()
    rows = admin.call(asked).verdicts
    answers = [row[1] for row in [*admin.answers, *rows]]
    if answers != [gm.ANSWERED] * targets:
        raise RuntimeError(f"{asked}: {answers.count(gm.ANSWERED)} of {targets} answered: {set(answers)}")
