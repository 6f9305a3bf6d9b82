from contextlib import suppress

import pytest

from agent.errors import AgentError, ConfigError, StoreDown
from agent.logs import _Lines
from tests.roles.daemon.standing import FAR, key, world


def test_what_concerns_this_machine_and_nothing_else(standing):
    standing.configure(world(ten=["game1"], eleven=["game3"]))
    configuration = standing.state.configuration
    assert not configuration.known and configuration.refresh() and configuration.known
    assert set(configuration.processes) == {key("game1")}


def test_while_globaldb_is_away_what_was_known_holds_and_it_is_said_once(frail, caplog):
    caplog.set_level("INFO")
    frail.configure(world(ten=["game1"]))
    configuration = frail.state.configuration
    configuration.refresh()
    frail.server.stop()
    assert [configuration.refresh() for _ in range(5)] == [False] * 5
    assert set(configuration.processes) == {key("game1")} and str(frail.server.port) in configuration.trouble
    frail.server.start()
    assert configuration.refresh() and configuration.trouble == ""
    said = [record.getMessage() for record in caplog.records if record.name == "agent.configuration"]
    assert sum("going on with the 1 known processes" in line for line in said) == 1
    assert said[-1] == "globaldb is back"


def test_before_the_first_look_nothing_is_known_to_be_gone(frail):
    frail.server.stop()
    frail.state.configuration.refresh()
    with pytest.raises(StoreDown, match="is not known yet"):
        frail.state.configuration.launch_of(key("game1"))()


def test_a_process_that_is_taken_out_has_no_launch_any_more(standing):
    standing.configure(world(ten=["game1"]))
    configuration = standing.state.configuration
    configuration.refresh()
    launch = configuration.launch_of(key("game1"))
    assert launch()[1].command == ["sleep", "1000"]
    standing.configure(world(ten=["game2"]))
    configuration.refresh()
    with pytest.raises(ConfigError, match="is no longer configured on"):
        launch()
    with pytest.raises(ConfigError):
        configuration.launch_of(key("game3", FAR))()


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "[1]", '[{"name": "a/../b"}]', '[{"name": "game1", "type": "none"}]', "[" * 5000,
     '[{"name": "\\n\\u001b[2J", "type": "game"}]',
     '[{"name": "\\ud800", "type": "game"}]',
     '[{"name": "game1", "type": "game", "port": 1e400}]'],
)  # fmt: skip
def test_whatever_somebody_wrote_by_hand_is_a_problem_in_one_line_of_the_log(standing, caplog, text):
    """And never an exception: the other processes of the machine go on."""
    standing.configure(world(ten=["game1"]))
    standing.globaldb.store.hset("world", "大区2", "{}")
    standing.globaldb.store.hset("world:大区2", standing.state.ip, text)
    standing.state.refresh_configuration()
    assert key("game1") in standing.state.keepers
    for each in list(standing.state.configuration.processes):
        with suppress(AgentError):
            standing.state.configuration.launch_of(each)()
    lines = [_Lines("%(message)s").format(record) for record in caplog.records]
    assert all("\n" not in line and "\x1b" not in line for line in lines)
