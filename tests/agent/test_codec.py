"""Fields that may be anything. What every message has in common is in test_messages.py."""

import math

import pytest

from agent import codec
from agent.errors import Refused
from agent.messages import EventRaised, GmAnswer

DEEP = [[[]]]
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value", [None, True, 0, -1, 1.5, "", "大区", [], {}, {"a": [1, None, {"b": False}]}]
)
def test_an_object_field_takes_any_value_as_it_is(value):
    came, _left = codec.decode(codec.encode(GmAnswer(value)))
    assert came == GmAnswer(value) and type(came.answer) is type(value)


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (math.nan, None),
        (math.inf, None),
        ("a\ud800", "a?"),
        ({"\udfff": 2**64}, {"?": None}),
        ({1: 2}, {"1": 2}),
    ],
)
def test_what_json_cannot_carry_is_told_otherwise(value, came):
    assert codec.decode(codec.encode(GmAnswer(value)))[0] == GmAnswer(came)


def test_what_is_nested_too_deep_is_cut_where_a_reader_would_give_up():
    cut = codec.tame(DEEP)
    for _ in range(codec.MAX_DEPTH + 1):
        (cut,) = cut
    assert cut is None


@pytest.mark.parametrize("body", [b'["gm.execute", {"id": "1"}]', b'["event.raised", {"data": 1}]'])
def test_a_required_field_must_be_there_though_it_may_be_anything(body):
    with pytest.raises(Refused, match="is missing"):
        codec.decode(body)


def test_no_other_field_takes_a_bool_for_a_number():
    with pytest.raises(Refused, match="field at is not float"):
        codec.decode(b'["event.raised", {"name": "x", "at": true}]')
    assert codec.decode(b'["event.raised", {"name": "x", "data": true}]')[0] == EventRaised("x", True)
