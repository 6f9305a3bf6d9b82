"""A process whose application can save is asked to before it is signalled: keeper, link and process are real."""

import os
import signal
import time

import gevent
import pytest
from gevent.event import Event

from agent import lifecycle
from agent.errors import Refused
from agent.messages import ProcessSaved, SaveProcess, SaveProgressed
from roles.daemon.saving import spoken
from tests.roles.daemon.applying import Game, refused
from tests.roles.daemon.conftest import end_marked
from tests.roles.daemon.keeping import Daemon
from tests.waiting import until

WAIT_S = 10


@pytest.fixture
def born(tmp_path):
    """`born()`: a daemon over one state folder, after the one before it has ended."""
    daemons = []

    def make():
        if daemons:
            daemons.pop().close()
        daemon = Daemon(tmp_path / "state")
        daemon.means.applications.on_change = lambda a: daemon.keepers[a.key].declared(a.incarnation, a.saves)
        daemons.append(daemon)
        return daemon

    yield make
    daemons[0].close()
    end_marked(daemons[0].means.spawner.owner)


@pytest.fixture
def daemon(born):
    return born()


class Server:
    """A process that writes each TERM down, and its application."""

    def __init__(self, daemon, folder, name="game1", **fields):
        self.daemon = daemon
        self.heard = folder / f"{name}.heard"
        told, end = f"echo TERM >> {self.heard}", "exit 0" if fields.pop("ends", True) else ":"
        script = f"trap '{told}; {end}' TERM; echo up >> {self.heard}; while :; do sleep 0.02; done"
        self.command = ["sh", "-c", script]
        self.keeper = daemon.keeper(self.command, name, **{"save_timeout_s": 5.0, **fields})
        self.runs = 0

    def start(self):
        assert self.keeper.start(WAIT_S).result == "ok"
        return self.join()

    def join(self, **can):
        """Its application joins, and has been heard of."""
        self.runs = max(1, self.runs)
        until(
            lambda: self.heard.exists() and "up\n" * self.runs in self.heard.read_text().replace("TERM\n", "")
        )
        game = Game(self.daemon.means.applications, self.keeper.key, self.keeper.incarnation, [], **can)
        until(lambda: self.keeper.entry.saves or not game.application.saves)
        return game

    @property
    def terms(self):
        return self.heard.read_text().count("TERM")

    @property
    def save(self):
        return self.keeper.entry.life.save


@pytest.fixture
def server(daemon, tmp_path):
    return Server(daemon, tmp_path)


def holding(game, answer=None):
    """It does not answer until the event is set."""
    go = Event()

    def save(_asked):
        go.wait()
        return answer or ProcessSaved("812 players")

    game.answers[SaveProcess] = save
    return go


def asked(game, times=1):
    until(lambda: len(game.asked) >= times, what=f"{times} times asked, not {game.asked}")


# ---- how it is to be


def test_it_is_asked_and_signalled_only_when_it_has_saved(server):
    game = server.start()
    go = holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    gevent.sleep(0.1)
    assert (server.keeper.state, server.save, server.terms) == ("STOPPING", lifecycle.ASKED, 0)
    assert game.asked[0].reason == "stop" and game.asked[0].id
    go.set()
    outcome = stopping.get()
    assert (outcome.result, outcome.detail) == ("ok", "saved, then code 0")
    assert (server.keeper.state, server.save, server.terms) == ("STOPPED", lifecycle.SAVED, 1)


def test_one_that_cannot_save_is_signalled_at_once(server):
    assert server.keeper.start(WAIT_S).result == "ok"
    game = server.join(saves=False)
    outcome = server.keeper.stop(WAIT_S)
    assert (outcome.result, outcome.detail, game.asked, server.terms) == ("ok", "code 0", [], 1)


def test_the_next_run_is_not_asked_before_it_has_said_that_it_saves(server):
    server.start()
    assert server.keeper.stop(WAIT_S).result == "ok"
    assert server.keeper.start(WAIT_S).result == "ok" and not server.keeper.entry.saves
    outcome = server.keeper.stop(WAIT_S)
    assert (outcome.result, server.save) == ("ok", "") and "saved" not in outcome.detail


def test_it_may_end_by_itself_after_it_has_saved(server):
    game = server.start()

    def save(_asked):
        gevent.spawn_later(0.05, os.kill, server.keeper.pid, signal.SIGKILL)
        return ProcessSaved("")

    game.answers[SaveProcess] = save
    outcome = server.keeper.stop(WAIT_S)
    assert outcome.result == "ok" and outcome.detail.startswith("saved, then ")


# ---- what declines


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refused("in a battle"), "it declined to stop: in a battle; it goes on"),
        (refused(""), "it declined to stop: no reason given; it goes on"),
        (refused("a\nb\x1b[2J" + "x" * 5000), "it declined to stop: a\\nb\\x1b"),
        (ValueError("a bug"), "it declined to stop: its save failed: "),
        (refused("what is that?", "bad_request"), "it declined to stop: its save failed: what is that?"),
    ],
    ids=["reason", "no reason", "long", "bug", "unknown"],
)
@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_what_declines_goes_on(server, verb, answer, told):
    game = server.start()
    game.answers[SaveProcess] = answer
    pid = server.keeper.pid
    outcome = getattr(server.keeper, verb)(WAIT_S)
    assert outcome.result == "failed" and outcome.detail.startswith(told) and len(outcome.detail) < 400
    assert "\x1b" not in outcome.detail and f"pid {pid}" in outcome.detail
    assert (server.keeper.state, server.keeper.wanted, server.keeper.pid) == ("RUNNING", "up", pid)
    assert (server.save, server.terms) == (lifecycle.DECLINED, 0)
    game.answers[SaveProcess] = ProcessSaved("")
    assert getattr(server.keeper, verb)(WAIT_S).result == "ok" and server.terms == 1


def test_by_force_what_declines_is_stopped_and_said_not_to_have_saved(server):
    game = server.start()
    game.answers[SaveProcess] = refused("in a battle")
    outcome = server.keeper.force_stop(WAIT_S)
    assert outcome.result == "failed" and server.terms == 1
    assert outcome.detail == (
        "it is gone (code 0), but had not acknowledged that it saved: it declined to stop: in a battle"
    )
    assert (server.keeper.state, server.keeper.wanted, server.save) == ("STOPPED", "down", lifecycle.UNSAVED)


def test_force_kills_what_saved_and_does_not_end(daemon, tmp_path):
    server = Server(daemon, tmp_path, ends=False, stop_timeout_s=0.3)
    server.start()
    assert server.keeper.force_stop(WAIT_S).detail == "saved, then signal KILL"
    assert server.terms == 1


def test_a_polite_stop_kills_nothing(daemon, tmp_path):
    server = Server(daemon, tmp_path, ends=False, stop_timeout_s=0.3)
    server.start()
    outcome = server.keeper.stop(WAIT_S)
    assert outcome.result == "failed" and "still running after" in outcome.detail and server.keeper.pid
    assert server.keeper.force_stop(WAIT_S).detail == "saved, then signal KILL", "force comes later"


def test_force_joins_a_stop_that_is_being_asked(server):
    game = server.start()
    go = holding(game, refused("no"))
    game.answers[SaveProcess] = lambda _asked: go.wait() and _raise(refused("no"))
    stops = [gevent.spawn(server.keeper.stop, WAIT_S), gevent.spawn(server.keeper.force_stop, WAIT_S)]
    asked(game)
    gevent.sleep(0.05)
    assert len(game.asked) == 1 and server.terms == 0
    go.set()
    assert {stop.get().result for stop in stops} == {"failed"} and server.keeper.state == "STOPPED"


def _raise(error):
    raise error


# ---- silence


def test_a_silent_one_is_signalled_when_its_time_is_up_and_never_called_saved(daemon, tmp_path):
    server = Server(daemon, tmp_path, save_timeout_s=0.3)
    game = server.start()
    go = holding(game)
    begun = time.monotonic()
    outcome = server.keeper.stop(WAIT_S)
    assert 0.3 <= time.monotonic() - begun < 3
    assert outcome.result == "failed" and server.terms == 1
    assert outcome.detail == (
        "it is gone (code 0), but had not acknowledged that it saved: no word of its saving for 0.3 s"
    )
    go.set()
    gevent.sleep(0.05)
    assert (server.keeper.state, server.save) == ("STOPPED", lifecycle.UNSAVED), "too late"


def test_words_of_progress_keep_it_waiting_and_are_told(daemon, tmp_path):
    server = Server(daemon, tmp_path, save_timeout_s=0.4)
    game = server.start()
    go, said = holding(game), []
    stopping = gevent.spawn(server.keeper.stop, WAIT_S, said.append)
    asked(game)
    for done in range(1, 6):
        gevent.sleep(0.15)
        server.keeper.progressed(server.keeper.incarnation, spoken(SaveProgressed(done, 5, "players")))
    until(lambda: len(said) == 5)
    assert said[-1] == server.keeper.reason == "saving 5/5 (players)" and server.terms == 0
    go.set()
    assert stopping.get().detail == "saved, then code 0"


def test_a_silence_after_some_words_says_how_far_it_was(daemon, tmp_path):
    server = Server(daemon, tmp_path, save_timeout_s=0.3)
    game = server.start()
    holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    server.keeper.progressed(server.keeper.incarnation, "saving 3/5")
    assert "no word of its saving for 0.3 s, after saving 3/5" in stopping.get().detail


def test_a_caller_whose_time_is_over_is_told_that_it_saves_still(server):
    game = server.start()
    go = holding(game)
    outcome = server.keeper.stop(0.1)
    assert outcome.result == "failed" and outcome.detail.startswith(
        "still saving after 0.1 s (no word of how far"
    )
    again = server.keeper.start(1)
    assert again.result == "failed" and "still stopping" in again.detail
    go.set()
    until(lambda: server.keeper.state == "STOPPED")
    assert server.save == lifecycle.SAVED


def test_progress_of_another_run_or_of_none_counts_for_nothing(server):
    game = server.start()
    server.keeper.progressed(server.keeper.incarnation, "saving 1/2")
    go = holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    server.keeper.progressed("another", "saving 2/2")
    gevent.sleep(0.05)
    assert not server.keeper.reason
    go.set()
    assert stopping.get().result == "ok"


# ---- links that come and go


def test_one_that_dies_while_it_saves_has_not_saved(server):
    game = server.start()
    holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    os.kill(server.keeper.pid, signal.SIGKILL)
    outcome = stopping.get()
    assert outcome.result == "failed" and server.save == lifecycle.UNSAVED
    assert outcome.detail == (
        "it is gone (signal KILL), but had not acknowledged that it saved: it ended before"
    )


def test_one_whose_link_is_lost_is_asked_again_when_it_has_joined_again(server):
    game = server.start()
    holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    game.lose()
    gevent.sleep(0.05)
    assert (server.save, server.terms) == (lifecycle.ASKED, 0)
    again = server.join()
    assert stopping.get().detail == "saved, then code 0"
    assert len(game.asked) == len(again.asked) == 1


def test_one_that_has_no_link_is_waited_for(server):
    server.start().lose()
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    until(lambda: server.save == lifecycle.ASKED)
    assert server.terms == 0
    server.join()
    assert stopping.get().detail == "saved, then code 0"


def test_one_that_never_joins_again_is_signalled_when_its_time_is_up(daemon, tmp_path):
    server = Server(daemon, tmp_path, save_timeout_s=0.3)
    server.start().lose()
    outcome = server.keeper.stop(WAIT_S)
    assert outcome.result == "failed" and server.terms == 1
    assert "no word of its saving for 0.3 s, and it has no link" in outcome.detail


def test_a_link_of_another_run_is_not_asked(server):
    server.start().lose()
    other = Game(server.daemon.means.applications, server.keeper.key, "another run", [])
    outcome = server.keeper.stop(0.2)
    assert "still saving" in outcome.detail and not other.asked and not server.terms


# ---- several callers


def test_two_stops_ask_once_and_both_hear_how_it_ended(server):
    game = server.start()
    go = holding(game)
    stops = [gevent.spawn(server.keeper.stop, WAIT_S) for _ in range(3)]
    asked(game)
    gevent.sleep(0.05)
    go.set()
    assert {stop.get().detail for stop in stops} == {"saved, then code 0"}
    assert len(game.asked) == 1 and server.terms == 1


def test_a_kill_waits_for_nothing_and_the_stop_hears_of_it(server):
    game = server.start()
    holding(game)
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    server.keeper.progressed(server.keeper.incarnation, "saving 3/5")
    killed = server.keeper.kill(WAIT_S)
    assert (killed.result, killed.detail) == ("ok", "signal KILL")
    told = stopping.get()
    assert told.result == "failed"
    assert told.detail.endswith("had not acknowledged that it saved: it was killed before, saving 3/5")


# ---- restart


def test_a_restart_saves_first(server):
    game = server.start()
    pid = server.keeper.pid
    outcome = server.keeper.restart(WAIT_S)
    assert outcome.result == "ok" and outcome.pid == server.keeper.pid != pid
    assert game.asked[0].reason == "restart" and server.terms == 1 and server.save == ""


def test_a_restart_without_its_word_says_so(daemon, tmp_path):
    server = Server(daemon, tmp_path, save_timeout_s=0.2)
    game = server.start()
    holding(game)
    outcome = server.keeper.restart(WAIT_S)
    assert outcome.result == "failed"
    assert outcome.detail.startswith(
        f"it runs again, pid {server.keeper.pid}, but had not acknowledged that it saved"
    )


def test_a_crash_after_a_saved_restart_is_not_called_saved(daemon, tmp_path):
    server = Server(daemon, tmp_path, restart="on-failure", backoff_s=60.0, backoff_max_s=60.0)
    server.start()
    assert server.keeper.restart(WAIT_S).result == "ok"
    os.kill(server.keeper.pid, signal.SIGKILL)
    until(lambda: server.keeper.state == "BACKOFF")
    outcome = server.keeper.stop(WAIT_S)
    assert (outcome.result, outcome.detail) == ("ok", "signal KILL")


# ---- a daemon that dies in between


def test_the_next_daemon_asks_again(server, born):
    old = server.daemon
    game = server.start()
    holding(game)
    gone = gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    on_disk = old.journal.read()[server.keeper.key]
    assert (on_disk.life.save, on_disk.life.state, on_disk.saves, on_disk.signalled) == (
        "asked",
        "STOPPING",
        True,
        False,
    )
    server.daemon = born()
    assert "the daemon is stopping; the process goes on" in gone.get().detail
    game.lose()
    server.keeper = server.daemon.keeper(server.command, save_timeout_s=5.0)
    assert (server.keeper.state, server.save, server.terms) == ("STOPPING", lifecycle.ASKED, 0)
    again = server.join()
    assert server.keeper.stop(WAIT_S).detail.startswith("saved, then ")
    assert len(again.asked) == 1 and server.terms == 1


def test_the_next_daemon_signals_nobody_twice_who_has_saved(daemon, born, tmp_path):
    server = Server(daemon, tmp_path, ends=False, stop_timeout_s=30.0)
    server.start()
    stopping = gevent.spawn(server.keeper.stop, WAIT_S)
    until(lambda: server.terms == 1)
    keeper = born().keeper(server.command)
    assert "the daemon is stopping" in stopping.get().detail
    gevent.sleep(0.1)
    assert (keeper.entry.life.save, keeper.state, server.terms) == (lifecycle.SAVED, "STOPPING", 1)
    os.kill(keeper.pid, signal.SIGKILL)
    until(lambda: keeper.state == "STOPPED")
    assert keeper.entry.life.save == lifecycle.SAVED


def test_what_ended_while_no_daemon_was_there_has_not_saved(server, born):
    game = server.start()
    holding(game)
    gevent.spawn(server.keeper.stop, WAIT_S)
    asked(game)
    pid = server.keeper.pid
    server.daemon.keepers[server.keeper.key].close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    keeper = born().keeper(server.command)
    until(lambda: keeper.state == "STOPPED")
    assert keeper.entry.life.save == lifecycle.UNSAVED and keeper.entry.unsaved.startswith("it ended before")


# ---- in words


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (SaveProgressed(812, 2000, ""), "saving 812/2000"),
        (SaveProgressed(812, 2000, "players"), "saving 812/2000 (players)"),
        (SaveProgressed(812, 0, ""), "saving 812"),
        (SaveProgressed(0, 0, ""), "saving"),
        (SaveProgressed(0, 9, "a\nb\x1b[2J"), "saving 0/9 (a\\nb"),
    ],
)
def test_progress_in_words(progress, words):
    assert spoken(progress).startswith(words) and "\x1b" not in spoken(progress)


def test_a_link_that_is_closed_already_is_no_refusal(server):
    game = server.start()
    game.answers[SaveProcess] = lambda _asked: _raise(Refused("unreachable", "closed"))
    assert "still saving" in server.keeper.stop(0.2).detail and server.terms == 0
