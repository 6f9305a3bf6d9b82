"""A stop that asks first: saved and gone is a success, everything else has its honest word, and a decline goes on."""

import os
import signal
from collections.abc import Iterator

import gevent
import pytest

from agent.messages import TargetProgressed
from tests.scenarios.games import FIRST, SECOND, game, joined, key, playing, start, status
from tests.scenarios.group import Admin, Group, alive
from tests.waiting import until

PLACES = {FIRST: ["patient1", "quick1", "busy1", "silent1", "dying1"], SECOND: ["slow1"]}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    programs = {
        "quick": game(),
        "patient": game(save="40", save_timeout_s=1.5),
        "busy": game(save="decline"),
        "silent": game(save="silent", save_timeout_s=1),
        "dying": game(save="die"),
        "slow": game(save="25"),
    }
    with playing(tmp_path_factory.mktemp("group"), programs, PLACES) as group:
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(FIRST)
    start(group, PLACES)
    yield admin
    admin.close()


def test_saved_and_gone_is_a_success_with_progress_on_the_way(group: Group, admin: Admin) -> None:
    outcome = admin.operate("stop", SECOND, "slow1", command="c1")[key("slow1", SECOND)]
    assert (outcome.result, outcome.detail) == ("ok", "saved, then code 0")
    assert not group.pids(key("slow1", SECOND))
    said = [notice.text for notice in admin.notices if isinstance(notice, TargetProgressed)]
    assert len(said) > 2 and all(text.startswith("saving ") and "/25" in text for text in said), said


def test_as_long_as_there_is_progress_nobody_loses_patience(admin: Admin) -> None:
    """It takes four seconds, and its save_timeout_s is 1.5."""
    outcome = admin.operate("stop", FIRST, "patient1")[key("patient1")]
    assert (outcome.result, outcome.detail) == ("ok", "saved, then code 0")


def test_who_declines_goes_on_and_is_not_called_stopped(group: Group, admin: Admin) -> None:
    (pid,) = group.pids(key("busy1"))
    outcome = admin.operate("stop", FIRST, "busy1")[key("busy1")]
    assert outcome.result == "failed" and "declined to stop: a match is running; it goes on" in outcome.detail
    assert group.pids(key("busy1")) == [pid]
    until(lambda: admin.verdicts()[key("busy1")] == "RUNNING", what="RUNNING")
    assert group.record(key("busy1"))["wanted"] == "up"
    assert status(admin, "busy1")["players"] == 3
    restarted = admin.operate("restart", FIRST, "busy1")[key("busy1")]
    assert restarted.result == "failed" and "declined" in restarted.detail
    assert group.pids(key("busy1")) == [pid]


def test_force_ends_it_all_the_same_and_says_what_it_had_not_acknowledged(group: Group, admin: Admin) -> None:
    done = group.admin_command(FIRST, f"stop {FIRST} busy1 --force")
    assert done.returncode == 2 and "--yes" in done.stderr, done
    done = group.admin_command(FIRST, f"stop {FIRST} busy1 --force", more=["--yes"])
    assert done.returncode == 1 and not group.pids(key("busy1"))
    assert "had not acknowledged that it saved: it declined to stop: a match is running" in done.stdout, done
    group.add_user("stopper", "list,stop on *")
    assert (
        group.admin_command(FIRST, f"stop {FIRST} quick1 --force", more=["--yes"], user="stopper").returncode
        == 4
    )


def test_force_waits_for_no_save_without_an_end(group: Group, admin: Admin) -> None:
    """It would take four seconds, with progress all the time; its save_timeout_s is 1.5."""
    outcome = admin.operate("force-stop", FIRST, "patient1")[key("patient1")]
    assert outcome.result == "failed" and not group.pids(key("patient1"))
    assert (
        "had not acknowledged that it saved: it had not saved within 1.5 s, after saving " in outcome.detail
    )


def test_who_says_nothing_gets_the_signal_and_no_good_word(group: Group, admin: Admin) -> None:
    outcome = admin.operate("stop", FIRST, "silent1")[key("silent1")]
    assert outcome.result == "failed" and not group.pids(key("silent1"))
    assert "had not acknowledged that it saved: no word of its saving for 1 s" in outcome.detail


def test_who_dies_while_saving_is_told_with_how_far_it_was(group: Group, admin: Admin) -> None:
    outcome = admin.operate("stop", FIRST, "dying1")[key("dying1")]
    assert outcome.result == "failed" and not group.pids(key("dying1"))
    assert "it is gone (code 4)" in outcome.detail and "it ended before, saving " in outcome.detail


def test_a_restart_saves_first(group: Group, admin: Admin) -> None:
    (pid,) = group.pids(key("quick1"))
    outcome = admin.operate("restart", FIRST, "quick1")[key("quick1")]
    assert outcome.result == "ok" and group.pids(key("quick1")) == [outcome.pid] != [pid]
    assert "bye" in group.log_of(key("quick1")).read_text()


def test_a_kill_asks_nobody(group: Group, admin: Admin) -> None:
    (pid,) = group.pids(key("patient1"))
    outcome = admin.operate("kill", FIRST, pid=pid)[key("patient1")]
    assert (outcome.result, outcome.detail) == ("ok", "signal KILL")


def test_a_daemon_that_dies_in_the_middle_asks_again_and_nothing_is_signalled_before(
    group: Group, admin: Admin
) -> None:
    (pid,) = group.pids(key("patient1"))
    stopping = gevent.spawn(admin.operate, "stop", FIRST, "patient1")
    until(lambda: "saving" in group.record(key("patient1")).get("exit", ""), what="it saves")
    group.daemon(FIRST).kill()
    assert alive(pid), "the game goes on saving"
    group.start_daemon(FIRST)
    with pytest.raises(Exception, match="outcome unknown"):
        stopping.get(timeout=20)
    until(lambda: not alive(pid), 30, "saved, then stopped")
    until(lambda: group.record(key("patient1"))["state"] == "STOPPED", what="STOPPED")
    text = group.daemon(FIRST).text()
    assert "adopted" in text
    again = group.admin(FIRST)
    until(lambda: joined(again) >= {key("quick1"), key("busy1")}, 20, "the others have joined the new daemon")
    outcome = again.operate("stop", FIRST, "patient1")[key("patient1")]
    assert outcome.result == "already"


def test_a_hung_application_gets_the_ladder(group: Group, admin: Admin) -> None:
    """SIGSTOP: it cannot answer, and the signal lets it go on, so it ends."""
    (pid,) = group.pids(key("silent1"))
    os.kill(pid, signal.SIGSTOP)
    outcome = admin.operate("stop", FIRST, "silent1")[key("silent1")]
    assert outcome.result == "failed" and "no word of its saving" in outcome.detail and not alive(pid)


def test_what_does_not_join_again_is_stopped_by_signal_and_said_to_be_so(group: Group, admin: Admin) -> None:
    """An application can save only when it can be asked."""
    (pid,) = group.pids(key("silent1"))
    os.kill(pid, signal.SIGSTOP)
    group.daemon(FIRST).kill()
    group.start_daemon(FIRST)
    outcome = group.admin(FIRST).operate("stop", FIRST, "silent1", timeout=30)[key("silent1")]
    assert outcome.result == "failed" and "and it has no link" in outcome.detail, outcome
    assert not alive(pid)


def test_a_stop_right_after_a_restart_of_the_daemon_waits_for_the_link_and_saves(
    group: Group, admin: Admin
) -> None:
    group.daemon(FIRST).kill()
    group.start_daemon(FIRST)
    outcome = group.admin(FIRST).operate("stop", FIRST, "quick1", timeout=30)[key("quick1")]
    assert (outcome.result, outcome.detail) == ("ok", "saved, then code 0")
