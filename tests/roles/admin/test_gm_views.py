"""What operators see of GM commands and events."""

import json

import pytest

from agent.errors import UsageError
from agent.gm import Answer
from agent.messages import CallGm, GmCatalogue
from roles.admin import gm_views

ASKED = CallGm("*", "*", "game1", "kick", "i1")
KEYS = [f"大区1.10.0.0.{number}.game{number}" for number in range(1, 31)]


def shown(*answers, note=""):
    return gm_views.verdicts(ASKED, answers, "kick --player 7", note)


def test_a_single_answer_has_the_screen_for_itself():
    result = shown(Answer(KEYS[0], "answered", {"player": 7, "online": [True, None], "name": "大 a"}))
    assert result.lines[0] == f"✓ answered  {KEYS[0]}" and result.exit_code == 0 and not result.trouble
    assert [line.split() for line in result.lines[1:]] == [
        ["player", "7"], ["online", "[true,", "null]"], ["name", "大", "a"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (Answer(KEYS[0], "answered", 5), [f"✓ answered  {KEYS[0]}", "  5"]),
        (Answer(KEYS[0], "answered", [1, "大"]), [f"✓ answered  {KEYS[0]}", '  [1, "大"]']),
        (Answer(KEYS[0], "answered", "done"), [f"✓ answered  {KEYS[0]}", "  done"]),
        (Answer(KEYS[0], "answered"), [f"✓ answered  {KEYS[0]}"]),
        (Answer(KEYS[0], "refused", None, "not in a battle"), [f"✗ refused  {KEYS[0]}  not in a battle"]),
        (Answer(KEYS[0], "unknown", None, "lost"), [f"? unknown  {KEYS[0]}  lost"]),
        (Answer(KEYS[0], "postponed", None, ""), [f"✗ postponed  {KEYS[0]}"]),
    ],
)
def test_other_answers_are_a_line(answer, lines):
    assert shown(answer).lines == lines


def test_many_targets_with_the_very_same_verdict_are_one_row():
    answers = [Answer(key, "answered", {"a": 1}) for key in KEYS] + [
        Answer("b.10.0.1.1.x", "refused", None, "no")
    ]
    result = shown(*answers)
    text = "\n".join(result.lines)
    assert "30 processes: game1, game10, game11, …" in text and '{"a": 1}' in text
    assert (
        "b.10.0.1.1.x" in text
        and result.lines[-1] == "gm kick: 30 answered, 1 refused"
        and len(result.lines) == 4
    )
    assert result.trouble == ["gm kick b.10.0.1.1.x: refused: no"] and result.exit_code == 1
    assert len(result.document["verdicts"]) == 31, "a document has them all"


def test_a_few_are_a_row_each():
    result = shown(*(Answer(key, "answered", 1) for key in KEYS[:3]))
    assert sum(key in line for line in result.lines for key in KEYS[:3]) == 3


def test_many_that_went_wrong_are_counted_on_stderr():
    result = shown(*(Answer(key, "absent", None, "x") for key in KEYS))
    assert len(result.trouble) == gm_views.TOLD + 1 and result.trouble[-1] == "gm kick: 30 absent"


def test_the_document_has_every_target_in_parts_and_never_the_words():
    result = shown(Answer(KEYS[0], "answered", {"a": [1]}), Answer("kick*", "absent", None, "none"))
    assert result.document == {
        "gm": "kick",
        "id": "i1",
        "spoken": "kick --player 7",
        "verdicts": [
            {"target": "kick*", "region": "", "ip": "kick*", "name": "", "verdict": "absent", "answer": None,
             "text": "none"},
            {"target": KEYS[0], "region": "大区1", "ip": "10.0.0.1", "name": "game1", "verdict": "answered",
             "answer": {"a": [1]}, "text": ""},
        ],
        "summary": {"answered": 1, "refused": 0, "forbidden": 0, "invalid": 0, "absent": 1, "unreachable": 0,
                    "timed_out": 0, "unknown": 0},
    }  # fmt: skip
    json.dumps(result.document)


@pytest.mark.parametrize(
    ("answers", "note", "code"),
    [
        ([], "the wait was ended", 5),
        ([Answer(KEYS[0], "answered")], "", 0),
        ([Answer(KEYS[0], "answered")], "some have not answered", 5),
        ([Answer(KEYS[0], "refused")], "some have not answered", 1),
    ],
)
def test_what_has_not_answered_is_no_success(answers, note, code):
    result = shown(*answers, note=note)
    assert result.exit_code == code and result.notes == ([note] if note else [])


@pytest.mark.parametrize("evil", ["\x1b[2J", "a\nb\rc", "\x9b31m", "\u202e"])
def test_what_an_application_says_cannot_move_the_cursor(evil):
    answers = [Answer(KEYS[0], "answered", {evil: evil}, evil), Answer(KEYS[1], "refused", [evil], evil)]
    texts = [*shown(*answers).lines, *shown(answers[0]).lines, *gm_views.event([KEYS[0], 1.0, evil, evil]).lines,
             *gm_views.events([[KEYS[0], 1.0, evil, {evil: 1}]]).lines]  # fmt: skip
    assert all(line.isprintable() for line in texts)


# ---- what can be called

KICK = {
    "name": "kick", "help": "throw out", "danger": "write", "answer": "{player}",
    "arguments": [{"name": "player", "type": "int", "help": "its id"}, {"name": "word", "type": "str", "secret": True},
                  {"name": "reason", "type": "str", "default": "none given"}],
}  # fmt: skip
LOOK = {"name": "look", "help": "", "danger": "read", "answer": "", "arguments": []}
FOUND = GmCatalogue(
    [
        [KEYS[0], "game", "d1"],
        [KEYS[1], "game", "d1"],
        [KEYS[2], "gate", "d2"],
        [KEYS[3], "game", ""],
        [KEYS[4], "game", "-"],
    ],
    {"d1": [KICK, LOOK], "d2": [LOOK], "-": []},
)


def test_commands_are_listed_by_who_has_the_very_same_ones():
    text = "\n".join(gm_views.catalogue(FOUND).lines)
    assert "game (game1, game2)" in text and "gate (game3)" in text
    assert "kick PLAYER WORD [REASON]" in text and "throw out" in text
    assert "game (game4): not joined, so nothing can be called" in text
    assert "it has declared no commands" in text


def test_one_command_is_told_in_full_and_of_those_that_have_it():
    result = gm_views.catalogue(FOUND, "kick")
    text = "\n".join(result.lines)
    for told in (
        "--player",
        "int",
        "required",
        "its id",
        "(secret)",
        "default none given",
        "answers {player}",
        "(write)",
    ):
        assert told in text
    assert "gate" not in text and [group["type"] for group in result.document["groups"]] == ["game"]


def test_a_command_that_nobody_has_is_told_with_the_nearest():
    with pytest.raises(UsageError, match=r'no GM command "kcik" there .did you mean "kick"'):
        gm_views.catalogue(FOUND, "kcik")


def test_a_machine_that_did_not_answer_is_named_and_that_is_no_success():
    result = gm_views.catalogue(GmCatalogue([], {}, ["10.0.0.9"]))
    assert result.exit_code == 5 and "no answer from 10.0.0.9" in result.notes[0]


# ---- events


def test_an_event_is_a_line_and_a_document():
    result = gm_views.event([KEYS[0], 0.5, "boss", {"who": "大"}])
    assert result.lines[0].endswith(f'{KEYS[0]}: boss {{"who": "大"}}') and result.document["data"] == {
        "who": "大"
    }
    assert gm_views.event([KEYS[0], 0.5, "boss", None]).lines[0].endswith(": boss")
    assert gm_views.events([]).lines == ["no events are kept there"]
    assert gm_views.events([[KEYS[0], 5.0, "a", None]]).document == {
        "events": [{"key": KEYS[0], "at": 5.0, "name": "a", "data": None}]
    }
