"""One keeper, one real process: effects before success, honest words when there are none."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time

import gevent
import pytest

from agent.errors import ConfigError
from roles.daemon import identity as proc
from roles.daemon import ports, watch
from roles.daemon.identity import Identity
from roles.daemon.startcount import StartCount
from tests.globaldb_servers import free_port
from tests.roles.daemon.conftest import children, end_marked, program, session
from tests.roles.daemon.keeping import IP, Daemon
from tests.waiting import until


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()
    end_marked(daemon.means.spawner.owner)


def together(*calls):
    return [greenlet.get() for greenlet in [gevent.spawn(*call) for call in calls]]


# ---- start and stop


def test_a_start_is_ok_when_it_runs_and_a_stop_when_it_is_gone(daemon):
    keeper = daemon.keeper(program("steady"))
    outcome = keeper.start(10)
    assert (outcome.result, keeper.state, keeper.wanted) == ("ok", "RUNNING", "up")
    assert outcome.pid == keeper.pid != 0
    assert proc.read_stat(keeper.pid).session == keeper.pid
    gone = keeper.identity
    outcome = keeper.stop(10)
    assert (outcome.result, outcome.detail) == ("ok", keeper.exit)
    assert (keeper.state, keeper.wanted, keeper.pid) == ("STOPPED", "down", 0)
    assert keeper.exit in ("code 0", "signal TERM"), "TERM may come before it listens for it"
    assert not gone.alive() and proc.read_stat(gone.pid) is None, "reaped, too"


def test_doing_it_twice_is_harmless(daemon):
    keeper = daemon.keeper(program("steady"))
    assert keeper.stop(10).result == "already"
    pid = keeper.start(10).pid
    again = keeper.start(10)
    assert (again.result, again.pid) == ("already", pid)
    assert keeper.stop(10).result == "ok"
    assert keeper.stop(10).result == "already"
    assert keeper.kill(10).result == "already"


def test_many_callers_get_one_effect(daemon, tmp_path):
    starts = tmp_path / "starts"
    keeper = daemon.keeper(program("steady", starts), ready={"spawn": 0.3})
    outcomes = together(*[(keeper.start, 10)] * 8)
    assert {outcome.result for outcome in outcomes} == {"ok"}
    assert {outcome.pid for outcome in outcomes} == {keeper.pid}
    assert starts.read_text() == f"{keeper.pid}\n"
    assert {outcome.result for outcome in together(*[(keeper.stop, 10)] * 8)} <= {"ok", "already"}
    assert keeper.starts == StartCount(base=None, pending=1)


def test_every_change_is_announced_once_and_on_disk_first(daemon):
    keeper = daemon.keeper(program("steady"), ready={"spawn": 0.3})
    seen = []
    keeper._on_change = lambda keeper: seen.append(
        (keeper.state, daemon.journal.read()[keeper.key].life.state)
    )
    keeper.start(10)
    keeper.stop(10)
    until(lambda: seen[-1][0] == "STOPPED")
    assert all(state == on_disk for state, on_disk in seen)
    assert [state for state, _ in seen][:2] == ["STARTING", "RUNNING"]


def test_changes_are_logged_one_line_each(daemon, caplog):
    caplog.set_level("INFO")
    keeper = daemon.keeper(program("steady"), ready={"spawn": 0.1})
    pid = keeper.start(10).pid
    keeper.stop(10)
    until(lambda: "-> stopped" in caplog.text)
    lines = [record.getMessage() for record in caplog.records if record.name == "agent.keeper"]
    assert lines[0] == f"process {keeper.key}: stopped -> starting"
    assert lines[1].startswith(f"process {keeper.key}: starting -> running (pid {pid}, 0.1 s)")
    assert len(lines) == 4


def test_a_listener_with_a_bug_does_not_stop_the_keeper(daemon, caplog):
    keeper = daemon.keeper(program("steady"))
    keeper._on_change = lambda keeper: 1 / 0
    assert keeper.start(10).result == "ok"
    assert keeper.stop(10).result == "ok"
    assert "ZeroDivisionError" in caplog.text


def test_a_process_that_takes_its_time_is_waited_for_honestly(daemon):
    keeper = daemon.keeper(program("steady"), ready={"report": True})
    outcome = keeper.start(0.3)
    assert (outcome.result, outcome.pid) == ("failed", keeper.pid)
    assert outcome.detail == f"still starting, not ready after 0.3 s, pid {keeper.pid}"
    waiting = gevent.spawn(keeper.start, 10)
    gevent.sleep(0.05)
    keeper.reported()
    assert waiting.get().result == "ok"
    assert keeper.state == "RUNNING"


def test_a_report_makes_only_a_starting_process_ready(daemon):
    keeper = daemon.keeper(program("steady"), ready={"report": True})
    keeper.reported()
    gevent.sleep(0.05)
    assert keeper.state == "STOPPED"


def test_a_stop_while_it_starts_ends_it(daemon):
    keeper = daemon.keeper(program("steady"), ready={"report": True})
    starting = gevent.spawn(keeper.start, 10)
    until(lambda: keeper.pid)
    assert keeper.stop(10).result == "ok"
    assert starting.get().detail == "another command asked it to stop meanwhile"


def test_a_stop_without_effect_is_no_success_and_no_kill(daemon, tmp_path):
    heard = tmp_path / "heard"
    keeper = daemon.keeper(program("deaf", 1.5, heard))
    pid = keeper.start(10).pid
    until(lambda: "deaf" in daemon.means.spawner.log_path(keeper.key, keeper.spec).read_text())
    outcome = keeper.stop(10)
    assert outcome.result == "failed"
    assert outcome.detail == f"still running after 0.5 s (saving?), pid {pid}; kill {IP} {pid} ends it"
    assert (keeper.state, keeper.wanted) == ("STOPPING", "down")
    refused = keeper.start(10)
    assert refused.result == "failed" and f"still stopping since 0.5 s (pid {pid})" in refused.detail
    assert keeper.stop(0.1).result == "failed", "a later stop repeats the polite signal"
    until(lambda: keeper.state == "STOPPED")
    assert keeper.exit == "code 0"
    assert heard.read_text() == "TERM\n" * 2
    assert keeper.start(10).result == "ok"
    assert keeper.kill(10).result == "ok"


def test_a_caller_that_waits_less_than_the_time_out_is_told_the_same(daemon):
    keeper = daemon.keeper(program("deaf"), stop_timeout_s=30.0)
    keeper.start(10)
    gevent.sleep(0.3)
    assert "still running after 0.2 s, its stop_timeout_s is 30 s (saving?)" in keeper.stop(0.2).detail
    assert keeper.kill(10).result == "ok"
    assert keeper.exit == "signal KILL"


def test_kill_after_stop_kills_after_the_time_out(daemon):
    keeper = daemon.keeper(program("deaf"), kill_after_stop=True)
    keeper.start(10)
    until(lambda: "deaf" in daemon.means.spawner.log_path(keeper.key, keeper.spec).read_text())
    outcome = keeper.stop(10)
    assert (outcome.result, outcome.detail) == ("ok", "signal KILL")


def test_a_process_that_is_held_can_be_stopped(daemon, tmp_path):
    started = tmp_path / "started"
    keeper = daemon.keeper(program("steady", started), stop_timeout_s=5.0)
    keeper.start(10)
    until(started.exists)
    gevent.sleep(0.1)
    proc.send_signal(keeper.identity, signal.SIGSTOP)
    until(lambda: keeper.identity.stat().stopped)
    assert keeper.stop(10).result == "ok"


def test_the_stop_signal_is_the_configured_one(daemon):
    keeper = daemon.keeper(["sleep", "60"], stop_signal="USR1")
    keeper.start(10)
    assert keeper.stop(10).detail == "signal USR1"


def test_a_restart_is_a_new_run(daemon):
    keeper = daemon.keeper(program("steady"))
    first = keeper.start(10).pid
    outcome = keeper.restart(10)
    assert (outcome.result, outcome.pid) == ("ok", keeper.pid)
    assert keeper.pid != first and proc.identify(first) is None
    assert keeper.starts.pending == 2
    keeper.stop(10)
    assert keeper.restart(10).result == "ok", "of a stopped one it is a start"


def test_a_restart_waits_for_a_process_that_saves(daemon):
    keeper = daemon.keeper(program("deaf", 1))
    first = keeper.start(10).pid
    until(lambda: "deaf" in daemon.means.spawner.log_path(keeper.key, keeper.spec).read_text())
    outcome = keeper.restart(10)
    assert outcome.result == "failed" and "when it has ended it is started again" in outcome.detail
    assert keeper.start(10).result == "ok", "whoever asks for a start meanwhile gets the new run"
    assert keeper.pid != first


def test_a_changed_configuration_counts_from_the_next_start(daemon):
    keeper = daemon.keeper(["sleep", "60"], stop_signal="USR1")
    keeper.start(10)
    before = keeper.entry.digest
    daemon.reconfigure(keeper, ["sleep", "61"], stop_signal="USR2")
    assert keeper.stop(10).detail == "signal USR1"
    keeper.start(10)
    assert keeper.entry.digest != before
    assert keeper.stop(10).detail == "signal USR2"


def test_a_process_that_is_not_configured_is_not_started(daemon):
    keeper = daemon.keeper(["sleep", "60"])

    def gone():
        raise ConfigError("process game1: is not in the world any more")

    keeper._launch._configuration = gone
    outcome = keeper.start(10)
    assert (outcome.result, outcome.detail) == ("failed", "process game1: is not in the world any more")


# ---- ends


@pytest.mark.parametrize(
    ("how", "text"), [("0", "code 0"), ("3", "code 3"), ("SEGV", "signal SEGV"), ("KILL", "signal KILL")]
)
def test_an_end_is_noticed_at_once_and_told(daemon, how, text):
    keeper = daemon.keeper(program("crashy", 0.2, how))
    keeper.start(10)
    until(lambda: keeper.state == "EXITED", 5)
    assert (keeper.exit, keeper.reason, keeper.wanted, keeper.pid) == (text, text, "up", 0)


def test_a_crash_stays_to_be_seen_while_the_next_run_lives(daemon):
    keeper = daemon.keeper(program("crashy", 0.1, 3))
    keeper.start(10)
    until(lambda: keeper.state == "EXITED", 5)
    daemon.reconfigure(keeper, program("steady"))
    assert keeper.start(10).result == "ok"
    assert keeper.exit == "code 3" and keeper.entry.crashed_at
    assert keeper.stop(10).result == "ok"
    assert keeper.start(10).result == "ok"
    assert keeper.exit == "" and not keeper.entry.crashed_at


def test_why_it_could_not_be_started_does_not_repeat_its_key(daemon):
    keeper = daemon.keeper(["/no/such/program"])
    assert keeper.start(10).result == "failed"
    assert keeper.state == "FATAL" and keeper.reason and keeper.key not in keeper.reason


def test_a_stop_that_takes_longer_has_a_reason_that_stays_true(daemon):
    keeper = daemon.keeper(program("deaf"), stop_timeout_s=0.2)
    keeper.start(10)
    gevent.sleep(0.3)
    keeper.stop(10)
    assert keeper.reason == "asked to stop, still running when its stop_timeout_s of 0.2 s was over (saving?)"


def test_an_end_is_noticed_without_pidfd_too(daemon, monkeypatch):
    monkeypatch.setattr(proc, "HAS_PIDFD", False)
    monkeypatch.setattr(watch, "POLL_S", 0.05)
    keeper = daemon.keeper(program("crashy", 0.1, 3))
    keeper.start(10)
    until(lambda: keeper.state == "EXITED", 5)
    assert keeper.exit == "code 3"
    daemon.reconfigure(keeper, program("steady"))
    keeper.start(10)
    assert keeper.stop(10).result == "ok"


def test_an_end_is_noticed_when_we_have_no_file_descriptor_left(daemon, monkeypatch):
    def none_left(*args):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(watch, "POLL_S", 0.05)
    monkeypatch.setattr(os, "pidfd_open", none_left)
    keeper = daemon.keeper(program("crashy", 0.1, 3))
    assert keeper.start(10).result == "ok"
    until(lambda: keeper.state == "EXITED", 5)
    assert keeper.exit == "code 3"


def test_other_children_of_this_program_are_left_alone(daemon):
    mine = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    keeper = daemon.keeper(program("crashy", 0.1, 3))
    keeper.start(10)
    until(lambda: keeper.state == "EXITED")
    assert mine.wait(10) == 7


def test_a_failure_is_restarted_with_back_off_until_it_lasts(daemon):
    keeper = daemon.keeper(program("crashy", 0.02, 3), restart="on-failure")
    keeper.start(10)
    until(lambda: keeper.starts.pending >= 4)
    assert keeper.wanted == "up"
    daemon.reconfigure(keeper, program("steady"), restart="on-failure")
    until(lambda: keeper.state == "RUNNING" and "steady" in str(keeper.spec.command))
    assert keeper.stop(10).result == "ok"


def test_a_stop_ends_the_back_off(daemon):
    keeper = daemon.keeper(program("crashy", 0, 3), restart="always", backoff_s=0.3)
    keeper.start(10)
    until(lambda: keeper.state == "BACKOFF")
    assert "starts again in 0." in keeper.reason and "code 3" in keeper.reason
    assert keeper.stop(10).result == "ok"
    gevent.sleep(0.5)
    assert keeper.state == "STOPPED" and keeper.starts.pending == 1


def test_what_never_becomes_ready_is_fatal_with_the_reason(daemon):
    keeper = daemon.keeper(
        program("crashy", 0, 3), restart="always", restart_tries=2, ready={"spawn": 5.0}, backoff_s=0.01
    )
    outcome = keeper.start(10)
    assert outcome.result == "failed" and "it ended: code 3" in outcome.detail
    until(lambda: keeper.state == "FATAL")
    assert (
        keeper.reason
        == "3 times in a row it was not ready (it ended: code 3); see its log and start it again"
    )
    assert keeper.starts.pending == 3


def test_what_is_not_ready_in_time_is_stopped_and_tried_again(daemon):
    keeper = daemon.keeper(
        program("steady"), restart="on-failure", restart_tries=1, ready={"report": True}, ready_timeout_s=0.3,
        backoff_s=0.01,
    )  # fmt: skip
    outcome = keeper.start(10)
    assert outcome.result == "failed" and outcome.detail.startswith(
        "not ready after 0.3 s; it is being stopped (pid "
    )
    until(lambda: keeper.state == "FATAL")
    assert "not ready after 0.3 s; ended when asked to" in keeper.reason
    assert keeper.starts.pending == 2


def test_what_nobody_would_restart_may_be_ready_late(daemon):
    keeper = daemon.keeper(program("steady"), ready={"report": True}, ready_timeout_s=0.2)
    assert keeper.start(10).result == "failed"
    assert (keeper.state, keeper.reason) == ("STARTING", "not ready after 0.2 s")
    keeper.reported()
    until(lambda: keeper.state == "RUNNING")


def test_a_missing_command_is_fatal_and_no_start(daemon):
    keeper = daemon.keeper(["no-such-program"], restart="always")
    outcome = keeper.start(10)
    assert outcome.result == "failed" and "command no-such-program not found" in outcome.detail
    assert (keeper.state, keeper.wanted) == ("FATAL", "up")
    assert keeper.starts == StartCount()
    daemon.reconfigure(keeper, program("steady"))
    assert keeper.start(10).result == "ok"


# ---- trees


def test_a_stop_ends_the_children_too(daemon):
    keeper = daemon.keeper(program("forker", "mild"))
    leader = keeper.start(10).pid
    until(lambda: len(session(leader)) == 2)
    assert keeper.stop(10).result == "ok"
    assert session(leader) == []


def test_children_that_do_not_end_are_reported_and_a_kill_ends_them(daemon):
    keeper = daemon.keeper(program("forker", "deaf"))
    leader = keeper.start(10).pid
    until(lambda: len(session(leader)) == 2)
    child = next(pid for pid in session(leader) if pid != leader)
    gevent.sleep(0.2)
    outcome = keeper.stop(10)
    assert outcome.result == "failed"
    assert f"its children pid {child}; kill {IP} {child} ends it" in outcome.detail
    assert (keeper.state, keeper.pid, [each.pid for each in keeper.leftovers]) == ("STOPPING", 0, [child])
    assert keeper.kill(10).result == "ok"
    assert (keeper.state, session(leader)) == ("STOPPED", [])


def test_a_kill_ends_the_whole_tree_at_once(daemon):
    keeper = daemon.keeper(program("forker", "deaf"))
    leader = keeper.start(10).pid
    until(lambda: len(session(leader)) == 2)
    assert keeper.kill(10).result == "ok"
    assert session(leader) == []
    assert keeper.wanted == "down"


def test_kill_after_stop_kills_the_children_too(daemon):
    keeper = daemon.keeper(program("forker", "deaf"), kill_after_stop=True)
    leader = keeper.start(10).pid
    until(lambda: len(session(leader)) == 2)
    gevent.sleep(0.2)
    assert keeper.stop(10).result == "ok"
    assert session(leader) == []


def test_no_start_beside_the_children_of_the_last_run(daemon):
    keeper = daemon.keeper(program("forker", "deaf", "leave"))
    leader = keeper.start(10).pid
    until(lambda: keeper.state == "EXITED")
    (child,) = keeper.leftovers
    assert child.pid in session(leader)
    outcome = keeper.start(10)
    assert outcome.result == "failed"
    assert outcome.detail == f"children of its last run still live (pid {child.pid}); stop or kill it first"
    assert keeper.stop(10).result == "failed", "it is deaf"
    assert keeper.kill(10).result == "ok"
    assert not child.alive()
    daemon.reconfigure(keeper, program("steady"))
    assert keeper.start(10).result == "ok"


# ---- readiness and ports


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_ready_is_when_the_port_answers(daemon, protocol, host):
    port = free_port()
    keeper = daemon.keeper(
        program("port_server", port, 0.5, protocol),
        port=port,
        host=host,
        protocol=protocol,
        ready={"port": port},
    )
    before = time.monotonic()
    assert keeper.start(20).result == "ok"
    assert time.monotonic() - before >= 0.5
    outcome = keeper.stop(10)
    assert outcome.result == "ok"


def test_a_probe_ends_with_its_process(daemon, monkeypatch):
    probes = []
    monkeypatch.setattr(ports, "takes_connection", lambda host, port: probes.append(port))
    keeper = daemon.keeper(program("crashy", 0.1, 3), ready={"port": free_port()})
    assert keeper.start(10).result == "failed"
    count = len(probes)
    gevent.sleep(0.6)
    assert count > 0 and len(probes) == count


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_a_stranger_has_is_named_and_nothing_is_started(daemon, run, protocol):
    port = free_port()
    stranger = run("port_server", port, 0, protocol)
    keeper = daemon.keeper(program("steady"), port=port, protocol=protocol)
    until(keeper.check_foreign)
    outcome = keeper.start(10)
    assert outcome.result == "failed"
    name = proc.read_stat(stranger.pid).name
    assert (
        outcome.detail == f"port {port} is taken by pid {stranger.pid} ({name}) which the agent did not start"
    )
    assert (keeper.foreign, keeper.state, keeper.starts) == (outcome.detail, "FATAL", StartCount())
    stranger.kill()
    stranger.wait()
    until(lambda: not keeper.check_foreign())
    assert keeper.start(10).result == "ok"


def test_a_port_that_another_of_ours_has_is_named_by_its_key(daemon):
    port = free_port()
    first = daemon.keeper(program("port_server", port), "first", port=port, ready={"port": port})
    assert first.start(20).result == "ok"
    second = daemon.keeper(program("steady"), "second", port=port)
    outcome = second.start(10)
    assert outcome.detail.endswith(f", process {first.key}")


def test_a_port_in_time_wait_is_free(daemon):
    port = free_port()
    keeper = daemon.keeper(program("port_server", port), port=port, ready={"port": port})
    assert keeper.start(20).result == "ok"
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert client.recv(1) == b"", "the server closes first, so the TIME_WAIT is on its port"
    outcome = keeper.restart(20)
    assert (outcome.result, keeper.foreign) == ("ok", "")
    assert keeper.stop(20).result == "ok"


# ---- the disk, and recycled pids


def test_what_cannot_be_remembered_is_not_started(daemon, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keeper = daemon.keeper(program("steady"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        outcome = keeper.start(10)
        assert outcome.result == "failed"
        assert "No space left on device; not started, as it would be forgotten" in outcome.detail
        assert keeper.note_base(5) is None, "and globaldb is not raised to what may be forgotten"
    assert keeper.starts.pending == 0
    assert keeper.start(10).result == "ok"


def test_a_process_on_a_full_disk_can_be_stopped(daemon, monkeypatch):
    keeper = daemon.keeper(program("steady"))
    keeper.start(10)
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "write", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
        )
        assert keeper.stop(10).result == "ok"


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_recycled_pid_is_never_signalled_by_a_keeper(daemon, run, how):
    """Its process is gone unseen and a stranger has the pid: the keeper must not touch it."""
    stranger = run("steady")
    keeper = daemon.keeper(["sleep", "60"])
    keeper.start(10)
    ours, now = keeper.identity, proc.identify(stranger.pid)
    keeper.entry.identity = Identity(now.boot_id, now.pid, now.start_ticks - 1)
    assert getattr(keeper, how)(1).result == "failed"
    assert stranger.poll() is None and now.alive()
    proc.send_signal(ours, signal.SIGKILL)
    until(lambda: keeper.state == "STOPPED")
    assert now.alive()


# ---- the start count


def test_the_start_count_is_raised_to_a_target_that_is_on_disk(daemon):
    keeper = daemon.keeper(program("steady"))
    keeper.start(10)
    assert keeper.starts.target is None
    assert keeper.note_base(41) == 42
    assert daemon.journal.read()[keeper.key].starts == StartCount(41, 1)
    keeper.restart(10)
    keeper.note_confirmed(42)
    assert daemon.journal.read()[keeper.key].starts == StartCount(42, 1)


# ---- ends of a keeper


def test_a_keeper_that_closes_leaves_its_process_alone_and_tells_who_waits(daemon):
    keeper = daemon.keeper(program("steady"), ready={"report": True})
    waiting = gevent.spawn(keeper.start, 10)
    until(lambda: keeper.pid)
    who = keeper.identity
    keeper.close()
    assert waiting.get().result == "failed"
    assert who.alive()
    assert keeper.stop(10).detail == "the daemon is stopping"


def test_two_hundred_at_once(daemon):
    """Also a guard against a keeper that blocks the others."""
    before = children()
    keepers = [daemon.keeper(["sleep", "60"], f"game{i}") for i in range(200)]
    outcomes = together(*[(keeper.start, 20) for keeper in keepers])
    assert {outcome.result for outcome in outcomes} == {"ok"}
    assert len({outcome.pid for outcome in outcomes}) == 200
    outcomes = together(*[(keeper.stop, 20) for keeper in keepers])
    assert {outcome.detail for outcome in outcomes} == {"signal TERM"}
    assert children() == before, "every one was reaped"
