import time

import gevent
import pytest

from agent.outcome import FAILED, OK, Outcome
from roles.daemon import audit as audit_module
from roles.daemon.audit import Audit
from tests.waiting import until


@pytest.fixture
def writing():
    """`writing(standing)`: its audit with its writer at work."""
    started = []

    def start(standing):
        started.append(gevent.spawn(standing.state.audit.write))
        return standing.state.audit

    yield start
    gevent.killall(started)


def test_a_command_is_one_line_with_who_where_what_and_a_verdict_per_target(standing, writing):
    writing(standing).note("ada", "127.0.0.9:1", "stop all", [Outcome("a", OK), Outcome("b", FAILED, "no")])
    (line,) = until(standing.audit)
    assert line.pop("at") == pytest.approx(time.time(), abs=5)
    assert line == {
        "user": "ada", "from": "127.0.0.9:1", "daemon": standing.state.ip, "what": "stop all",
        "verdict": "1 ok, 1 failed", "targets": [["a", "ok", ""], ["b", "failed", "no"]],
    }  # fmt: skip


def test_no_command_can_keep_the_lines_behind_it_from_being_written(standing, writing):
    """Half a surrogate pair in a pattern is no text that globaldb takes; the line must go through all the same."""
    audit = writing(standing)
    audit.note(
        "eve",
        "x",
        "stop \ud800\n\x1b[2J" + "x" * 1_000_000,
        [Outcome("\udcff", FAILED, "\ud800")],
        "no \udfff",
    )
    audit.note("ada", "x", "start all", [])
    first, second = until(lambda: len(standing.audit()) == 2 and standing.audit())
    assert first["what"].startswith(r"stop \ud800\n\x1b[2Jxxx") and len(first["what"]) < 600
    assert second["what"] == "start all"


def test_lines_wait_while_globaldb_is_away_and_nobody_spins(frail, writing, monkeypatch, caplog):
    monkeypatch.setattr(audit_module, "RETRY_S", 0.05)
    tries = []
    append = frail.globaldb.append_audit
    monkeypatch.setattr(frail.globaldb, "append_audit", lambda *lines: tries.append("") or append(*lines))
    audit = writing(frail)
    frail.server.stop()
    for number in range(5):
        audit.note("ada", "x", f"stop {number}", [])
        gevent.sleep(0.05)
    assert 3 <= len(tries) <= 12
    assert sum("lines wait" in record.getMessage() for record in caplog.records) == 1
    frail.server.start()
    lines = until(lambda: len(frail.audit()) >= 5 and frail.audit())
    assert [line["what"] for line in lines] == [f"stop {number}" for number in range(5)]


def test_the_oldest_go_when_too_many_wait_and_no_newer_one_with_them(standing, monkeypatch):
    monkeypatch.setattr(audit_module, "LINES_AT_ONCE", 2)
    audit = Audit(standing.globaldb, "x")
    monkeypatch.setattr(audit, "_lines", audit_module.deque(maxlen=3))
    append = standing.globaldb.append_audit

    def slow(*lines):
        append(*lines)
        if len(standing.audit()) == 2:
            for number in range(3, 6):  # while the first ones are under way
                audit.note("ada", "x", str(number), [])

    monkeypatch.setattr(standing.globaldb, "append_audit", slow)
    for number in range(3):
        audit.note("ada", "x", str(number), [])
    run = gevent.spawn(audit.write)
    until(lambda: not audit._lines)
    run.kill()
    assert [line["what"] for line in standing.audit()] == ["0", "1", "3", "4", "5"]


def test_a_wide_command_names_what_went_wrong_and_only_counts_the_rest(standing, writing):
    outcomes = [Outcome(f"t{n}", OK) for n in range(2000)] + [Outcome("bad", FAILED, "why")]
    writing(standing).note("ada", "x", "start all", outcomes)
    (line,) = until(standing.audit)
    assert line["verdict"] == "2000 ok, 1 failed" and line["targets"] == [["bad", "failed", "why"]]
