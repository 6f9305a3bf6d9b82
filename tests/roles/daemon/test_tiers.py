"""Tiers: in which order many processes start, and in reverse stop."""

import time
from typing import Any

import pytest

from agent import messages
from agent.messages import OperateGroup
from agent.outcome import Outcome
from agent.process import Process
from agent.program import tier_of
from roles.daemon import operation
from tests.roles.daemon.standing import FAR, IP


class RouterLink:
    """The daemon beyond the router: says when it was asked for what, and what became of it."""

    def __init__(self, result: str = "ok") -> None:
        self.asked: list[list[str]] = []
        self._result = result

    def call(self, order: Any, _timeout_s: float, _dst: bytes) -> messages.Outcomes:
        self.asked.append(sorted(target.rpartition(".")[2] for target in order.targets))
        return messages.Outcomes([[target, self._result, "", 7] for target in order.targets])


class Dialer:
    trouble = ""

    def __init__(self, link: RouterLink) -> None:
        self.link = link


def group(standing: Any, link: RouterLink) -> None:
    """On the far machine chat (tier 0), two games (1, as a template too), a gate (2); here a game."""
    program = {"command": ["sleep", "1000"], "ready": {"spawn": 0}}
    standing.configure({
        "programs": {"chat": program, "game": {**program, "tier": 1}, "gate": {**program, "tier": 7}},
        "world": {"大区1": {
            IP: [{"type": "game", "name": "here"}],
            FAR: [{"type": "gate", "name": "gate", "tier": 2}, {"type": "game", "name": "game1"},
                  {"type": "game", "name": "game2", "tier": "{stage}", "stage": 1}, {"type": "chat", "name": "chat"}],
        }},
    })  # fmt: skip
    standing.user("ada", "* on *")
    standing.state.refresh_configuration()
    standing.state.presence.dialer = Dialer(link)
    standing.state.presence._machines = {FAR: {}}


def operate(standing: Any, verb: str, peer: Any = None) -> dict[str, Outcome]:
    asked = OperateGroup(verb, "*", "*", "*", wide=True)
    rows = operation.operate_group(standing.state, peer or standing.peer("ada"), asked).outcomes
    return {row[0].rpartition(".")[2]: Outcome(*row) for row in rows}


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_start_goes_tier_by_tier_over_all_machines(standing: Any, verb: str) -> None:
    group(standing, link := RouterLink())
    found = operate(standing, verb)
    assert link.asked == [["chat"], ["game1", "game2"], ["gate"]]
    assert {name: outcome.result for name, outcome in found.items()} == dict.fromkeys(
        ("chat", "game1", "game2", "gate", "here"), "ok"
    )


def test_a_stop_goes_the_other_way(standing: Any) -> None:
    group(standing, link := RouterLink())
    operate(standing, "stop")
    assert link.asked == [["gate"], ["game1", "game2"], ["chat"]]


def test_what_fails_in_one_tier_does_not_keep_the_next_from_its_turn(standing: Any) -> None:
    group(standing, link := RouterLink("failed"))
    found = operate(standing, "start")
    assert link.asked == [["chat"], ["game1", "game2"], ["gate"]]
    assert found["gate"].result == "failed" and found["here"].result == "ok"


def test_a_tier_whose_turn_comes_too_late_is_said_not_to_be_begun(standing: Any) -> None:
    group(standing, link := RouterLink())
    peer = standing.peer("ada")
    peer.deadline = time.monotonic() + 0.5
    found = operate(standing, "start", peer)
    assert link.asked == [["chat"]]
    assert found["gate"].result == "failed" and "not begun" in found["gate"].detail
    assert standing.state.keepers[f"大区1.{IP}.here"].pid == 0


@pytest.mark.parametrize(
    ("program", "fields", "tier"),
    [
        ({"tier": 3}, {}, 3),
        ({"tier": 3}, {"tier": -1}, -1),
        ({}, {}, 0),
        ({"tier": "{stage}"}, {"stage": 4}, 4),
        ({"tier": "{stage}"}, {}, 0),
        ({"tier": "first"}, {}, 0),
        ({"tier": None}, {}, 0),
        ("rubbish", {}, 0),
        (None, {}, 0),
    ],
)
def test_the_tier_of_a_process_is_its_own_or_its_programs_and_0_where_that_is_rubbish(
    program: Any, fields: dict[str, Any], tier: int
) -> None:
    assert (
        tier_of(Process("大区1", IP, "game1", "game", fields=fields), {"game": program} if program else {})
        == tier
    )
