"""+1 in globaldb per start, exactly once, though we may die or it be away between any two steps."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.daemon.startcount import StartCount


class Died(Exception):
    pass


class Daemon:
    """What the recorder does with the helper; `deaths` says after which of its steps the daemon dies."""

    def __init__(self, held, deaths=()):
        self.held, self.disk, self.steps, self.deaths = held, StartCount(), 0, set(deaths)

    def step(self):
        self.steps += 1
        if self.steps in self.deaths:
            raise Died

    def start(self):
        self.disk = self.disk.counted()
        self.step()

    def record(self):
        if not self.disk.pending:
            return
        if self.disk.base is None:
            read = self.held
            self.step()
            self.disk = self.disk.based(read)
            self.step()
        target = self.disk.target
        self.held = max(self.held, target)
        self.step()
        self.disk = self.disk.confirmed(target)
        self.step()


def live(daemon, work):
    """Does the work; a daemon that dies is started again and goes on."""
    for todo in work:
        try:
            todo()
        except Died:
            pass
    daemon.deaths.clear()
    daemon.record()


@pytest.mark.parametrize("deaths", list(product(range(1, 12), range(1, 12))))
@pytest.mark.parametrize("held", [0, 41])
def test_dying_after_any_two_steps_loses_and_doubles_nothing(held, deaths):
    daemon = Daemon(held, deaths)
    live(
        daemon,
        [
            daemon.start,
            daemon.record,
            daemon.record,
            daemon.start,
            daemon.start,
            daemon.record,
            daemon.record,
        ],
    )
    assert daemon.held == held + 3
    assert daemon.disk == StartCount(base=held + 3, pending=0)


@given(st.integers(0, 1000), st.lists(st.booleans(), max_size=30), st.sets(st.integers(1, 80)))
def test_any_story_ends_with_the_right_count(held, story, deaths):
    daemon = Daemon(held, deaths)
    live(daemon, [daemon.start if start else daemon.record for start in story])
    assert daemon.held == held + sum(story)


def test_a_start_between_raising_and_confirming_stays_pending():
    count = StartCount(base=5).counted()
    target = count.target
    count = count.counted().confirmed(target)
    assert count == StartCount(base=6, pending=1)


def test_a_base_that_is_known_is_not_read_again():
    """globaldb may hold our own raise already: adding the pending starts to that would count them twice."""
    assert StartCount(base=5, pending=1).based(6) == StartCount(base=5, pending=1)


def test_a_late_confirmation_takes_nothing_back():
    assert StartCount(base=7, pending=1).confirmed(6) == StartCount(base=7, pending=1)
    assert StartCount(base=None, pending=1).confirmed(6) == StartCount(base=None, pending=1)
    assert StartCount(base=None, pending=1).target is None
