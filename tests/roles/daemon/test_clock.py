import time

import pytest

from agent.errors import StoreDown
from roles.daemon import clock as clock_module
from roles.daemon.clock import GroupClock


class Clock:
    """globaldb's."""

    def __init__(self, ahead_s):
        self.ahead_s = ahead_s
        self.asked = 0

    def clock(self):
        self.asked += 1
        if isinstance(self.ahead_s, Exception):
            raise self.ahead_s
        return None if self.ahead_s is None else time.time() + self.ahead_s


@pytest.mark.parametrize("ahead_s", [0.0, 600.0, -600.0])
def test_our_skew_is_taken_out(ahead_s):
    clock = GroupClock(Clock(ahead_s))
    clock.measure()
    assert clock.skew_s == pytest.approx(-ahead_s, abs=0.1)
    assert clock.now() == pytest.approx(time.time() + ahead_s, abs=0.1)


def test_without_a_clock_in_globaldb_the_groups_time_is_unknown():
    clock = GroupClock(Clock(None))
    clock.measure()
    assert (clock.skew_s, clock.now()) == (None, None)


def test_it_asks_seldom_and_keeps_what_it_knew_while_globaldb_is_away(monkeypatch):
    source = Clock(600.0)
    clock = GroupClock(source)
    for _ in range(10):
        clock.measure()
    assert source.asked == 1
    monkeypatch.setattr(clock_module, "MEASURE_S", 0.0)
    source.ahead_s = StoreDown("away")
    clock.measure()
    assert source.asked == 2 and clock.skew_s == pytest.approx(-600.0, abs=0.1)


def test_a_real_globaldb_has_a_clock(standing):
    standing.state.clock.measure()
    assert abs(standing.state.clock.skew_s) < 1
