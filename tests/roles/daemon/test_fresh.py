import pytest

from agent.errors import Refused
from roles.daemon import fresh
from roles.daemon.fresh import Fresh
from tests.roles.daemon.standing import IP, world
from tests.waiting import until


@pytest.fixture
def for_a_while(monkeypatch):
    monkeypatch.setattr(fresh, "FRESH_S", 0.3)


def commands_served(standing) -> int:
    with standing.server.client() as client:
        return client.info("stats")["total_commands_processed"]


def test_a_script_with_many_commands_reads_its_user_once_and_loses_a_right_all_the_same(
    standing, for_a_while
):
    standing.user("ada", "* on *")
    before = commands_served(standing)
    for _ in range(50):
        standing.state.rights.demand("ada", "audit")
    assert commands_served(standing) - before < 10
    standing.user("ada", "list on *")

    def refused():
        try:
            standing.state.rights.demand("ada", "audit")
        except Refused:
            return True

    until(refused, 2)


def test_a_user_removed_is_removed_within_the_moment(standing, for_a_while):
    standing.user("ada", "* on *")
    assert standing.state.rights.grants("ada")
    standing.globaldb.remove_user("ada")
    until(lambda: standing.state.rights.user("ada") is None, 2)


def test_configuration_is_read_once_in_a_moment_and_taken_up_after_it(standing, for_a_while):
    standing.configure(world(ten=["game1"]))
    assert standing.state.configuration.refresh()
    standing.configure(world(ten=["game1", "game2"]))
    until(
        lambda: standing.state.configuration.refresh() and len(standing.state.configuration.processes) == 2, 2
    )
    until(lambda: len(list(standing.state.atlas.world_of(IP).processes())) == 2, 2)


def test_it_does_not_grow_with_what_is_asked(monkeypatch):
    monkeypatch.setattr(fresh, "MOST", 10)
    seen = Fresh()
    for number in range(100):
        seen.note(str(number), 0.0)
    assert len(seen._read_at) <= 10
