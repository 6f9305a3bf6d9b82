import logging

from hypothesis import given
from hypothesis import strategies as st

from agent import logs
from agent.line import one_line


@given(st.text(st.characters()))
def test_whatever_it_was_it_is_one_printable_line(text):
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert not any(c in line for c in "\x1b\x07\x9b\u202e\u2028")
    line.encode()


def test_good_text_stays_as_it_is():
    for text in ("", "大区1.192.168.1.10.game1: starting -> running", "tab-free, déjà vu, ✓"):
        assert one_line(text) == text


def test_what_is_too_long_ends_in_an_ellipsis():
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


def test_a_name_with_a_line_feed_forges_no_line_of_the_log():
    formatter = logs._Lines("%(message)s")
    record = logging.LogRecord(
        "agent.x", logging.INFO, "", 0, "link to %s: up", ("eve\n2026 root: ok\x1b[2J",), None
    )
    assert formatter.format(record) == r"link to eve\n2026 root: ok\x1b[2J: up"


def test_a_traceback_keeps_its_lines():
    try:
        raise RuntimeError("x")
    except RuntimeError as error:
        record = logging.LogRecord(
            "a", logging.ERROR, "", 0, "a bug", (), (type(error), error, error.__traceback__)
        )
    assert len(logs._Lines("%(message)s").format(record).splitlines()) > 3
