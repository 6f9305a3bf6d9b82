import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.task import ACTIVE, KINDS, PHASES, Task, read_task

TASK = Task("a1", "drain", "大区1.10.0.0.1.game1", "ada", "10.0.0.9:1", 1.5, 2.5, "维护 😀", "waiting", 1.75,
            True, "9f86", 12, "why", "eve")  # fmt: skip


def test_a_task_comes_back_as_it_was_written():
    assert read_task(TASK.json()) == TASK
    assert read_task(json.dumps({"id": "x", "kind": "restart", "key": "k", "user": "u"})) == Task(
        "x", "restart", "k", "u"
    )


def test_a_field_of_a_later_version_is_passed_over():
    assert read_task(json.dumps({**json.loads(TASK.json()), "mood": "good"})) == TASK


def changed(**fields):
    return json.dumps({**json.loads(TASK.json()), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{}", "5", '"x"', "{", "[" * 5000, '{"id": "x"}',
        changed(kind="other"), changed(phase="other"), changed(phase=None), changed(players="1"), changed(players=True),
        changed(players=1.0), changed(announced=1), changed(deadline_at="1"), changed(begun_at=True), changed(key=5),
        changed(user=None), changed(kind=[]),
    ],
)  # fmt: skip
def test_what_is_no_task_is_none(text):
    assert read_task(text) is None


@given(
    st.text(max_size=30)
    | st.dictionaries(st.sampled_from(Task.__slots__), st.none() | st.text(max_size=5)).map(json.dumps)
)
def test_whatever_stands_there_is_read_or_passed_over(text):
    task = read_task(text)
    assert task is None or (task.kind in KINDS and task.phase in PHASES)


def test_a_phase_begins_at_a_time_and_says_why():
    task = TASK.to("failed", 1234.56789, "no")
    assert (task.phase, task.since_at, task.detail, task.active) == ("failed", 1234.568, "no", False)
    assert replace(task, phase="failed", since_at=1.75, detail="why") == replace(TASK, phase="failed")
    assert {phase for phase in PHASES if TASK.to(phase, 0).active} == ACTIVE
