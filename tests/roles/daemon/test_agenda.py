"""Which tasks there are on this machine: begun by commands, one per process, found again by the next daemon."""

import gevent
import pytest

from agent.errors import StoreDown
from agent.task import Task
from roles.daemon import handlers
from roles.daemon.agenda import KEPT_S
from tests.roles.daemon.standing import FAR, key
from tests.roles.daemon.tasking import G1, Scene
from tests.waiting import until


@pytest.fixture
def scene(standing, monkeypatch):
    made = Scene(standing, monkeypatch)
    yield made
    made.agenda.close()
    if hasattr(made, "game"):
        made.game.lose()


def test_a_task_that_begins_says_how_many_players_there_are_and_until_when(scene):
    scene.start(players=3)
    outcome = scene.begin(deadline_s=3600.0)
    assert outcome.result == "ok" and outcome.detail.startswith("begun (3 players, at the latest ")
    assert scene.task.begun_at > 1e9 and scene.task.deadline_at - scene.task.begun_at == pytest.approx(
        3600, abs=0.01
    )
    assert (scene.task.user, scene.task.origin, scene.task.kind) == ("ada", "10.0.0.9:1", "drain")


@pytest.mark.parametrize(
    ("joined", "notice", "told"),
    [
        (None, "", "it has not joined its daemon, so it cannot be asked; stop it"),
        ({"entry": False}, "", "its application has no way to close its entry"),
        ({"commands": []}, "x", "it cannot announce: no GM command"),
        (
            {"commands": [{"name": "broadcast"}]},
            "x",
            "the first argument of its GM command broadcast is no",
        ),
        (
            {"commands": [{"name": "broadcast", "arguments": [{"name": "n", "type": "int"}]}]},
            "x",
            "is no text",
        ),
        (
            {"commands": [{"name": "broadcast", "arguments": [{"name": "t"}, {"name": "u"}]}]},
            "x",
            "u missing",
        ),
    ],
)
def test_what_cannot_be_done_is_not_begun(scene, joined, notice, told):
    scene.start(**(joined or {}))
    if joined is None:
        scene.game.lose()
    outcome = scene.begin(notice=notice)
    assert outcome.result == "failed" and told in outcome.detail and scene.task is None


def test_one_that_does_not_run_is_told_so(scene):
    assert scene.begin().detail == "it is STOPPED"


@pytest.mark.parametrize("info", [None, '{"players": "3"}', "rubbish"])
def test_one_that_does_not_count_its_players_is_told_so(scene, info):
    scene.start(players=None)
    if info:
        scene.standing.record(G1, info=info)
    assert "it does not report `players`" in scene.begin().detail and scene.task is None


def test_one_task_at_a_time(scene):
    scene.start()
    assert scene.begin().result == "ok"
    other = scene.begin("restart-when-empty")
    assert other.result == "failed" and other.detail == "a drain goes on there, by ada: cancel it first"
    again = scene.begin()
    assert (
        again.result == "already"
        and again.detail.startswith("drain since ")
        and again.detail.endswith(" by ada")
    )


def test_of_two_that_begin_at_once_there_is_one(scene):
    scene.start()
    begun = [gevent.spawn(scene.begin) for _ in range(3)]
    assert sorted(each.get().result for each in begun) == ["already", "already", "ok"]
    assert len(scene.agenda._running) == 1


def test_after_its_end_another_may_begin(scene):
    scene.start()
    scene.begin()
    scene.phase("waiting"), scene.agenda.cancel(G1, "ada"), scene.phase("cancelled")
    assert scene.begin().result == "ok"


def test_a_task_that_cannot_be_written_is_not_begun(scene, monkeypatch):
    game = scene.start()

    def down(_task):
        raise StoreDown("away")

    with monkeypatch.context() as away:
        away.setattr(scene.standing.globaldb, "write_task", down)
        with pytest.raises(StoreDown):
            scene.begin()
    scene.looks()
    assert not game.asked and scene.begin().result == "ok"


def test_a_cancel_of_nothing_changes_nothing(scene):
    assert scene.agenda.cancel(G1, "ada").detail == "no task goes on there"


def test_the_next_daemon_takes_up_what_is_of_its_machine_and_not_done(scene):
    scene.start(players=1)
    db = scene.standing.globaldb
    for task in (
        Task("t1", "drain", G1, "ada", phase="waiting"),
        Task("t2", "drain", key("far", FAR), "ada", phase="waiting"),
        Task("t3", "drain", key("old"), "ada", phase="done", since_at=1.0),
        Task("t4", "drain", key("new"), "ada", phase="done", since_at=2e10),
        Task("t5", "drain", "rubbish", "ada", phase="waiting"),
    ):
        db.write_task(task)
    assert KEPT_S < 2e9
    following = gevent.spawn(scene.agenda.follow)
    until(lambda: scene.game.asked)
    following.kill()
    assert set(scene.agenda._errands) == {G1}
    assert {task.id for task in db.read_tasks().values()} == {"t1", "t2", "t4"}


def test_what_is_not_ours_is_not_taken_up_before_it_is(scene):
    scene.start(players=1)
    scene.standing.globaldb.write_task(Task("t1", "drain", G1, "ada", phase="waiting"))
    scene.ours = False
    following = gevent.spawn(scene.agenda.follow)
    scene.looks(5)
    assert not scene.agenda._errands
    scene.ours = True
    until(lambda: scene.game.asked)
    following.kill()


def test_a_bug_in_one_task_ends_that_one_and_is_told(scene, monkeypatch, caplog):
    scene.start()
    monkeypatch.setattr("roles.daemon.errand.Errand._wait", lambda self, keeper: 1 / 0)
    scene.begin()
    assert (
        scene.phase("failed").detail == "internal error: see the log of its daemon"
        and "ZeroDivisionError" in caplog.text
    )


def test_a_user_sees_the_tasks_of_what_he_may_list(scene):
    scene.standing.user("ada", "* on *")
    scene.standing.user("nil")
    scene.start(players=1)
    scene.begin(notice="x")
    scene.phase("waiting")
    (task,) = handlers.read_tasks(scene.state, scene.standing.peer(), None).tasks
    assert (task["key"], task["phase"], task["notice"]) == (G1, "waiting", "x")
    assert handlers.read_tasks(scene.state, scene.standing.peer("nil"), None).tasks == []


def test_a_cancel_is_written_before_it_is_answered_and_the_next_daemon_knows_it(scene):
    scene.start(players=1)
    scene.begin()
    scene.phase("waiting")
    assert scene.agenda.cancel(G1, "kim").result == "ok"
    assert scene.task.cancelled_by == "kim"
    scene.agenda.close()
    later = scene.daemon()
    following = gevent.spawn(later.follow)
    assert scene.phase("cancelled").detail == "by kim"
    following.kill()


def test_a_cancel_that_comes_before_a_new_daemon_has_looked_finds_the_task(scene):
    scene.start(players=1)
    scene.standing.globaldb.write_task(Task("t1", "drain", G1, "ada", phase="waiting"))
    scene.ours = False
    assert "has just begun" in scene.agenda.cancel(G1, "kim").detail
    scene.ours = True
    assert scene.agenda.cancel(G1, "kim").result == "ok"
    scene.phase("cancelled")
