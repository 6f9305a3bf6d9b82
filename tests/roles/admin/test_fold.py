import pytest

from agent.table import width
from roles.admin import reports, views
from roles.admin.fold import LEAST, fold, table
from roles.admin.grammar import VERBS

WORDS = "the daemon says that it is still running after 6.1 s (saving?), pid 4242; kill 10.0.0.1 4242 ends it"


@pytest.mark.parametrize("most", [40, 60, 80, 200])
def test_the_last_column_goes_on_below_itself_and_loses_no_word(most):
    lines = table([["✗", "大区1.10.0.0.1.game1", WORDS], ["✓", "x", ""]], ["", "TARGET", "DETAIL"])
    pieces = fold(lines[1], most)
    assert all(width(piece) <= most for piece in pieces)
    assert " ".join(" ".join(pieces).split()) == f"✗ 大区1.10.0.0.1.game1 {WORDS}"
    begins = 3 + width("大区1.10.0.0.1.game1") + 2
    hang = begins if most - begins >= LEAST else 4
    assert {len(piece) - len(piece.lstrip()) for piece in pieces[1:]} <= {hang}


def test_a_word_wider_than_the_terminal_is_broken_and_not_cut():
    path = "/srv/" + "game/" * 40
    assert (
        "".join(piece.strip() for piece in fold(table([["log", path]])[0], 50)).replace("log  ", "") == path
    )
    assert all(width(piece) <= 41 for piece in fold("大" * 100, 41))


def test_the_header_of_an_empty_last_column_takes_no_line_of_its_own():
    rows = [["game1" * 8, ""], ["x", ""]]
    assert fold(table(rows, ["NAME", "EXIT"])[0], 42) == ["NAME"]
    assert table(rows, ["NAME", "EXIT"])[0].split() == ["NAME", "EXIT"]
    assert len(fold(table([*rows, ["x", "code 1"]], ["NAME", "EXIT"])[0], 42)) == 2


@pytest.mark.parametrize("most", [40, 79, 80])
def test_help_fits_a_narrow_terminal_with_every_word(most):
    for result in (reports.help_list(), *map(reports.help_topic, VERBS)):
        pieces = [piece for line in result.lines for piece in fold(line, most)]
        assert max(map(width, pieces)) <= most
        assert " ".join(pieces).split() == " ".join(result.lines).split()


def test_facts_of_a_process_are_hung_below_their_names():
    entry = dict.fromkeys(("wanted", "pid", "exit", "type", "uptime_s"), "") | {
        "key": "k", "verdict": "SILENT", "age_s": 20.0, "uptime_s": None,
    }  # fmt: skip
    lines = views.description(entry, {"command": "./game " + "--option value " * 20, "kernel state": "T"})
    assert [line.split() for line in lines[1:3]] == [["verdict", "SILENT"], ["last", "report", "20s", "ago"]]
    assert lines[-1].split() == ["kernel", "state", "T", "(stopped)"]
    assert all(
        piece.startswith(" " * 16 + "--option") or "command" in piece for piece in fold(lines[3], 60)
    ), fold(lines[3], 60)
