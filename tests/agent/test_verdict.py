import pytest

from agent.lifecycle import STATES
from agent.verdict import VERDICTS, Freshness, Judged, judge

SILENT_S = 15.0
YES, NO, ANY = True, False, None


@pytest.mark.parametrize(
    ("state", "wanted", "exit_", "stale", "online", "verdict"),
    [
        ("RUNNING", "up", "", NO, YES, "RUNNING"),
        ("RUNNING", "up", "", NO, NO, "RUNNING"),  # the application reports, its daemon is dead
        ("RUNNING", "up", "", NO, ANY, "RUNNING"),
        ("RUNNING", "up", "", YES, YES, "SILENT"),
        ("RUNNING", "up", "", YES, NO, "LOST"),
        ("RUNNING", "up", "", YES, ANY, "LOST"),
        ("STARTING", "up", "", YES, YES, "SILENT"),
        ("STARTING", "up", "", YES, NO, "LOST"),
        ("STOPPING", "down", "", NO, YES, "STOPPING"),
        ("STOPPING", "down", "", YES, YES, "SILENT"),
        ("STOPPING", "down", "", YES, NO, "LOST"),
        ("BACKOFF", "up", "code 1", YES, YES, "BACKOFF"),
        ("BACKOFF", "up", "code 1", YES, NO, "LOST"),
        ("BACKOFF", "up", "code 1", NO, NO, "BACKOFF"),
        ("EXITED", "up", "code 1", YES, YES, "DEAD"),
        ("EXITED", "up", "signal SEGV", NO, NO, "DEAD"),
        ("EXITED", "up", None, YES, YES, "DEAD"),
        ("EXITED", "up", "code 0", YES, YES, "EXITED"),
        ("EXITED", "down", "code 1", YES, YES, "EXITED"),
        ("EXITED", None, "code 1", YES, YES, "EXITED"),
        ("STOPPED", "down", "", YES, YES, "STOPPED"),
        ("STOPPED", "down", "", YES, NO, "STOPPED"),
        ("FATAL", "up", "", YES, NO, "FATAL"),
        ("FOREIGN", "up", "", YES, YES, "FOREIGN"),
        (None, None, None, YES, YES, "UNKNOWN"),
        ("", "", "", NO, YES, "UNKNOWN"),
        ("HATCHED", "up", "", NO, YES, "UNKNOWN"),
    ],
)
def test_the_table_of_verdicts(state, wanted, exit_, stale, online, verdict):
    assert judge(Judged(state, wanted, exit_, stale, online)) == verdict
    assert verdict in VERDICTS


def test_every_state_has_a_verdict_of_its_own_name():
    assert {judge(Judged(state, "down", "", False, True)) for state in STATES} == set(STATES)


@pytest.mark.parametrize("skew_s", [-600.0, 0.0, 600.0])
@pytest.mark.parametrize("has_clock", [True, False])
@pytest.mark.parametrize("silent_from", [0, 3])
def test_wrong_clocks_change_no_verdict(skew_s, has_clock, silent_from):
    """A machine whose clock is ten minutes off reports every 5 s, from tick `silent_from` on no more."""
    freshness, verdicts = Freshness(), []
    for tick in range(12):
        now, true_now = 1000.0 + 5 * tick, 1.7e9 + 5 * tick
        last_report = 1.7e9 + 5 * min(tick, silent_from)
        freshness.age_s(
            "p", last_report + skew_s, now, true_now if has_clock else None, skew_s if has_clock else None
        )
        stale = freshness.is_stale("p", now, SILENT_S)
        verdicts.append(judge(Judged("RUNNING", "up", "", stale, True)))
    quiet_ticks = [tick for tick in range(12) if 5 * (tick - silent_from) > SILENT_S]
    assert [tick for tick, verdict in enumerate(verdicts) if verdict == "SILENT"] == quiet_ticks


def test_the_first_sight_of_an_old_record_is_told_by_globaldbs_clock_less_the_skew():
    freshness = Freshness()
    assert freshness.age_s("p", 1000.0 + 600, now=5.0, group_now=1100.0, skew_s=600.0) == 100.0
    assert freshness.is_stale("p", 5.0, SILENT_S)
    assert freshness.age_s("p", 1000.0 + 600, now=6.0) == 101.0


def test_where_a_clock_is_unknown_the_record_has_the_benefit_of_the_doubt_for_a_while():
    for group_now, skew_s in ((None, None), (5000.0, None), (None, 0.0)):
        freshness = Freshness()
        assert freshness.age_s("p", 1000.0, 5.0, group_now, skew_s) is None
        assert not freshness.is_stale("p", 5.0 + SILENT_S, SILENT_S)
        assert freshness.age_s("p", 1000.0, 5.1 + SILENT_S, group_now, skew_s) is None
        assert freshness.is_stale("p", 5.1 + SILENT_S, SILENT_S)
        assert freshness.age_s("p", 1001.0, 30.0, group_now, skew_s) == 0.0 and not freshness.is_stale(
            "p", 30.0, SILENT_S
        )


def test_a_change_that_was_noticed_late_is_as_old_as_the_clock_says_but_not_older_than_the_last_look():
    freshness = Freshness()
    freshness.age_s("p", 1000.0, 0.0, 1000.0, 0.0)
    assert freshness.age_s("p", 1010.0, 100.0, 1100.0, 0.0) == 90.0
    assert freshness.age_s("p", 1011.0, 105.0, 1105.0, 0.0) == 5.0


def test_a_clock_that_was_set_back_is_a_change_like_any_other():
    freshness = Freshness()
    freshness.age_s("p", 1000.0, 0.0)
    freshness.age_s("p", 400.0, 20.0)
    assert not freshness.is_stale("p", 21.0, SILENT_S)


def test_a_record_from_the_future_is_just_fresh():
    assert Freshness().age_s("p", 2000.0, 0.0, 1000.0, 0.0) == 0.0


def test_a_record_that_never_reported_grows_stale_with_an_unknown_age():
    freshness = Freshness()
    assert freshness.age_s("p", None, 0.0, 1000.0, 0.0) is None and not freshness.is_stale("p", 1.0, SILENT_S)
    assert freshness.age_s("p", None, 16.0, 1000.0, 0.0) is None and freshness.is_stale("p", 16.0, SILENT_S)


def test_what_is_forgotten_is_seen_for_the_first_time_again():
    freshness = Freshness()
    freshness.age_s("p", 1.0, 0.0)
    freshness.age_s("q", 1.0, 0.0)
    freshness.keep_only(["q"])
    assert not freshness.is_stale("p", 100.0, SILENT_S) and freshness.is_stale("q", 100.0, SILENT_S)
