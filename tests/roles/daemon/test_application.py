"""Who has joined, and what it can do."""

import pytest

from agent import messages
from agent.declaration import NONE_DECLARED
from agent.errors import ConfigError, LinkLost, NoReply, Refused
from agent.link import Peer
from agent.messages import ExecuteGm
from roles.daemon import application as module
from roles.daemon import handlers
from roles.daemon.application import Applications
from tests.roles.daemon.applying import Game, refused
from tests.roles.daemon.standing import key
from tests.waiting import until

KEY = key("game1")
EXECUTE = ExecuteGm("i", "kick", {"player": 1}, "ada")


@pytest.fixture
def applications():
    made = Applications()
    yield made
    for application in list(made):
        application.link.close("test over")


def test_one_that_joined_can_be_asked_over_its_link(applications):
    game = Game(applications, KEY, "run")
    application = applications.get(KEY)
    assert (application.incarnation, application.saves, application.entry, len(applications)) == (
        "run",
        True,
        True,
        1,
    )
    assert application.execute(EXECUTE, 5).answer == {"ran": "kick"}
    assert (
        application.save("s", "stop").text == "all of it"
        and application.set_entry(False, "drain").text == "ok"
    )
    assert game.asked == [EXECUTE, messages.SaveProcess("s", "stop"), messages.SetEntry(False, "drain")]


def test_a_reason_comes_as_it_was_said_and_silence_and_a_lost_link_are_told_apart(applications):
    game = Game(applications, KEY)
    game.answers[ExecuteGm] = refused("not in a battle")
    with pytest.raises(Refused, match=r"^not in a battle$") as no:
        game.application.execute(EXECUTE, 5)
    assert no.value.code == "refused"
    game.answers[ExecuteGm] = lambda asked: game.lose()
    with pytest.raises(LinkLost):
        game.application.execute(EXECUTE, 5)
    with pytest.raises(Refused, match="nothing was sent"):
        game.application.execute(EXECUTE, 5)
    from gevent import sleep

    slow = Game(applications, key("game2"))
    slow.answers[ExecuteGm] = lambda asked: sleep(9)
    with pytest.raises(NoReply):
        slow.application.execute(EXECUTE, 0.05)


def test_a_newer_link_takes_the_place_of_the_older_one_which_takes_nothing_away(applications):
    old, new = Game(applications, KEY, "run"), Game(applications, KEY, "run")
    until(lambda: old.link.closed_why)
    assert "replaced by a newer link" in old.link.closed_why and not new.link.closed_why
    applications.leave(old.application, "closed")
    assert applications.get(KEY) is new.application
    new.lose()
    assert applications.get(KEY) is None and list(applications) == []


def test_who_declares_again_is_taken_at_its_last_word_and_the_keeper_hears_of_each(applications):
    heard = []
    applications.on_change = lambda application: heard.append((application.key, application.saves))
    game = Game(applications, KEY)
    applications.declare(game.application, False, False, NONE_DECLARED)
    assert heard == [(KEY, True), (KEY, False)] and not game.application.declarations.commands


def test_words_of_progress_that_come_too_often_are_passed_over(applications, monkeypatch):
    game, now = Game(applications, KEY), [100.0]
    monkeypatch.setattr("roles.daemon.application.time.monotonic", lambda: now[0])
    told = 0
    for _ in range(1000):
        told += game.application.is_progress_due()
        now[0] += 0.001
    assert told == 5
    monkeypatch.undo()


def test_a_frame_over_its_limit_costs_the_link(applications):
    game = Game(applications, KEY)
    game.far.notify(messages.EventRaised("x", "y" * module.FRAME_BYTES))
    until(lambda: game.link.closed_why)
    assert "the limit is" in game.link.closed_why


# ---- what it says


@pytest.fixture
def spoken(standing):
    """A daemon's state, a game of it, and the peer that its link's messages come from."""
    game = Game(standing.state.applications, KEY)
    yield standing.state, game, Peer("app", KEY, "", game.link)
    game.lose()


def test_what_is_declared_wrong_is_told_and_the_one_before_stays(spoken):
    state, game, peer = spoken
    with pytest.raises(ConfigError, match=r"commands\[0\]"):
        handlers.declare_application(state, peer, messages.DeclareApplication(True, True, [{"name": "help"}]))
    assert "kick" in game.application.declarations.commands
    handlers.declare_application(state, peer, messages.DeclareApplication(False, False, []))
    assert not game.application.declarations.commands and not game.application.saves


def test_a_name_that_a_relay_vouches_for_speaks_for_no_application(spoken, standing):
    state, _game, _peer = spoken
    foreign = standing.peer(KEY, "app")
    for handler, message in (
        (handlers.declare_application, messages.DeclareApplication(True, True, [])),
        (handlers.save_progressed, messages.SaveProgressed(1, 2, "")),
        (handlers.event_raised, messages.EventRaised("x")),
    ):
        with pytest.raises(Refused, match="does not speak over a link of its own"):
            handler(state, foreign, message)


def test_an_application_may_ask_for_nothing():
    asked = {row.message for row in handlers.TABLE.rows.values() if "app" in row.ask}
    assert asked == {
        messages.DeclareApplication, messages.SaveProgressed, messages.EventRaised, messages.Ping, messages.Goodbye,
    }  # fmt: skip
