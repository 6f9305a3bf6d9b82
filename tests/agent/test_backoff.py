from agent.backoff import Backoff


def test_waits_double_up_to_the_most_with_jitter_below():
    backoff = Backoff(0.2, 5.0)
    for step in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0):
        assert step / 2 <= backoff.next_s() <= step


def test_a_reset_begins_anew():
    backoff = Backoff(1.0, 8.0)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_a_thousand_do_not_come_back_in_one_instant():
    waits = sorted(Backoff(1.0).next_s() for _ in range(1000))
    assert waits[-1] - waits[0] > 0.4
    assert len({round(wait, 4) for wait in waits}) > 800
