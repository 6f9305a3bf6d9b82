import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.errors import WireError

names = st.binary(max_size=wire.MAX_NAME_BYTES)
frames = st.builds(
    wire.Frame,
    kind=st.sampled_from(sorted(wire.KINDS)),
    seq=st.integers(0, wire.MAX_SEQ),
    dst=names,
    src=names,
    body=st.binary(max_size=300),
)


@given(st.lists(frames, max_size=8), st.data())
def test_frames_cut_anywhere_come_out_whole_and_in_order(sent, data):
    stream = b"".join(wire.pack(*frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = wire.Decoder()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += decoder.feed(stream[start:end])
    assert got == sent


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_is_either_waited_for_or_refused_and_never_kept_beyond_the_limit(chunks):
    decoder = wire.Decoder(limit=64)
    try:
        for chunk in chunks:
            list(decoder.feed(chunk))
            assert len(decoder._rest) <= 64 + wire.LENGTH_BYTES
    except WireError:
        pass


def test_a_frame_over_the_limit_is_refused_before_its_body_comes():
    decoder = wire.Decoder(limit=1000)
    head = wire.pack(wire.NOTICE, 0, b"", b"", b"x" * 2000)[:4]
    with pytest.raises(WireError, match="limit is 1000"):
        list(decoder.feed(head))


@pytest.mark.parametrize(
    ("length", "kind", "dst_len", "complaint"),
    [(6, 1, 0, "shorter"), (7, 1, 1, "shorter"), (7, 9, 0, "unknown kind 9"), (2**32 - 1, 1, 0, "limit")],
)
def test_a_lying_prefix_is_refused(length, kind, dst_len, complaint):
    with pytest.raises(WireError, match=complaint):
        list(wire.Decoder().feed(wire.PREFIX.pack(length, kind, 0, dst_len, 0) + b"x" * 20))


def test_the_address_of_a_frame_is_one_slice_of_it():
    frame = wire.pack(wire.REQUEST, 7, b"10.0.0.2", b"10.0.0.1", b"body")
    key = wire.address_key(b"10.0.0.2", b"10.0.0.1")
    assert frame[wire.ADDRESS_AT : wire.ADDRESS_AT + len(key)] == key


def test_a_frame_under_16_mib_begins_with_zero_as_no_tls_record_does():
    assert wire.pack(wire.NOTICE, 0, b"", b"", b"x" * wire.MAX_FRAME_BYTES)[0] == 0


def test_a_large_frame_that_comes_byte_by_byte_is_put_together_once():
    """A peer must not keep us busy for hours with one frame: the cost is per byte, not per byte times what waits."""
    stream = wire.pack(wire.NOTICE, 0, b"", b"", b"x" * 300_000)
    decoder = wire.Decoder()
    got, began = [], time.process_time()
    for at in range(len(stream)):
        got += decoder.feed(stream[at : at + 1])
    assert [len(frame.body) for frame in got] == [300_000]
    assert time.process_time() - began < 2.0  # 0.3 s; copying all that waits at every byte took 6 s
