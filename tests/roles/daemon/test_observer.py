"""What stands in globaldb may have been written by anybody: it makes a row, never an exception."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import codec, messages
from agent.messages import PictureChanged
from agent.verdict import VERDICTS
from agent.world import World
from roles.daemon.observer import FIELDS, Observer
from tests.roles.daemon.standing import FAR, IP, key, world

ODD = ["", "nan", "inf", "-inf", "1e999", "1" + "0" * 400, "null", "[]", "{}", "{", '"\\ud800"', '{"skew_s": 1e999}',
       '{"skew_s": ' + "9" * 500 + "}", '{"a": NaN, "b": -Infinity}', '{"a": "\\ud800", "\\udfff": 1}', "[" * 2000,
       '{"a":' * 900 + "1" + "}" * 900, "\x00\x1b[2J\n", "１２", "1_0", "RUNNING", "up"]  # fmt: skip
texts = st.none() | st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


class Records:
    """globaldb's part in a look."""

    def __init__(self, process, machine):
        self.process, self.machine = process, machine

    def read_records(self, keys, fields):
        assert fields == FIELDS
        return [self.process] * len(keys)

    def read_machines(self, ips):
        return dict.fromkeys(ips, self.machine)


@given(st.tuples(*[texts] * len(FIELDS)), st.tuples(texts, texts))
@settings(max_examples=400)
def test_any_record_is_a_row_that_can_be_sent(process, machine):
    class Known:
        def now(self):
            return 1e9

        def online(self, ip):
            return ip == IP

        def about(self, ip):
            return {}

    observer = Observer(Records(process, machine), Known(), Known())
    configured = World.from_document(world(ten=["game1"], eleven=["game3"]))
    for _ in range(2):
        machines = observer.machines([IP, FAR])
        seen = observer.processes(list(configured.processes()), configured, machines)
        sent = PictureChanged(
            processes=[one.row for one in seen.values()], machines=[one.row for one in machines.values()]
        )
        came, _left = codec.decode(codec.encode(sent))
        assert [row[0] for row in came.processes] == [key("game1"), key("game3", FAR)]
        assert all(row[1] in VERDICTS for row in came.processes)


def test_a_look_forgets_what_is_configured_no_more(standing):
    state = standing.state
    observer = Observer(standing.globaldb, state.clock, state.presence)
    configured = World.from_document(world(ten=["game1", "game2"]))
    observer.processes(list(configured.processes()), configured, observer.machines([IP, FAR]))
    observer.keep_only([key("game1")], [IP])
    assert (set(observer._processes._seen), set(observer._machines._seen)) == ({key("game1")}, {IP})


@pytest.mark.parametrize("info", ['{"players": 7}', '{"players": 7, "cpu": 99}'])
def test_what_the_application_says_of_itself_wins_over_what_we_measure(standing, info):
    standing.record(key("game1"), info=info, usage='{"cpu": 1, "rss": 5}', state="RUNNING")
    observer = Observer(standing.globaldb, standing.state.clock, standing.state.presence)
    configured = World.from_document(world(ten=["game1"]))
    seen = observer.processes(list(configured.processes()), configured, observer.machines([IP]))
    assert seen[key("game1")].row[8] == {"cpu": 1, "rss": 5, **json.loads(info)}


@pytest.mark.parametrize("lastupdate", ["nan", "inf", "-inf", "1e999", "x"])
def test_a_time_that_is_none_is_no_sign_of_life(standing, monkeypatch, lastupdate):
    """NaN differs from itself: taken for a number, it would look like a change at every look."""
    standing.record(key("game1"), state="RUNNING", lastupdate=lastupdate)
    observer = Observer(standing.globaldb, standing.state.clock, standing.state.presence)
    configured = World.from_document(world(ten=["game1"]))
    now = time.monotonic()
    for passed_s, verdict in ((0, "RUNNING"), (10, "RUNNING"), (100, "SILENT")):
        monkeypatch.setattr("roles.daemon.observer.time.monotonic", lambda at=now + passed_s: at)
        seen = observer.processes(list(configured.processes()), configured, observer.machines([IP]))
        assert seen[key("game1")].row[1] == verdict
    monkeypatch.undo()


@pytest.mark.parametrize(("started", "told"), [("990.5", 980.5), ("0", 0.0), (None, 0.0), ("nan", 0.0)])
def test_when_it_was_started_is_told_in_the_groups_time(standing, started, told):
    if started is not None:
        standing.record(key("game1"), started=started)
    standing.globaldb.write_machine(IP, '{"skew_s": 10.0}', 1.0)
    observer = Observer(standing.globaldb, standing.state.clock, standing.state.presence)
    configured = World.from_document(world(ten=["game1"]))
    row = observer.processes(list(configured.processes()), configured, observer.machines([IP]))[
        key("game1")
    ].row
    assert dict(zip(messages.PROCESS_COLUMNS, row, strict=True))["started_at"] == told
