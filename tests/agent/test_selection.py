import time

import pytest

from agent.errors import UsageError
from agent.selection import Selection

REGIONS = ["大区1", "大区2", "test"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ("*", "*", "*")),
        ("192.168.1.10 all", ("*", "192.168.1.10", "*")),
        ("192.168.1.10 game1", ("*", "192.168.1.10", "game1")),
        ("大区1", ("大区1", "*", "*")),
        ("大区1 192.168.1.10 all", ("大区1", "192.168.1.10", "*")),
        ("大区1 192.168.1.*", ("大区1", "192.168.1.*", "*")),
        ("大区1,大区2 all game*", ("大区1,大区2", "*", "game*")),
        ("大区*", ("大区*", "*", "*")),
        ("all", ("*", "*", "*")),
        ("all all", ("*", "*", "*")),
        ("* game1", ("*", "*", "game1")),
        ("all all all", ("*", "*", "*")),
        ("* 192.168.1.10", ("*", "192.168.1.10", "*")),
        ("大区1.192.168.1.10.game1", ("大区1", "192.168.1.10", "game1")),
    ],
)
def test_each_word_finds_its_place(words, expected):
    selection = Selection.parse(words.split(), REGIONS)
    assert (selection.region, selection.machine, selection.name) == expected


@pytest.mark.parametrize(
    "words",
    [
        "大区9",
        "大区1 game1",
        "大区1 4242",
        "a b c d",
        "192.168.1.10 game1,,game2",
        "192.168.1.10 a b",
        ",",
        "大区1,大区9",
    ],
)
def test_words_that_fit_nowhere_are_wrong_usage(words):
    with pytest.raises(UsageError):
        Selection.parse(words.split(), REGIONS)


def test_an_unknown_region_is_told_with_the_nearest():
    with pytest.raises(UsageError, match=r'no region "tset" .did you mean "test"'):
        Selection.parse(["tset"], REGIONS)


def test_lists_and_globs_match_whole_words_only():
    selection = Selection("大区1", "192.168.1.1?,10.*", "game[12],gate*")
    assert selection.matches("大区1", "192.168.1.10", "game2")
    assert selection.matches("大区1", "10.1.1.1", "gate")
    assert not selection.matches("大区1", "10.1.1.1", "game3")
    assert not selection.matches("大区1", "10.1.1.1", "xgame1")
    assert not selection.matches("大区1", "192.168.1.100", "game1")
    assert not selection.matches("大区11", "10.1.1.1", "game1")
    assert selection.matches_machine("大区1", "10.1.1.1") and not selection.matches_machine(
        "大区2", "10.1.1.1"
    )


def test_wide_is_what_may_reach_over_several_machines():
    assert Selection("*", "*", "game1").is_wide and Selection("*", "1.1.1.1,1.1.1.2").is_wide
    assert not Selection("*", "1.1.1.1", "*").is_wide


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("game1", ("*", "*", "game1")),
        ("game1,game2", ("*", "*", "game1,game2")),
        ("game*", ("*", "*", "game*")),
        ("all", ("*", "*", "*")),
        ("*", ("*", "*", "*")),
        ("192.168.1.10", ("*", "192.168.1.10", "*")),
        ("192.168.1.*", ("*", "192.168.1.*", "*")),
        ("192.168.1.10.game1", ("*", "192.168.1.10", "game1")),
        ("192.168.1.10.all", ("*", "192.168.1.10", "*")),
        ("192.168.1.10.game1,game2", ("*", "192.168.1.10", "game1,game2")),
        ("*.chatserver", ("*", "*", "chatserver")),
        ("大区1:game1", ("大区1", "*", "game1")),
        ("大区1:all", ("大区1", "*", "*")),
        ("all:game1", ("*", "*", "game1")),
        ("大区1,大区2:game1", ("大区1,大区2", "*", "game1")),
        ("大区*:192.168.1.1?.game[12]", ("大区*", "192.168.1.1?", "game[12]")),
        ("*:192.168.1.10.game*", ("*", "192.168.1.10", "game*")),
        ("大区1.192.168.1.10.game1", ("大区1", "192.168.1.10", "game1")),
        ("大区1:192.168.1.10", ("大区1", "192.168.1.10", "*")),
    ],
)
def test_one_word_is_a_target(word, expected):
    selection = Selection.parse_target(word)
    assert (selection.region, selection.machine, selection.name) == expected
    if ":" in word:
        assert Selection.parse([word]) == selection


@pytest.mark.parametrize(
    "word",
    [
        "",
        ":",
        ":game1",
        "大区1:",
        "a:b:game1",
        "game1,,game2",
        "大区1,:game1",
        "10.0.0.1,10.0.0.2.game1",
        ",",
        "1.2.3.4,",
    ],
)
def test_one_word_that_is_no_target_is_wrong_usage(word):
    with pytest.raises(UsageError):
        Selection.parse_target(word)


def test_twenty_thousand_matches_take_no_time():
    selection = Selection("大区*", "10.*", "game*")
    selection.matches("大区1", "10.0.0.1", "game1")
    best = min(_timed(selection) for _ in range(5))
    assert best < 0.1


def _timed(selection):
    begun = time.perf_counter()
    for i in range(20_000):
        selection.matches("大区1", "10.0.0.1", f"game{i}")
    return time.perf_counter() - begun
