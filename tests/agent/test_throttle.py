from hypothesis import given
from hypothesis import strategies as st

from agent.throttle import Throttle


def test_so_many_failures_and_no_more_until_the_oldest_is_forgotten():
    throttle = Throttle(3, 60.0)
    for now in (0.0, 10.0, 20.0):
        assert throttle.wait_s("a", now) == 0
        throttle.failed("a", now)
    assert throttle.wait_s("a", 20.0) == 40.0
    assert throttle.wait_s("b", 20.0) == 0
    assert throttle.wait_s("a", 59.9) > 0
    assert throttle.wait_s("a", 60.0) == 0
    throttle.failed("a", 60.0)
    assert throttle.wait_s("a", 60.0) == 10.0


def test_forgetting_gives_all_tries_back():
    throttle = Throttle(1, 60.0)
    throttle.failed("a", 0.0)
    throttle.forget("a")
    assert throttle.wait_s("a", 0.0) == 0
    throttle.forget("nobody")


def test_a_flood_of_keys_costs_bounded_memory_and_the_newest_count():
    throttle = Throttle(1, 60.0, keys=100)
    for number in range(1000):
        throttle.failed(str(number), 0.0)
        assert len(throttle._failures) <= 100
    assert throttle.wait_s("999", 0.0) > 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30)), max_size=60))
def test_nobody_ever_has_more_tries_in_a_window(steps):
    throttle, now, allowed = Throttle(3, 10.0), 0.0, {"a": [], "b": []}
    for key, step in steps:
        now += step
        if not throttle.wait_s(key, now):
            allowed[key].append(now)
            throttle.failed(key, now)
    for times in allowed.values():
        assert all(later - first >= 10.0 for first, later in zip(times, times[3:], strict=False))
