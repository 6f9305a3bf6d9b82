"""A daemon dies at any moment; the next one knows every process again, starts none twice and loses none."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import gevent
import pytest

from roles.daemon import identity as proc
from roles.daemon import watch
from roles.daemon.adoption import adopt
from roles.daemon.identity import Identity
from roles.daemon.spawner import MARK_INCARNATION, MARK_KEY, MARK_OWNER, MARK_TOKEN, Spawner
from tests.roles.daemon.conftest import end_marked, program, session
from tests.roles.daemon.keeping import IP, Daemon
from tests.waiting import until

HARNESS = Path(__file__).with_name("harness.py")
KEY = f"大区1.{IP}.game1"


@pytest.fixture
def daemons(tmp_path):
    """`daemons()` is the next daemon over the same folder; the one before has ended without a word."""
    made = []

    def next_daemon():
        if made:
            made[-1].close()
        made.append(Daemon(tmp_path / "state"))
        return made[-1]

    (tmp_path / "state").mkdir()
    yield next_daemon
    made[-1].close()
    end_marked(made[-1].means.spawner.owner)


# ---- in one program: what is decided from what


def test_a_running_process_is_adopted_as_it_was(daemons):
    before = daemons().keeper(program("steady"))
    before.start(10)
    after = daemons().keeper(program("steady"))
    until(lambda: after.pid)
    assert (after.state, after.wanted, after.identity) == ("RUNNING", "up", before.identity)
    assert (after.token, after.incarnation, after.started_at) == (
        before.token,
        before.incarnation,
        before.started_at,
    )
    assert after.starts.pending == 1
    assert after.start(10).result == "already"
    assert after.stop(10).result == "ok"


def test_a_process_that_ended_meanwhile_is_noticed(daemons):
    before = daemons().keeper(["sleep", "60"])
    before.start(10)
    who = before.identity
    before.close()
    proc.send_signal(who, signal.SIGKILL)
    os.waitpid(who.pid, 0)
    after = daemons().keeper(["sleep", "60"])
    until(lambda: after.state == "EXITED")
    assert (after.exit, after.wanted, after.pid) == ("unknown (while the daemon was away)", "up", 0)
    assert after.starts.pending == 1


def test_a_process_that_ended_meanwhile_is_restarted_where_that_is_the_policy(daemons):
    before = daemons().keeper(["sleep", "60"], restart="on-failure")
    who = before.start(10) and before.identity
    before.close()
    proc.send_signal(who, signal.SIGKILL)
    os.waitpid(who.pid, 0)
    after = daemons().keeper(["sleep", "60"], restart="on-failure")
    until(lambda: after.state == "RUNNING")
    assert after.starts.pending == 2


def test_an_end_after_the_adoption_is_noticed_and_told_where_the_kernel_tells(daemons, tmp_path):
    """The harness is the parent and dies, so the process is nobody's child of ours."""
    started = daemons().keeper(program("crashy", 1.0, 3))
    started.start(10)
    after = daemons().keeper(program("crashy", 1.0, 3))
    until(lambda: after.state == "EXITED")
    assert after.exit == "code 3", "a child of this very program: adopted as one"


def test_the_pid_is_anothers_now(daemons, run):
    before = daemons().keeper(["sleep", "60"])
    before.start(10)
    who = before.identity
    stranger = run("steady")
    now = proc.identify(stranger.pid)
    before.entry.identity = Identity(now.boot_id, now.pid, now.start_ticks - 1)
    before._means.journal.write(before.entry)
    after = daemons().keeper(["sleep", "60"], restart="never")
    until(lambda: after.state == "EXITED")
    after.stop(1), after.kill(1)
    assert now.alive()
    proc.send_signal(who, signal.SIGKILL)


def test_after_a_reboot_everything_is_gone(daemons, monkeypatch):
    before = daemons().keeper(["sleep", "60"])
    before.start(10)
    entry = before.entry
    entry.identity = entry.identity._replace(boot_id="another-boot")
    found = adopt({KEY: entry}, "/nowhere", before._means.spawner.seal, lambda key: True)
    assert found[KEY].alive is None and found[KEY].leftovers == []


@pytest.mark.parametrize("lost", ["identity", "file", "folder"])
def test_what_the_journal_has_not_the_process_itself_tells(daemons, lost, tmp_path):
    """The daemon died between intent and record; or the file, or the whole folder is gone."""
    before = daemons().keeper(program("forker", "mild"))
    before.start(10)
    leader = before.pid
    until(lambda: len(session(leader)) == 2)
    until(lambda: time.time() - before.started_at > 0.5)
    journal = before._means.journal
    before.close()
    if lost == "identity":
        before.entry.identity = None
        before.entry.starts = type(before.entry.starts)()
        journal.write(before.entry)
    elif lost == "file":
        journal.path(KEY).unlink()
    else:
        shutil.rmtree(journal.folder)
    after = daemons().keeper(program("forker", "mild"))
    until(lambda: after.pid)
    assert (after.pid, after.state, after.wanted) == (leader, "RUNNING", "up"), "the leader, not its child"
    assert (after.token, after.incarnation) == (before.token, before.incarnation)
    assert abs(after.started_at - before.started_at) < 0.2, "from /proc, not from its adoption"
    assert after.starts.pending == (1 if lost == "identity" else 0), (
        "unrecorded is counted now; lost was counted"
    )
    assert after.stop(10).result == "ok"
    assert session(leader) == []


def test_a_journal_older_than_the_process_does_not_start_it_twice(daemons):
    keeper = daemons().keeper(["sleep", "60"], restart="always")
    keeper.start(10)
    journal = keeper._means.journal
    old = journal.path(KEY).read_bytes()
    keeper.restart(10)
    pid = keeper.pid
    keeper.close()
    journal.path(KEY).write_bytes(old)
    after = daemons().keeper(["sleep", "60"], restart="always")
    until(lambda: after.pid)
    assert after.pid == pid and after.state == "RUNNING"


def test_an_intent_without_a_process_was_no_start(daemons):
    before = daemons().keeper(["sleep", "60"])
    before.start(10)
    who = before.identity
    before.close()
    proc.send_signal(who, signal.SIGKILL)
    os.waitpid(who.pid, 0)
    before.entry.identity, before.entry.starts = None, type(before.entry.starts)()
    before._means.journal.write(before.entry)
    after = daemons().keeper(["sleep", "60"])
    until(lambda: after.state == "EXITED")
    assert after.starts.pending == 0


def test_another_daemons_process_of_the_same_key_is_not_ours(daemons, tmp_path):
    """Two groups on one machine, or two tests."""
    other = Daemon(tmp_path / "other")
    theirs = other.keeper(["sleep", "60"])
    theirs.start(10)
    ours = daemons().keeper(["sleep", "60"])
    gevent.sleep(0.1)
    assert (ours.state, ours.pid) == ("STOPPED", 0)
    assert theirs.kill(10).result == "ok"
    other.close()


def test_a_key_that_is_not_of_this_machine_is_not_adopted(daemons, tmp_path):
    keeper = daemons().keeper(["sleep", "60"])
    keeper.start(10)
    owner, seal = keeper._means.spawner.owner, keeper._means.spawner.seal
    assert list(adopt({}, owner, seal, lambda key: key == KEY)) == [KEY]
    assert adopt({}, owner, seal, lambda key: False) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_another_users_process_with_our_marks_is_not_adopted_without_a_token_of_ours(daemons):
    """A local user who knows the names of our processes must not pose as one after a restart of the daemon."""
    daemon = daemons()
    spawner = daemon.means.spawner
    for token, adopted in (("0" * 32, []), (spawner.seal.token(KEY, "run1"), [KEY])):
        marks = {MARK_KEY: KEY, MARK_OWNER: spawner.owner, MARK_INCARNATION: "run1", MARK_TOKEN: token}
        poser = subprocess.Popen(
            ["sleep", "60"], env=marks | {"PATH": os.defpath}, user=65534, start_new_session=True
        )
        try:
            assert list(adopt({}, spawner.owner, spawner.seal, lambda key: True)) == adopted
        finally:
            poser.kill()
            poser.wait()


def test_the_oldest_leader_is_the_process(daemons):
    """A child that made a session of its own has our marks too."""
    script = "setsid sleep 60 & exec sleep 60"
    before = daemons().keeper(["sh", "-c", script])
    before.start(10)
    leader = before.pid

    def strays():
        owner = before._means.spawner.owner
        return [pid for pid in proc.pids() if pid != leader and proc.read_environ(pid).get("AGENT_OWNER") == owner
                and os.getsid(pid) == pid]  # fmt: skip

    until(strays)
    before.close()
    before._means.journal.path(KEY).unlink()
    after = daemons().keeper(["sh", "-c", script])
    until(lambda: after.pid)
    assert after.pid == leader


def test_a_stop_goes_on_and_is_not_signalled_again(daemons, tmp_path):
    heard = tmp_path / "heard"
    before = daemons().keeper(program("deaf", 1.5, heard), stop_timeout_s=20.0)
    before.start(10)
    until(lambda: "deaf" in before._means.spawner.log_path(KEY, before.spec).read_text())
    gevent.spawn(before.stop, 10)
    until(heard.exists)
    after = daemons().keeper(program("deaf"), stop_timeout_s=20.0)
    until(lambda: after.pid)
    assert (after.state, after.wanted) == ("STOPPING", "down")
    until(lambda: after.state == "STOPPED")
    assert heard.read_text() == "TERM\n"


def test_a_restart_goes_on(daemons, tmp_path):
    before = daemons().keeper(program("deaf", 1), stop_timeout_s=20.0)
    first = before.start(10).pid
    until(lambda: "deaf" in before._means.spawner.log_path(KEY, before.spec).read_text())
    gevent.spawn(before.restart, 10)
    until(lambda: before.state == "STOPPING" and before.entry.signalled)
    after = daemons().keeper(program("steady"))
    until(lambda: after.state == "RUNNING" and after.pid != first)
    assert proc.identify(first) is None


def test_readiness_is_awaited_again(daemons):
    before = daemons().keeper(program("steady"), ready={"spawn": 1.0})
    gevent.spawn(before.start, 10)
    until(lambda: before.pid)
    after = daemons().keeper(program("steady"), ready={"spawn": 1.0})
    until(lambda: after.pid)
    assert after.state == "STARTING"
    until(lambda: after.state == "RUNNING")


def test_a_back_off_goes_on(daemons):
    before = daemons().keeper(program("crashy", 0, 3), restart="always", backoff_s=0.5)
    before.start(10)
    until(lambda: before.state == "BACKOFF")
    after = daemons().keeper(program("steady"), restart="always")
    until(lambda: after.state == "RUNNING")
    assert after.starts.pending == 2


def test_children_of_a_process_that_ended_meanwhile_are_in_the_way(daemons):
    before = daemons().keeper(program("forker", "deaf"))
    before.start(10)
    leader = before.identity
    until(lambda: len(session(leader.pid)) == 2)
    child = next(pid for pid in session(leader.pid) if pid != leader.pid)
    before.close()
    proc.send_signal(leader, signal.SIGKILL)
    os.waitpid(leader.pid, 0)
    after = daemons().keeper(program("forker", "deaf"))
    until(lambda: after.state == "EXITED")
    assert [each.pid for each in after.leftovers] == [child]
    assert f"children of its last run still live (pid {child})" in after.start(10).detail
    assert after.kill(10).result == "ok"
    assert session(leader.pid) == []


def test_strangers_in_a_session_with_that_number_are_not_its_children(daemons, run):
    """The pid, and with it the number of the session, was handed out again while we were away."""
    before = daemons().keeper(["sleep", "60"])
    before.start(10)
    stranger = run("forker", "mild")
    stranger.stdout.readline()
    now = proc.identify(stranger.pid)
    entry = before.entry
    who, entry.identity = entry.identity, Identity(now.boot_id, now.pid, now.start_ticks - 1)
    found = adopt({KEY: entry}, "/nowhere", before._means.spawner.seal, lambda key: True)
    assert found[KEY].leftovers == []
    proc.send_signal(who, signal.SIGKILL)


def test_a_process_that_is_configured_no_more_can_be_stopped(daemons):
    daemon = daemons()
    before = daemon.keeper(["sleep", "60"], stop_signal="USR1")
    before.start(10)
    daemon = daemons()
    after = daemon.keeper(["sleep", "60"], stop_signal="USR2")
    daemon.configured.clear()
    until(lambda: after.pid)
    assert after.stop(10).detail.startswith("signal USR1")
    after.forget()
    assert daemon.journal.read() == {}


def test_one_walk_over_proc_is_enough(daemons, monkeypatch):
    daemon = daemons()
    keepers = [daemon.keeper(["sleep", "60"], f"game{i}") for i in range(20)]
    for greenlet in [gevent.spawn(keeper.start, 10) for keeper in keepers]:
        greenlet.get()
    walks, pids = [], proc.pids
    monkeypatch.setattr(proc, "pids", lambda: walks.append(1) or pids())
    daemons()
    assert len(walks) == 1


# ---- a program that is really killed


class Harness:
    def __init__(self, folder, starts, names):
        command = [sys.executable, str(HARNESS), str(folder), str(starts), *names]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pids = self.answer()["pids"]

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def call(self, line):
        self.ask(line)
        return self.answer()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def harness(tmp_path):
    """`harness("a", "b")`: a new one over the same folder, after the old one was killed with -9."""
    folder, starts = tmp_path / "state", tmp_path / "starts"
    folder.mkdir()
    starts.mkdir()
    made = []

    def next_harness(*names):
        if made:
            made[-1].kill()
        made.append(Harness(folder, starts, names))
        return made[-1]

    yield next_harness
    made[-1].kill()
    end_marked(Spawner(folder).owner)


def living(starts, name):
    """Pids that wrote themselves down at their start, and live."""
    path = starts / name
    pids = [int(line) for line in path.read_text().split()] if path.exists() else []
    alive = []
    for pid in pids:
        stat = proc.read_stat(pid)
        if stat and not stat.gone and proc.read_environ(pid).get("AGENT_PROCESS", "").endswith(f".{name}"):
            alive.append(pid)
    return pids, alive


def test_a_killed_daemon_leaves_its_processes_and_the_next_one_has_them(harness, tmp_path):
    names = ["a", "b", "c"]
    first = harness(*names)
    pids = {name: first.call(f"start {name}")["pid"] for name in names}
    until(lambda: all(living(tmp_path / "starts", name)[1] == [pids[name]] for name in names))
    second = harness(*names)
    assert second.pids == pids
    second.kill()
    os.kill(pids["b"], signal.SIGTERM)
    until(lambda: living(tmp_path / "starts", "b")[1] == [])
    states = harness(*names).call("states")
    assert {name: states[name]["state"] for name in names} == {"a": "RUNNING", "b": "EXITED", "c": "RUNNING"}
    assert states["b"]["exit"] == "unknown (while the daemon was away)"
    assert [states[name]["starts"] for name in names] == [1, 1, 1]
    assert [(tmp_path / "starts" / name).read_text() for name in names] == [
        f"{pids[name]}\n" for name in names
    ]


def test_an_adopted_process_that_ends_is_noticed(harness, tmp_path):
    pid = harness("a").call("start a")["pid"]
    second = harness("a")
    os.kill(pid, signal.SIGKILL)
    until(lambda: second.call("states")["a"]["state"] == "EXITED")
    assert second.call("states")["a"]["exit"] in ("signal KILL", watch.UNKNOWN_ADOPTED)
    assert second.call("start a")["result"] == "ok"


@pytest.mark.timeout(240)
def test_killed_at_random_moments_nothing_runs_twice_nothing_is_lost_every_start_is_counted(
    harness, tmp_path
):
    names = ["a", "b", "c", "d"]
    rng = random.Random(20)
    for _ in range(30):
        current = harness(*names)
        current.ask("busy")
        time.sleep(0.05 + rng.random() * 0.4)
    last = harness(*names)
    until(
        lambda: all(
            each["state"] in ("RUNNING", "STOPPED", "EXITED") for each in last.call("states").values()
        ),
        20,
    )
    states = last.call("states")
    for name in names:
        started, alive = living(tmp_path / "starts", name)
        running = [states[name]["pid"]] if states[name]["state"] == "RUNNING" else []
        assert alive == running, f"{name}: {states[name]} but {alive} live"
        assert len(started) == states[name]["starts"], (
            f"{name} was started {len(started)} times: {states[name]}"
        )
    for name in names:
        assert last.call(f"stop {name}")["result"] in ("ok", "already")
        assert living(tmp_path / "starts", name)[1] == []
