"""Five hundred applications on one daemon: all are called at once, and all come back at once when it dies."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.pool import Pool

from agent import messages
from tests.scenarios.games import FIRST, call, joined
from tests.scenarios.group import Admin, Group, running
from tests.scenarios.puppet import Puppet
from tests.waiting import until

MANY = 500
LARGE = "大" * 15_000  # 45 KB in UTF-8, 22 MB from all


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    sleep = {"command": ["sleep", "1000"], "ready": {"spawn": 0}, "report": "agent", "heartbeat_s": 5}
    names = [{"type": "game", "name": f"game{number}"} for number in range(1, MANY + 1)]
    document = {"programs": {"game": sleep}, "world": {"大区1": {FIRST: names}}}
    with running(tmp_path_factory.mktemp("group"), [FIRST], document) as group:
        outcomes = group.admin(FIRST).operate("start", FIRST, timeout=60)
        assert {outcome.result for outcome in outcomes.values()} == {"ok"}
        yield group


class Player(Puppet):
    """Joins, for ever; answers everything with how often it was asked."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.asked = 0

    def play(self) -> None:
        pause_s = 0.1
        while True:
            try:
                if isinstance(self.join(), messages.Joined):
                    pause_s = 0.1
                    self.declare("count", "large")
                    self._serve()
            except OSError:
                self.close()
            gevent.sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)

    def _serve(self) -> None:
        while True:
            frame, message = self.next(timeout=600)
            if isinstance(message, messages.ExecuteGm):
                self.asked += 1
                self.answer(frame, messages.GmAnswer(self.asked if message.command == "count" else LARGE))


@pytest.fixture(scope="module")
def players(group: Group) -> Iterator[list[Player]]:
    pids = {row["pid"] for row in group.admin(FIRST).picture().values()}
    assert len(pids) == MANY
    players = [Player(pid) for pid in pids]
    pool = Pool(MANY)
    for player in players:
        pool.spawn(player.play)
    yield players
    pool.kill(timeout=5)


def all_joined(admin: Admin) -> None:
    until(lambda: len(joined(admin)) == MANY, 45, "all have joined")


@pytest.mark.timeout(120)
def test_all_are_called_and_each_has_its_verdict(group: Group, players: list[Player]) -> None:
    admin = group.admin(FIRST)
    all_joined(admin)
    answers = call(admin, "game", "count", timeout=40)
    assert len(answers) == MANY
    assert {(verdict, answer) for verdict, answer, _text in answers.values()} == {("answered", 1)}
    assert [player.asked for player in players] == [1] * MANY


@pytest.mark.timeout(120)
def test_answers_that_are_many_times_a_frame_come_whole(group: Group, players: list[Player]) -> None:
    admin = group.admin(FIRST)
    all_joined(admin)
    answers = call(admin, "game", "large", timeout=40)
    assert len(answers) == MANY and {(verdict, answer) for verdict, answer, _text in answers.values()} == {
        ("answered", LARGE)
    }


@pytest.mark.timeout(120)
def test_all_come_back_when_the_daemon_does(group: Group, players: list[Player]) -> None:
    all_joined(group.admin(FIRST))
    group.daemon(FIRST).kill()
    group.start_daemon(FIRST)
    admin = group.admin(FIRST)
    all_joined(admin)
    answers = call(admin, "game", "count", timeout=40)
    assert {verdict for verdict, _answer, _text in answers.values()} == {"answered"} and len(answers) == MANY
