"""A task from where it stands to its end: written before it is done, and done once whoever goes on with it."""

from dataclasses import replace

import gevent
import pytest
from gevent.event import Event

from agent.errors import StoreDown
from agent.messages import EntryState, ExecuteGm, GmAnswer, SaveProcess, SetEntry
from agent.task import Task
from roles.daemon.errand import _Count, players_of
from tests.roles.daemon.applying import refused
from tests.roles.daemon.tasking import G1, Scene
from tests.waiting import until


@pytest.fixture
def scene(standing, monkeypatch):
    made = Scene(standing, monkeypatch)
    yield made
    made.agenda.close()
    if hasattr(made, "game"):
        made.game.lose()


def left(scene, phase, kind="drain", **more):
    """What a daemon before this one left in globaldb."""
    task = Task(
        "t1",
        kind,
        G1,
        "ada",
        notice=more.pop("notice", ""),
        phase=phase,
        incarnation=scene.keeper.incarnation,
    )
    scene.standing.globaldb.write_task(replace(task, **more))
    scene.log.clear()


def resumed(scene):
    scene.agenda._resume()


# ---- drain


def test_a_drain_closes_tells_waits_and_stops_each_written_before_it_is_done(scene):
    game = scene.start()
    assert scene.begin(notice="维护").result == "ok"
    scene.phase("waiting")
    assert scene.keeper.state == "RUNNING"
    scene.empty()
    done = scene.phase("done")
    assert scene.phases == ["closing", "announcing", "waiting", "ending", "done"]
    acts = [
        word
        for word in scene.log
        if word in ("closing", "entry False", "announcing", "ExecuteGm", "waiting", "ending")
    ]
    assert list(dict.fromkeys(acts)) == [
        "closing",
        "entry False",
        "announcing",
        "ExecuteGm",
        "waiting",
        "ending",
    ]
    (told,) = [asked for asked in game.asked if isinstance(asked, ExecuteGm)]
    assert (told.command, told.arguments, told.user) == ("broadcast", {"text": "维护"}, "ada")
    assert (scene.keeper.state, scene.keeper.wanted) == ("STOPPED", "down")
    assert done.detail.startswith("nobody was left; ") and done.players == 0


def test_the_end_is_written_while_it_still_runs(scene, monkeypatch):
    scene.start()
    seen = []
    write = scene.standing.globaldb.write_task
    monkeypatch.setattr(
        scene.standing.globaldb,
        "write_task",
        lambda task: (seen.append((task.phase, scene.keeper.state, scene.keeper.entry.task)), write(task)),
    )
    scene.begin()
    scene.phase("waiting"), scene.empty()
    done = scene.phase("done")
    assert ("ending", "RUNNING", "") in seen and ("ending", "STOPPED", "") not in seen
    assert scene.keeper.entry.task == done.id == scene.standing.state._means.journal.read()[G1].task


def test_nobody_is_there_only_after_two_reports_that_are_newer_than_the_closed_entry(scene):
    scene.start(players=0)
    scene.begin()
    scene.phase("waiting"), scene.looks(10)
    scene.report(0), scene.looks(10)
    assert scene.keeper.state == "RUNNING" and scene.task.phase == "waiting", "one report is not enough"
    scene.report(1), scene.looks()
    scene.report(0), scene.looks(10)
    assert scene.task.phase == "waiting" and scene.keeper.state == "RUNNING", "somebody was there in between"
    scene.report(0)
    scene.phase("done")


def test_players_are_told_as_they_leave(scene):
    scene.start(players=3)
    scene.begin()
    until(lambda: scene.task.players == 3)
    scene.report(1)
    until(lambda: scene.task.players == 1)
    scene.report(None)
    until(lambda: scene.task.players == -1)
    assert scene.keeper.state == "RUNNING"


def test_at_its_deadline_it_is_stopped_with_whoever_is_left(scene):
    scene.start(players=3)
    scene.begin(deadline_s=0.2)
    done = scene.phase("done")
    assert done.detail.startswith("its deadline came, and 3 players were still there; ")
    assert scene.keeper.state == "STOPPED"


def test_a_drain_without_a_deadline_waits(scene):
    scene.start(players=3)
    scene.begin()
    scene.phase("waiting"), scene.looks(20)
    assert scene.task.phase == "waiting" and scene.keeper.state == "RUNNING"


def test_one_that_does_not_close_its_entry_fails_and_goes_on(scene):
    game = scene.start()
    game.answers[SetEntry] = lambda asked: (
        _raise(refused("a siege is on")) if not asked.open else EntryState("open")
    )
    scene.begin()
    assert scene.phase("failed").detail == "it did not close its entry: a siege is on"
    assert scene.keeper.state == "RUNNING" and [asked.open for asked in game.asked] == [False, True]


def _raise(error):
    raise error


def test_one_that_declines_to_stop_goes_on_and_its_entry_is_opened(scene):
    game = scene.start(saves=True)
    until(lambda: scene.keeper.entry.saves)
    game.answers[SaveProcess] = refused("in a battle")
    scene.begin()
    scene.phase("waiting"), scene.empty()
    failed = scene.phase("failed")
    assert "it declined to stop: in a battle" in failed.detail and scene.keeper.state == "RUNNING"
    assert [asked.open for asked in game.asked if isinstance(asked, SetEntry)] == [False, True]


def test_a_notice_that_fails_holds_up_nothing(scene):
    game = scene.start()
    game.answers[ExecuteGm] = refused("no", "internal")
    scene.begin(notice="x")
    scene.phase("waiting")
    assert scene.task.announced and game.names().count("ExecuteGm") == 1


def test_a_new_link_is_closed_again_and_told_nothing_twice(scene):
    first = scene.start(players=1)
    scene.begin(notice="x")
    scene.phase("waiting")
    first.lose()
    second = scene.join()
    until(lambda: second.asked)
    scene.looks()
    assert second.names() == ["SetEntry"] and first.names() == ["SetEntry", "ExecuteGm"]


def test_an_entry_whose_link_is_lost_counts_as_open(scene):
    first = scene.start(players=0)
    first.answers[SetEntry] = lambda asked: first.lose()
    scene.begin(notice="x")
    until(lambda: first.asked)
    scene.empty()
    assert scene.task.phase == "closing" and scene.keeper.state == "RUNNING"
    second = scene.join()
    scene.phase("waiting")
    assert second.names() == ["SetEntry", "ExecuteGm"]


def test_one_that_ends_by_itself_is_stopped_for_good(scene):
    scene.start()
    scene.begin()
    scene.phase("waiting")
    scene.keeper.kill(5)
    assert scene.phase("done") and scene.keeper.wanted == "down"


# ---- cancelled


@pytest.mark.parametrize("kind", ["drain", "restart-when-empty"])
def test_what_is_cancelled_goes_on_with_its_entry_open(scene, kind):
    game = scene.start(players=1)
    scene.begin(kind)
    scene.phase("waiting")
    outcome = scene.agenda.cancel(G1, "eve")
    assert outcome.result == "ok"
    assert scene.phase("cancelled").detail == "by eve" and scene.keeper.state == "RUNNING"
    entries = [asked.open for asked in game.asked]
    assert entries == ([False, True] if kind == "drain" else [])
    assert scene.agenda.cancel(G1, "eve").result == "already"


def test_a_cancel_while_the_application_takes_its_time_is_in_time(scene, monkeypatch):
    game = scene.start(players=0)
    scene.begin()
    scene.phase("waiting")
    read, held, reading = scene.standing.globaldb.read_records, Event(), Event()

    def slowly(*words):
        reading.set()
        held.wait()
        return read(*words)

    monkeypatch.setattr(scene.standing.globaldb, "read_records", slowly)
    monkeypatch.setattr("roles.daemon.errand._Count.look", lambda self, record: (0, True))
    reading.wait(5)
    assert scene.agenda.cancel(G1, "eve").result == "ok"
    held.set()
    scene.phase("cancelled")
    assert scene.keeper.state == "RUNNING" and game.asked[-1].open


def test_a_cancel_while_it_is_being_ended_is_too_late(scene):
    game = scene.start(saves=True)
    until(lambda: scene.keeper.entry.saves)
    game.answers[SaveProcess] = lambda asked: gevent.sleep(9)
    scene.begin()
    scene.phase("waiting"), scene.empty()
    scene.phase("ending")
    outcome = scene.agenda.cancel(G1, "eve")
    assert (outcome.result, outcome.detail) == ("failed", "too late: it is being ended")


# ---- restart when empty


def test_a_restart_waits_with_its_entry_open_and_closes_it_when_nobody_is_there(scene):
    game = scene.start(players=2)
    pid = scene.keeper.pid
    scene.begin("restart-when-empty")
    scene.phase("waiting"), scene.looks(10)
    assert not game.asked
    scene.empty()
    scene.phase("closing"), until(lambda: game.asked)
    scene.empty()
    scene.phase("done")
    assert scene.phases == ["waiting", "closing", "ending", "done"] and scene.keeper.pid not in (0, pid)
    assert scene.log.index("closing") < scene.log.index("entry False") < scene.log.index("ending")


def test_whoever_slips_in_is_let_play(scene):
    game = scene.start(players=0)
    scene.begin("restart-when-empty")
    scene.empty()
    until(lambda: game.asked)
    scene.report(1)
    scene.phase("waiting")
    assert [asked.open for asked in game.asked] == [False, True] and scene.keeper.state == "RUNNING"
    scene.empty(), scene.empty()
    scene.phase("done")


def test_a_restart_at_its_deadline_is_left_as_it_is(scene):
    game = scene.start(players=4)
    scene.begin("restart-when-empty", deadline_s=0.1)
    failed = scene.phase("failed")
    assert failed.detail == "its deadline came, and 4 players were still there; nothing was done"
    assert scene.keeper.state == "RUNNING" and not game.asked


# ---- a daemon that goes on


def test_what_was_closing_is_closed_and_told(scene):
    game = scene.start(players=1)
    left(scene, "closing", notice="x")
    resumed(scene)
    scene.phase("waiting")
    assert game.names() == ["SetEntry", "ExecuteGm"] and scene.phases == ["announcing", "waiting"]


@pytest.mark.parametrize(("announced", "times"), [(False, 1), (True, 0)])
def test_what_may_have_been_announced_is_not_announced_again(scene, announced, times):
    game = scene.start(players=1)
    left(scene, "announcing", notice="x", announced=announced)
    resumed(scene)
    scene.phase("waiting")
    assert game.names().count("ExecuteGm") == times


def test_what_was_waiting_closes_again_and_waits_on(scene):
    game = scene.start(players=1)
    left(scene, "waiting", notice="x", announced=True)
    resumed(scene)
    until(lambda: game.asked)
    scene.looks()
    assert game.names() == ["SetEntry"] and scene.task.phase == "waiting"
    scene.empty()
    scene.phase("done")


def test_a_restart_that_had_closed_opens_again_for_whoever_is_there(scene):
    game = scene.start(players=2)
    left(scene, "closing", "restart")
    resumed(scene)
    scene.phase("waiting")
    assert [asked.open for asked in game.asked] == [True]


def test_a_restart_that_had_closed_is_opened_when_it_is_cancelled(scene):
    game = scene.start(players=0)
    left(scene, "closing", "restart")
    resumed(scene)
    scene.agenda.cancel(G1, "eve")
    scene.phase("cancelled")
    assert game.asked[-1].open


def test_what_was_being_ended_and_runs_still_is_ended_once(scene):
    scene.start()
    left(scene, "ending")
    resumed(scene)
    scene.phase("done")
    assert scene.keeper.state == "STOPPED" and scene.keeper.starts.pending == 1


def test_what_has_ended_meanwhile_is_done(scene):
    scene.start()
    left(scene, "ending")
    scene.keeper.stop(5)
    resumed(scene)
    assert scene.phase("done") and not scene.game.asked


@pytest.mark.parametrize(
    ("kind", "detail"), [("drain", "it was ended, and somebody has started it"), ("restart", "runs again")]
)
def test_what_was_started_again_meanwhile_is_left_alone(scene, kind, detail):
    scene.start()
    left(scene, "ending", kind, incarnation="the run before")
    pid = scene.keeper.pid
    resumed(scene)
    assert detail in scene.phase("done").detail
    assert (scene.keeper.state, scene.keeper.pid) == ("RUNNING", pid)


def test_a_restart_that_the_daemon_before_died_in_is_done_once(scene):
    scene.start()
    left(scene, "ending", "restart")
    pid = scene.keeper.pid
    resumed(scene)
    scene.phase("done")
    again = scene.keeper.pid
    assert again not in (0, pid)
    scene.daemon()._resume()
    scene.looks()
    assert scene.keeper.pid == again


def test_one_that_had_declined_is_failed_and_not_asked_again(scene):
    game = scene.start(saves=True)
    until(lambda: scene.keeper.entry.saves)
    game.answers[SaveProcess] = refused("in a battle")
    left(scene, "ending")
    scene.keeper.note_task("t1")
    assert scene.keeper.stop(5).result == "failed"
    asked = len(game.asked)
    resumed(scene)
    assert "declined" in scene.phase("failed").detail
    assert game.names()[asked:] == ["SetEntry"] and scene.keeper.state == "RUNNING"


@pytest.mark.parametrize("phase", ["closing", "waiting"])
@pytest.mark.parametrize("kind", ["drain", "restart"])
def test_an_older_copy_of_globaldb_ends_nothing_a_second_time(scene, kind, phase):
    """It was restored from a backup of the time before the end; our disk knows better."""
    scene.start(players=0)
    scene.keeper.note_task("t1")
    scene.keeper.restart(5)
    pid = scene.keeper.pid
    scene.game.lose()
    scene.join()
    left(scene, phase, kind)
    resumed(scene)
    assert scene.phase("done").detail == "it was ended for this task before"
    assert scene.keeper.pid == pid and not scene.game.asked


def test_a_daemon_that_ends_leaves_the_task_to_the_next_one(scene):
    game = scene.start(saves=True)
    until(lambda: scene.keeper.entry.saves)
    game.answers[SaveProcess] = lambda asked: gevent.sleep(9)
    scene.state.agenda = scene.agenda
    scene.begin()
    scene.phase("waiting"), scene.empty()
    scene.phase("ending")
    until(lambda: "SaveProcess" in game.names())
    scene.state.close()
    scene.looks(10)
    assert scene.task.phase == "ending" and game.names() == ["SetEntry", "SaveProcess"], (
        "nobody opens its entry again"
    )


def test_a_stop_that_takes_too_long_fails_and_opens_no_entry(scene):
    scene.start(saves=True)
    until(lambda: scene.keeper.entry.saves)
    game, late = scene.game, scene.keeper._late
    game.answers[SaveProcess] = lambda asked: late() or gevent.sleep(9)
    scene.begin()
    scene.phase("waiting"), scene.empty()
    assert "still saving" in scene.phase("failed").detail
    assert [asked.open for asked in game.asked if isinstance(asked, SetEntry)] == [False]


def test_a_task_of_a_process_that_is_configured_no_more_is_failed(scene):
    scene.start()
    left(scene, "waiting")
    keeper = scene.state.keepers.pop(G1)
    try:
        resumed(scene)
        assert scene.phase("failed").detail == "it is not configured here any more"
    finally:
        scene.state.keepers[G1] = keeper


# ---- what is not ours, and globaldb that is away


def test_while_the_machine_is_not_ours_nothing_is_done(scene):
    game = scene.start()
    scene.ours = False
    assert "has just begun" in scene.begin().detail
    scene.standing.globaldb.write_task(Task("t1", "drain", G1, "ada"))
    following = gevent.spawn(scene.agenda.follow)
    scene.looks(10)
    assert not game.asked and scene.task.phase == "closing"
    scene.ours = True
    scene.phase("waiting")
    scene.ours = False
    scene.empty()
    scene.looks(10)
    assert scene.task.phase == "waiting"
    scene.ours = True
    scene.empty()
    scene.phase("done")
    following.kill()


def test_an_act_waits_until_its_phase_is_written(scene, monkeypatch):
    game = scene.start(players=1)
    scene.begin()
    scene.phase("waiting")
    write, down = scene.standing.globaldb.write_task, [True]

    def failing(task):
        if down[0]:
            raise StoreDown("away")
        write(task)

    monkeypatch.setattr(scene.standing.globaldb, "write_task", failing)
    scene.report(0), scene.looks(5), scene.report(0), scene.looks(5), scene.report(0), scene.looks(10)
    assert scene.keeper.state == "RUNNING" and scene.task.phase == "waiting" and game.names() == ["SetEntry"]
    down[0] = False
    scene.empty()
    scene.phase("done")
    assert scene.keeper.state == "STOPPED"


# ---- counting


@pytest.mark.parametrize(
    ("records", "empty"),
    [
        ([(0, "1")], False),
        ([(0, "1"), (0, "1"), (0, "1")], False),
        ([(0, "1"), (0, "2")], False),
        ([(0, "1"), (0, "2"), (0, "2")], False),
        ([(0, "1"), (0, "2"), (0, "3")], True),
        ([(5, "1"), (0, "2"), (0, "3")], True),
        ([(0, "1"), (0, "2"), (1, "3"), (0, "4")], False),
        ([(0, "1"), (0, "2"), (None, "3"), (0, "4")], False),
        ([(0, "1"), (0, "2"), (1, "2"), (0, "3")], False),
        ([(0, None), (0, "1"), (0, "2")], False),
        ([(0, "1"), (0, "2"), (0, None), (0, "3")], True),
    ],
)
def test_nobody_is_counted_by_reports_that_changed(records, empty):
    count = _Count()
    for players, lastupdate in records:
        _, found = count.look(("{}" if players is None else f'{{"players": {players}}}', lastupdate))
    assert found is empty
    count.begin()
    assert count.look(('{"players": 0}', "9")) == (0, False)


@pytest.mark.parametrize(
    ("info", "players"),
    [
        ('{"players": 7}', 7), ('{"players": 0}', 0), (None, -1), ("", -1), ("{}", -1), ("[]", -1), ("{", -1),
        ("5", -1),
        ('{"players": -1}', -1), ('{"players": true}', -1), ('{"players": 1.5}', -1), ('{"players": "7"}', -1),
        ('{"players": null}', -1), ("[" * 5000, -1),
    ],
)  # fmt: skip
def test_what_is_no_count_is_none(info, players):
    assert players_of(info) == players


def test_answers_that_are_not_waited_for_are_answers(scene):
    """The stand-in of these tests answers as an application does."""
    game = scene.start()
    assert game.application.execute(ExecuteGm("i", "look", {}, "ada"), 5) == GmAnswer({"ran": "look"})
