from wcwidth import wcwidth

from agent.table import render, width


def test_columns_line_up_whatever_the_width_of_a_character():
    lines = render([["大区1", 7], ["test", 1234]], ["region", "pid"], "<>").split("\n")
    assert lines == ["region   pid", "大区1      7", "test    1234"]
    assert {width(line) for line in lines} == {12}


def test_the_last_column_has_no_trailing_spaces_and_none_is_empty():
    assert render([["a", None], ["bb", "c"]]) == "a\nbb  c"


def test_colours_take_no_room_and_only_if_wanted():
    rows = [[("RUNNING", "green"), "x"], ["STOPPED", "y"]]
    assert render(rows) == "RUNNING  x\nSTOPPED  y"
    assert render(rows, colour=True) == "\x1b[32mRUNNING\x1b[0m  x\nSTOPPED  y"


def test_what_would_steer_the_terminal_is_shown_as_a_mark():
    assert render([["a\x1b[2Jb\n\u202ec"]]) == "a�[2Jb��c"


def test_no_rows_and_uneven_rows():
    assert render([]) == "" and render([["a"], ["b", "c"]]) == "a\nb  c"


def test_widths_are_those_of_wcwidth_for_what_names_are_written_in():
    blocks = (
        (0xA1, 0x250),
        (0x370, 0x500),
        (0x3000, 0x302A),
        (0x3030, 0x3100),
        (0x4E00, 0xA000),
        (0xFF01, 0xFF61),
    )
    letters = [chr(code) for first, end in blocks for code in range(first, end) if chr(code).isprintable()]
    assert [letter for letter in letters if width(letter) != wcwidth(letter)] == []
