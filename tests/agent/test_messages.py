import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import messages
from agent.errors import Refused, WireError

SAMPLES = {str: "大区1", int: 7, float: 1.5, bool: True, list: [1, "a"], dict: {"k": [1]}}


@pytest.mark.parametrize("cls", messages.BY_NAME.values(), ids=list(messages.BY_NAME))
def test_every_message_of_the_catalogue_comes_back_as_it_went(cls):
    fields = {name: SAMPLES[kinds[-1]] for name, kinds in messages._CHECKS[cls].items()}
    sent = cls(**fields)
    assert messages.decode(messages.encode(sent, 2.5)) == (sent, 2.5)
    assert messages.decode(messages.encode(sent)) == (sent, None)


def test_every_request_names_a_reply_of_the_catalogue():
    assert messages.REPLY_OF
    for request, reply in messages.REPLY_OF.items():
        assert messages.NAME_OF[request] and messages.NAME_OF[reply]


def test_a_taken_name_fails():
    with pytest.raises(ValueError, match="defined twice"):
        messages.message("link.ping")(dataclasses.make_dataclass("Other", []))


def test_unknown_fields_are_passed_over_for_newer_senders():
    assert messages.decode(b'["link.goodbye", {"text": "x", "new": 1}]')[0] == messages.Goodbye("x")


@pytest.mark.parametrize(
    ("body", "error", "complaint"),
    [
        (b"", WireError, "not JSON"),
        (b"\xff\xfe", WireError, "not JSON"),
        (b"[1, {}]", WireError, "not JSON"),
        (b'["link.ping"]', WireError, "not JSON"),
        (b'["link.ping", []]', WireError, "not JSON"),
        (b'["no.such", {}]', Refused, "unknown message 'no.such'"),
        (b'["link.goodbye", {"text": 1}]', Refused, "field text is not str"),
        (b'["link.goodbye", {}]', Refused, "field text is missing"),
        (b'["picture.begun", {"processes": true, "tick_s": 1}]', Refused, "processes is not int"),
        (b'["link.ping", {"left_s": "soon"}]', Refused, "left_s is not a number"),
    ],
)
def test_a_bad_body_is_told_apart(body, error, complaint):
    with pytest.raises(error, match=complaint):
        messages.decode(body)


@given(st.binary(max_size=200))
def test_no_body_does_worse_than_be_refused(body):
    try:
        messages.decode(body)
    except (Refused, WireError):
        pass
