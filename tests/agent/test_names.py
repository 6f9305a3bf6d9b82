import pytest

from agent import names
from agent.errors import ConfigError


@pytest.mark.parametrize("name", ["game1", "大区1", "a" * 64, "gate-2", "game_1", "Ж"])
def test_ordinary_words_are_names(name):
    assert names.name_problem(name) == "" and names.region_problem(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a\tb",
        "a\x00",
        "a\u200bb",
        "a.b",
        "a:b",
        "a,b",
        "a*",
        "a?",
        "[a",
        "a/b",
        "a\\b",
        "'a",
        '"',
        "`",
        "-a",
        "a" * 65,
        "12345",
        "all",
        "e\u0301",
        "\ud800",
    ],
)
def test_words_that_would_be_misread_are_no_names(name):
    assert names.name_problem(name) and names.region_problem(name)


def test_a_region_is_no_word_of_the_list_command():
    assert names.region_problem("world") and names.region_problem("machine")
    assert not names.name_problem("world")


@pytest.mark.parametrize(
    ("ip", "good"),
    [
        ("192.168.1.10", True),
        ("127.0.0.2", True),
        ("10.0.0.255", True),
        ("192.168.1", False),
        ("192.168.1.256", False),
        ("192.168.01.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("192.168.1.10 ", False),
        ("192.168.1.10\n", False),
        ("１.2.3.4", False),
        ("", False),
    ],
)
def test_an_ip_has_one_spelling(ip, good):
    assert names.is_ip(ip) is good


def test_a_key_splits_into_what_it_was_made_of():
    assert names.split_key(names.process_key("大区1", "192.168.1.10", "game1")) == (
        "大区1",
        "192.168.1.10",
        "game1",
    )


@pytest.mark.parametrize(
    "key", ["", "game1", "a.b", "大区1.192.168.1.10", "大区1.192.168.1.300.game1", "x.1.2.3.4.a.b", None]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ConfigError):
        names.split_key(key)


def test_a_key_fits_into_the_smallest_database():
    assert names.key_problem("区" * 30, "192.168.1.10", "a" * 64) == ""
    assert "bytes" in names.key_problem("区" * 64, "192.168.1.10", "game1")


def test_user_names_may_have_dots_but_nothing_that_scram_escapes():
    assert names.user_problem("li.wei") == "" and names.user_problem("7") == ""
    assert names.user_problem("a=b") and names.user_problem("a,b") and names.user_problem("")
