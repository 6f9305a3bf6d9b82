import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import codec, messages
from agent.errors import Refused, WireError

QUOTED = '"1"'
SAMPLES = {
    str: "大区1",
    int: 7,
    float: 1.5,
    bool: True,
    list: [1, "a"],
    dict: {"k": [1]},
    object: [True, None],
}


@pytest.mark.parametrize("cls", codec.BY_NAME.values(), ids=list(codec.BY_NAME))
def test_every_message_of_the_catalogue_comes_back_as_it_went(cls):
    fields = {name: SAMPLES[kinds[-1]] for name, kinds in codec._CHECKS[cls].items()}
    sent = cls(**fields)
    assert codec.decode(codec.encode(sent, 2.5)) == (sent, 2.5)
    assert codec.decode(codec.encode(sent)) == (sent, None)


def test_every_request_names_a_reply_of_the_catalogue():
    assert codec.REPLY_OF
    for request, reply in codec.REPLY_OF.items():
        assert codec.NAME_OF[request] and codec.NAME_OF[reply]


def test_a_taken_name_fails():
    with pytest.raises(ValueError, match="defined twice"):
        codec.message("link.ping")(dataclasses.make_dataclass("Other", []))


def test_unknown_fields_are_passed_over_for_newer_senders():
    assert codec.decode(b'["link.goodbye", {"text": "x", "new": 1}]')[0] == messages.Goodbye("x")


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
        codec.decode(body)


@given(st.binary(max_size=200))
def test_no_body_does_worse_than_be_refused(body):
    try:
        codec.decode(body)
    except (Refused, WireError):
        pass


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("inf"), None),
        (float("nan"), None),
        ("half \ud800 pair", "half ? pair"),
        (10**5000, None),
        ({"\udcff": 1}, {"?": 1}),
    ],
    ids=["infinite", "no number", "half a pair", "endless", "a key"],
)
def test_what_json_cannot_say_is_said_otherwise_and_stops_nobody(value, said):
    sent = messages.Presence({"10.0.0.2": {"good": 1, "odd": value}})
    assert codec.decode(codec.encode(sent))[0].machines == {"10.0.0.2": {"good": 1, "odd": said}}


def test_what_is_nested_too_deep_is_cut():
    deep = []
    for _ in range(2000):
        deep = [deep]
    assert codec.decode(codec.encode(messages.Presence({"a": {"b": deep}})))


@pytest.mark.parametrize("left", ["1e400", "-1" + "0" * 400, "NaN", "true", QUOTED])
def test_a_time_that_is_none_is_refused(left):
    with pytest.raises(Refused, match="left_s is not a number of seconds"):
        codec.decode(b'["presence.read", {"left_s": %s}]' % left.encode())


def test_an_unknown_name_is_not_repeated_at_length():
    with pytest.raises(Refused) as refused:
        codec.decode(b'["%s", {}]' % (b"x" * 1_000_000))
    assert len(str(refused.value)) < 200
