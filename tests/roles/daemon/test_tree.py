"""A session is the whole tree of a process, and nothing but it."""

import signal
import time

import pytest

from roles.daemon import identity as proc
from roles.daemon import tree
from tests.roles.daemon.conftest import session
from tests.waiting import until


@pytest.fixture
def family(run):
    """(parent Popen, its identity, its child's identity)"""
    process = run("forker", "deaf")
    child = int(process.stdout.readline())
    return process, proc.identify(process.pid), proc.identify(child)


def test_the_members_of_a_session_are_the_leader_and_its_children(family):
    _process, parent, child = family
    assert sorted(tree.Sessions().members(parent)) == sorted([parent, child])


def test_children_are_found_after_their_leader_is_gone(family):
    process, parent, child = family
    process.kill()
    process.wait()
    assert tree.Sessions().members(parent) == [child]


def test_killing_a_session_leaves_none_of_it(family):
    process, parent, child = family
    tree.kill_session(tree.Sessions(), parent)
    until(lambda: not parent.alive() and not child.alive())
    process.wait()
    assert session(process.pid) == []


def test_a_session_whose_number_is_anothers_now_has_no_members(family):
    """The leader's pid was handed out again: nobody in there is ours."""
    process, parent, child = family
    former = parent._replace(start_ticks=parent.start_ticks - 1)
    assert tree.Sessions().members(former) == []
    tree.kill_session(tree.Sessions(), former)
    time.sleep(0.1)
    assert parent.alive() and child.alive()
    assert process.poll() is None


def test_a_process_that_left_the_session_is_not_signalled(family):
    _process, parent, child = family
    assert tree.signal_members([child], parent.pid + 1, signal.SIGKILL) == []
    assert child.alive()
    assert tree.signal_members([child], parent.pid, signal.SIGKILL) == [child]


def test_one_walk_serves_everybody_who_does_not_need_a_newer_one(family, monkeypatch):
    _process, parent, _child = family
    sessions, walks = tree.Sessions(), []
    monkeypatch.setattr(proc, "pids", lambda pids=proc.pids: walks.append(1) or pids())
    since = time.monotonic()
    for _ in range(10):
        assert len(sessions.members(parent, since)) == 2
    assert len(walks) == 1
    sessions.members(parent, time.monotonic())
    assert len(walks) == 2
