"""What a session makes of notices, without a network."""

import pytest

from agent.address import Address
from agent.errors import ConnectFailed
from agent.gm import Answer
from agent.messages import GmAnswered, PictureChanged, TargetFinished, TargetProgressed, WatchPicture
from roles.admin.session import Session

KEYS = ["大区1.10.0.0.1.a", "大区1.10.0.0.1.b"]
WORLD = [["大区1", "10.0.0.1", [{"name": "a"}, {"name": "b"}]]]


@pytest.fixture
def session():
    """With a whole picture of two processes."""
    session = Session(Address("127.0.0.1", 1), "ada", "x")
    session.changed(PictureChanged(reset=True, regions={"大区1": {}}))
    session.changed(PictureChanged(world=WORLD))
    session.changed(PictureChanged(processes=[[key, "RUNNING"] for key in KEYS]))
    return session


def test_a_first_picture_is_shown_once_it_is_whole(session):
    assert session.picture.verdicts() == {"RUNNING": 2}


def test_nobody_sees_half_of_a_picture_that_begins_anew(session):
    session.changed(PictureChanged(reset=True, regions={"大区1": {}, "大区2": {}}))
    assert session.picture.verdicts() == {"RUNNING": 2}
    session.changed(PictureChanged(world=[*WORLD, ["大区2", "10.0.0.1", []]]))
    session.changed(PictureChanged(processes=[[KEYS[0], "DEAD"]]))
    assert session.picture.verdicts() == {"RUNNING": 2} and list(session.picture.regions) == ["大区1"]
    session.changed(PictureChanged(processes=[[KEYS[1], "DEAD"]]))
    assert session.picture.verdicts() == {"DEAD": 2} and list(session.picture.regions) == ["大区1", "大区2"]


def test_a_picture_that_never_gets_whole_is_shown_in_the_end(session, monkeypatch):
    session.changed(PictureChanged(reset=True, regions={"大区3": {}}))
    assert list(session.picture.regions) == ["大区1"]
    monkeypatch.setattr("roles.admin.session.OVERDUE_S", -1.0)
    session.changed(PictureChanged(machines=[]))
    assert list(session.picture.regions) == ["大区3"]


def test_trouble_is_told_of_the_picture_that_is_shown_and_ends_with_the_next_good_one(session):
    session.changed(PictureChanged(reset=True, regions={"大区1": {}}))  # one is coming
    session.changed(PictureChanged(trouble="globaldb is away"))
    assert session.picture.trouble == "globaldb is away" and session.picture.verdicts() == {"RUNNING": 2}
    session.changed(PictureChanged(world=WORLD))
    session.changed(PictureChanged(processes=[[key, "DEAD"] for key in KEYS]))
    assert not session.picture.trouble and session.picture.verdicts() == {"DEAD": 2}


def test_a_picture_that_could_not_be_read_is_old_from_then_on(session):
    with pytest.raises(ConnectFailed):
        session.subscribe(WatchPicture(follow=True))
    assert "not connected" in session.picture.trouble


def test_progress_goes_to_the_command_it_belongs_to(session):
    came, heard = [], []
    with session.progress_of("c1", came.append, lambda target, words: heard.append((target, words))):
        session.finished(TargetFinished("c1", [KEYS[0], "ok", "", 7, "a newer daemon's"]))
        session.finished(TargetFinished("c2", [KEYS[1], "ok", "", 8]))
        session.said(TargetProgressed("c1", KEYS[1], "saving 8/20"))
        session.said(TargetProgressed("c2", KEYS[1], "saving 9/20"))
    session.finished(TargetFinished("c1", [KEYS[1], "ok", "", 8]))
    session.said(TargetProgressed("c1", KEYS[1], "saving 10/20"))
    assert [(outcome.target, outcome.pid) for outcome in came] == [(KEYS[0], 7)]
    assert heard == [(KEYS[1], "saving 8/20")]


def test_verdicts_go_to_the_call_they_belong_to(session):
    came = []
    with session.answers_of("i1", came.extend):
        session.answered(GmAnswered("i1", [[KEYS[0], "answered", {"online": 3}, "", "a newer daemon's"]]))
        session.answered(GmAnswered("i2", [[KEYS[1], "answered", 1, ""]]))
    session.answered(GmAnswered("i1", [[KEYS[1], "answered", 1, ""]]))
    assert came == [Answer(KEYS[0], "answered", {"online": 3}, "")]


def test_a_catalogue_that_cannot_be_asked_for_is_the_one_before(session):
    session.refresh_catalogue()
    assert session.catalogue.processes == []
