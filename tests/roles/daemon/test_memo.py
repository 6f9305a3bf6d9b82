import pytest

from agent.gm import ANSWERED, REFUSED, TIMED_OUT, UNKNOWN, Answer
from roles.daemon import memo as module
from roles.daemon.memo import Memos

KEY = "大区1.10.0.0.1.game1"


def test_an_id_is_remembered_of_each_process_on_its_own():
    memos = Memos()
    memo = memos.begin("i", KEY, "run")
    assert memos.get("i", KEY) is memo and memos.get("i", "other") is None is memos.get("j", KEY)
    assert memo.answer is None and not memo.done.is_set() and not memo.in_doubt
    answer = memos.settle("i", KEY, memo, Answer(KEY, ANSWERED, {"a": 1}), ran=True)
    assert memos.get("i", KEY).answer == answer and memo.done.is_set()


@pytest.mark.parametrize(
    ("answer", "ran", "kept"),
    [
        (Answer(KEY, ANSWERED, "x" * 4000), True, True),
        (Answer(KEY, ANSWERED, "x" * 5000), True, False),
        (Answer(KEY, REFUSED, None, "x" * 5000), True, True),
        (Answer(KEY, UNKNOWN), True, True),
        (Answer(KEY, UNKNOWN), False, False),
        (Answer(KEY, ANSWERED, "\ud800"), True, True),
    ],
)
def test_what_was_not_sent_or_is_long_is_not_kept_but_whoever_waits_gets_it(answer, ran, kept):
    memos = Memos()
    memo = memos.begin("i", KEY, "run")
    assert memos.settle("i", KEY, memo, answer, ran=ran) is answer is memo.answer
    assert memo.done.is_set() and (memos.get("i", KEY) is memo) is kept


def test_what_nobody_answered_is_in_doubt():
    for verdict, doubt in ((TIMED_OUT, True), (UNKNOWN, True), (ANSWERED, False), (REFUSED, False)):
        memo = Memos().begin("i", KEY, "run")
        memo.settle(Answer(KEY, verdict))
        assert memo.in_doubt is doubt


def test_the_oldest_go(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    memos = Memos()
    for number in range(5):
        memos.begin(f"i{number}", KEY, "run"), memos.choose(f"i{number}", KEY)
    assert [bool(memos.get(f"i{number}", KEY)) for number in range(5)] == [False, False, True, True, True]
    assert [memos.chosen(f"i{number}") for number in range(5)] == ["", "", KEY, KEY, KEY]
