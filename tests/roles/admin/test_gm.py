"""`gm`, from the words to the Result: what is asked of the daemon, what of the operator, what is told of silence."""

from contextlib import nullcontext

import pytest

from agent.errors import LinkLost, NoReply, Refused, UsageError
from agent.gm import Answer
from agent.messages import CallGm, DescribeGm, GmCatalogue, GmVerdicts
from roles.admin import gm, grammar

KEY = "大区1.10.0.0.1.game1"
QUESTION = "kick: 4 processes on 2 machines; confirm it (--yes in scripts)"


class Desk:
    """Answers in the daemon's place: one after the other, a reply, an exception, or a function of (request, take)."""

    timeout_s = 60.0

    def __init__(self, *answers, sure=False, yes=True):
        self.answers, self.sure, self.yes = list(answers), sure, yes
        self.asked, self.questions, self.waits = [], [], []

    def ask(self, request):
        return self.call_gm(request, 0, None)

    def call_gm(self, request, wait_s, take):
        self.asked.append(request), self.waits.append(wait_s)
        answer = self.answers.pop(0)
        answer = answer(request, take) if callable(answer) else answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def confirm(self, question):
        self.questions.append(question)
        return self.yes


def run(text, desk):
    return gm.run(desk, grammar.parse(text))


def answered(spoken="kick --player 7"):
    return GmVerdicts([[KEY, "answered", 1, "", "a newer daemon's"]], spoken)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("gm game1 kick 7", CallGm("*", "*", "game1", "kick", "", ["7"])),
        ("gm 大区1:*.chat kick", CallGm("大区1", "*", "chat", "kick", "")),
        (f"gm {KEY} kick", CallGm("大区1", "10.0.0.1", "game1", "kick", "")),
        (
            "gm game1 kick --reason 'a b' --any",
            CallGm("*", "*", "game1", "kick", "", ["--reason", "a b", "--any"]),
        ),
        ("gm --any game* kick", CallGm("*", "*", "game*", "kick", "", any=True)),
        ("gm --again i7 game1 kick", CallGm("*", "*", "game1", "kick", "i7", again=True)),
    ],
)
def test_what_is_typed_is_asked(text, asked):
    desk = Desk(answered())
    assert run(text, desk).exit_code == 0
    (request,) = desk.asked
    assert len(request.id) == 16 or request.again
    fields = {name: getattr(request, name) for name in CallGm.__slots__}
    assert CallGm(**{**fields, "id": asked.id}) == asked


def test_each_call_has_an_id_of_its_own():
    desk = Desk(answered(), answered())
    run("gm game1 kick 7", desk), run("gm game1 kick 7", desk)
    assert desk.asked[0].id != desk.asked[1].id


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [("gm game1 kick", 30.0), ("gm --timeout 90s game1 kick", 90.0), ("gm --timeout=2m g k", 120.0)],
)
def test_an_answer_is_waited_for_as_long_as_was_said(text, wait_s):
    desk = Desk(answered())
    run(text, desk)
    assert desk.waits == [wait_s]


def test_verdicts_that_came_ahead_and_those_of_the_reply_are_one_result():
    desk = Desk(lambda request, take: take([Answer("b.10.0.0.2.x", "answered", 2)]) or answered())
    assert [row["target"] for row in run("gm game1 kick 7", desk).document["verdicts"]] == [
        "b.10.0.0.2.x",
        KEY,
    ]


def test_what_is_not_confirmed_is_asked_and_then_done_once():
    desk = Desk(Refused("unconfirmed", QUESTION), answered())
    assert run("gm * kick 7", desk).exit_code == 0
    first, second = desk.asked
    assert desk.questions == ["gm kick: 4 processes on 2 machines"]
    assert (first.wide, first.sure, second.wide, second.sure) == (
        False,
        False,
        True,
        True,
    ) and first.id == second.id


def test_what_is_declined_is_not_done():
    desk = Desk(Refused("unconfirmed", QUESTION), yes=False)
    result = run("gm * kick hunter2", desk)
    assert result.lines == ["nothing was done"] and result.exit_code == 0 and len(desk.asked) == 1
    assert "hunter2" not in str(result.document)


def test_a_sure_one_is_not_asked():
    desk = Desk(answered(), sure=True)
    run("gm * kick", desk)
    assert desk.asked[0].wide and desk.asked[0].sure and not desk.questions


@pytest.mark.parametrize(
    "lost",
    [LinkLost("link lost"), NoReply("no reply within 30 s"), KeyboardInterrupt()],
    ids=["lost", "silent", "ctrl-c"],
)
@pytest.mark.parametrize("early", [[], [Answer(KEY, "answered", 1)]])
def test_what_may_have_happened_is_told_with_the_id_to_ask_by(lost, early):
    desk = Desk(lambda request, take: take(early) or lost)
    result = run("gm game1 kick hunter2", desk)
    assert result.exit_code == 5 and len(result.document["verdicts"]) == len(early)
    assert f"gm --again {desk.asked[0].id} … asks what became of it, and runs nothing" in result.notes[0]
    assert "hunter2" not in str(result)


def test_a_verdict_in_doubt_is_told_with_the_id_to_ask_by():
    desk = Desk(GmVerdicts([[KEY, "timed_out", None, "waited"]], "kick"))
    result = run("gm game1 kick", desk)
    assert result.exit_code == 5 and f"its id is {desk.asked[0].id}: gm --again" in result.notes[0]


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (Refused("unknown_target", "no process or type gmae1"), UsageError),
        (Refused("forbidden", "user ada may not"), Refused),
        (Refused("too_many", "too fast"), Refused),
    ],
)
def test_what_came_to_no_target_is_an_error(refusal, raised):
    with pytest.raises(raised, match=str(refusal)):
        run("gm gmae1 kick", Desk(refusal))


def test_help_asks_what_there_is():
    declared = {"name": "kick", "help": "", "danger": "read", "answer": "", "arguments": []}
    desk = Desk(GmCatalogue([[KEY, "game", "d"]], {"d": [declared]}))
    assert "kick" in "\n".join(run("gm help 大区1:game1 kick", desk).lines)
    assert desk.asked == [DescribeGm("大区1", "*", "game1")]
    with pytest.raises(UsageError, match="no process or type matches nothing;"), nullcontext():
        run("gm help nothing", Desk(GmCatalogue([], {})))
