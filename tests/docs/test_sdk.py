"""docs/sdk.md is true: its frames, its messages, its limits."""

import dataclasses
import json
import re

from agent import codec, declaration, gm, messages, wire
from roles.daemon import application, event_stream, memo
from tests.docs import catalogue

TEXT = (catalogue.PROTOCOL.parent / "sdk.md").read_text()
APPLICATION, DAEMON = "C", "S"


def transcript() -> list[tuple[str, wire.Frame]]:
    """(who, frame), as the page has them."""
    block = re.search(r"```text\n(.*?)```", TEXT, re.S)
    assert block
    lines = block[1].splitlines()
    found = []
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        who, length, kind, seq, dst_len, src_len, *names = head.split(" ")
        data = (
            bytes.fromhex(length + kind + seq + dst_len + src_len) + "".join(names).encode() + body.encode()
        )
        (frame,) = wire.Decoder().feed(data)
        assert wire.pack(*frame) == data
        found.append((who, frame))
    return found


def test_the_transcript_is_made_of_messages_of_the_catalogue_and_answers_have_the_seq_of_their_request() -> (
    None
):
    asked: dict[tuple[str, int], str] = {}
    names = []
    for who, frame in transcript():
        message, _left_s = codec.decode(frame.body)
        name = codec.NAME_OF[type(message)]
        names.append(name)
        if frame.kind == wire.REQUEST:
            asked[who, frame.seq] = name
        elif frame.kind in (wire.REPLY, wire.ERROR):
            request = codec.BY_NAME[asked.pop(({"C": "S", "S": "C"}[who], frame.seq))]
            assert frame.kind == wire.ERROR or type(message) is codec.REPLY_OF[request]
        assert not (who == APPLICATION and (frame.dst or frame.src))
    assert not asked
    told = set(re.findall(r"^\| `(\w+\.\w+)` \| (?:application|daemon)", TEXT, re.M))
    assert set(names) - {"error"} | {"entry.set", "entry.state"} == told


def test_the_table_of_messages_has_their_fields() -> None:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (?:application|daemon)[^|]*\| ([^|]*)\|$", TEXT, re.M)
    assert len(rows) == 12
    for name, cell in rows:
        fields = {field.name for field in dataclasses.fields(codec.BY_NAME[name])}
        assert set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", cell))) == fields, name


def test_what_the_example_declares_can_be_declared() -> None:
    example = re.search(r'^    (\{"name": "kick".*?\]\})$', TEXT, re.S | re.M)
    assert example
    declared = declaration.read_declarations([json.loads(example[1])])
    assert gm.bind(declared.find("kick"), ["1001", "cheating"], {}) == {"player": 1001, "reason": "cheating"}


def test_the_limits_are_those_of_the_code() -> None:
    assert application.FRAME_BYTES == 2**20 and wire.MAX_HELLO_BYTES == 4 * 2**10
    assert (
        gm.MAX_ANSWER_BYTES == 64 * 2**10
        and declaration.MAX_COMMANDS == 200
        and declaration.MAX_ARGUMENTS == 32
    )
    assert (event_stream.RATE, event_stream.BURST, event_stream.MAX_DATA_BYTES) == (50, 500, 8 * 2**10)
    assert memo.KEPT_BYTES == 4 * 2**10
    assert messages.Join.__dataclass_fields__["protocol"] and wire.PROTOCOL == 1


def test_the_words_of_a_declaration_are_those_of_the_code() -> None:
    for word in (*declaration.DANGERS, *declaration.TYPES):
        assert f"`{word}`" in TEXT, word
