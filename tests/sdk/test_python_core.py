"""Python: the parts that have no socket, each alone."""

import json
import random

import pytest

from agent import wire
from sdk.python.agentsdk import body, frame, place, resp
from sdk.python.agentsdk.call import Call
from sdk.python.agentsdk.desk import Desk
from sdk.python.agentsdk.engine import Engine
from sdk.python.agentsdk.errors import Refused, WireError
from sdk.python.agentsdk.identity import Identity, from_environment
from sdk.python.agentsdk.info import Info
from sdk.python.agentsdk.later import Later, Outcome
from sdk.python.agentsdk.ledger import MAX_IDS, Answer, Ledger, Ticket
from sdk.python.agentsdk.link import MAX_OUT_BYTES, Link, heartbeat_s
from sdk.python.agentsdk.mailbox import MAX_BYTES, Mailbox
from sdk.python.agentsdk.pause import Pause
from sdk.python.agentsdk.record import Record
from tests.sdk.stand_in import packed

ME = Identity("大区1.1.game1", "127.0.0.1:1", "inc", "token", pid=7)


# ---- frames and bodies


def test_frames_are_those_of_the_agent() -> None:
    mine = frame.pack(frame.REQUEST, 7, b"[]", b"dst", b"src")
    assert mine == wire.pack(wire.REQUEST, 7, b"dst", b"src", b"[]")
    assert list(frame.Decoder().feed(mine)) == list(wire.Decoder().feed(mine))


def test_however_the_bytes_are_cut_the_frames_are_the_same() -> None:
    chance = random.Random(1)
    frames = [frame.pack(chance.randint(1, 4), n, bytes(chance.randint(0, 300))) for n in range(200)]
    stream, decoder, seqs = b"".join(frames), frame.Decoder(), []
    while stream:
        cut = chance.randint(1, 700)
        seqs += [each.seq for each in decoder.feed(stream[:cut])]
        stream = stream[cut:]
    assert seqs == list(range(200))


def test_a_length_is_refused_before_its_body_comes() -> None:
    whole = frame.pack(frame.NOTICE, 0, b"[]")
    for head in (b"\x00\x10\x00\x01", b"\x00\x00\x00\x06"):
        with pytest.raises(WireError):
            list(frame.Decoder().feed(head))
        with pytest.raises(WireError):
            list(frame.Decoder().feed(whole + head))


@pytest.mark.parametrize("data", [b"\0\0\0\x09\5\0\0\0\0\0\0[]", b"\0\0\0\x09\1\0\0\0\0\2\1[]"])
def test_an_unknown_kind_and_addresses_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        list(frame.Decoder().feed(data))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**63,
        -(2**63) - 1,
        {"a": [2**64]},
        json.loads("[" * 70 + "]" * 70),
        {1, 2},
        b"x",
        object(),
        {(1, 2): 3},
    ],
    ids=str,
)
def test_what_must_not_travel_is_not_encoded(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        body.encode("a", {"value": value})


def test_half_a_surrogate_is_replaced() -> None:
    assert body.encode("a", {"b": "\ud800"}) == b'["a",{"b":"?"}]'


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'["a"]',
        b'["a",{},1]',
        b"[1,{}]",
        b'["a",[]]',
        b"\xff",
        b'["a",{"b":NaN}]',
        b'["a",{"b":1e999}]',
        b'["a",{"b":9223372036854775808}]',
        b"[" * 100000,
        b'["a",{"b":' + b"9" * 900000 + b"}]",
    ],
    ids=lambda text: text[:30].decode(errors="replace"),
)
def test_a_body_that_is_no_message_is_an_error(text: bytes) -> None:
    with pytest.raises(WireError):
        body.decode(text)


def test_replies_of_globaldb() -> None:
    decoder = resp.Decoder()
    assert list(decoder.feed(b"+OK\r\n:1")) == ["OK"]
    assert list(decoder.feed(b"2\r\n-ERR no\r\n")) == [12, resp.Failure("ERR no")]
    assert resp.encode("A", "ü") == b"*2\r\n$1\r\nA\r\n$2\r\n\xc3\xbc\r\n"


@pytest.mark.parametrize(
    "data", [b"$3\r\nabc\r\n", b"*1\r\n", b":x\r\n", b":" + b"1" * 99 + b"\r\n", b"HTTP/1.1\r\n"]
)
def test_other_replies_are_errors(data: bytes) -> None:
    with pytest.raises(WireError):
        list(resp.Decoder().feed(data))


def test_a_reply_without_an_end_is_an_error() -> None:
    with pytest.raises(WireError):
        list(resp.Decoder().feed(b"+" + b"x" * 5000))


# ---- words of the environment


def test_addresses_of_globaldb() -> None:
    assert place.of_globaldb("redis://127.0.0.1") == place.Place("127.0.0.1", 6379)
    url = "rediss://us%40er:p%C3%A4ss%3Aword%40%2F@[::1]:7000?ca=/etc/ca.pem"
    assert place.of_globaldb(url) == place.Place("::1", 7000, True, "/etc/ca.pem", "us@er", "päss:word@/")
    assert place.of_globaldb("redis://:secret@h").password == "secret"
    for wrong in ("", "127.0.0.1:6379", "http://h", "redis://", "redis://h:99999", "redis://:secret@[h"):
        with pytest.raises(ValueError) as raised:
            place.of_globaldb(wrong)
        assert "secret" not in str(raised.value)


def test_addresses_of_a_daemon() -> None:
    assert place.of_daemon("127.0.0.1:8889") == place.Place("127.0.0.1", 8889)
    assert place.of_daemon("[::1]:8889") == place.Place("::1", 8889)
    for wrong in ("", "h", ":1", "h:0", "h:x", "user@h:1", "h:1/x"):
        with pytest.raises(ValueError):
            place.of_daemon(wrong)


def test_outside_of_an_agent_there_is_no_identity_but_a_given_one() -> None:
    assert from_environment({}) is None
    given = from_environment({"AGENT_GLOBALDB": "redis://h"}, key="a.b.c")
    assert given and (given.key, given.globaldb, given.daemon) == ("a.b.c", "redis://h", "")


# ---- the ledger


def test_a_running_id_is_never_dropped() -> None:
    ledger = Ledger()
    ledger.begin("runs", Ticket(1, 1))
    for n in range(3 * MAX_IDS):
        assert ledger.begin(str(n), Ticket(1, n))
        ledger.finish(str(n), Answer(frame.REPLY, b""))
    assert ledger.find("runs") and len(ledger) == MAX_IDS


def test_when_everything_runs_there_is_no_room() -> None:
    ledger = Ledger()
    assert all(ledger.begin(str(n), Ticket(1, n)) for n in range(MAX_IDS))
    assert not ledger.begin("more", Ticket(1, 1))
    ledger.finish("5", Answer(frame.REPLY, b""))
    assert ledger.begin("more", Ticket(1, 1)) and ledger.find("5") is None


# ---- answers


def called(function, wrap=lambda v: ("gm.answer", {"answer": v})) -> list[Answer]:
    answers: list[Answer] = []
    Call("command f", function, {}, wrap, answers.append).run()
    return answers


def failing(error: BaseException):
    def f():
        raise error

    return f


def code(answer: Answer) -> str:
    assert answer.kind == frame.ERROR
    return json.loads(answer.body)[1]["code"]


def test_what_a_handler_does_becomes_an_answer() -> None:
    assert called(lambda: {"a": "ü"}) == [(frame.REPLY, '["gm.answer",{"answer":{"a":"ü"}}]'.encode())]
    assert code(called(failing(Refused("no")))[0]) == "refused"
    assert code(called(failing(ZeroDivisionError()))[0]) == "internal"
    assert code(called(lambda: float("nan"))[0]) == "internal"
    assert code(called(lambda: {1, 2})[0]) == "internal"
    assert code(called(lambda: "x" * 65_536)[0]) == "internal"


def test_an_order_to_end_the_program_goes_through_and_is_answered() -> None:
    answers: list[Answer] = []
    call = Call("f", failing(SystemExit(3)), {}, lambda v: ("a", {}), answers.append)
    with pytest.raises(SystemExit):
        call.run()
    assert code(answers[0]) == "internal"


def test_a_later_answers_once_before_or_after_it_is_returned() -> None:
    early, late = Later(), Later()
    early.answer(1)
    assert len(called(lambda: early)) == 1
    answers = called(lambda: late)
    assert not answers
    assert late.refuse("no") and not late.answer(2)
    assert [code(answer) for answer in answers] == ["refused"]


def test_one_later_cannot_answer_two_requests() -> None:
    later = Later()
    called(lambda: later)
    assert code(called(lambda: later)[0]) == "internal"
    assert Later().settle(Outcome("", 1)) is not False


# ---- the desk: the newest asker of a save


def test_a_save_that_is_over_may_be_asked_for_again() -> None:
    errands: list = []
    sent: list[tuple[Ticket, Answer]] = []
    desk = Desk(errands.append)
    laters = [Later(), Later()]
    desk.on_save = iter(laters).__next__
    desk.open(lambda ticket, answer: sent.append((ticket, answer)))
    for n, later in enumerate(laters):
        desk.request(10 * n, "process.save", {"id": "1", "reason": "stop"})
        desk.request(10 * n + 1, "process.save", {"id": "1", "reason": "stop"})
        assert len(desk.calls) == 1 and desk.is_saving
        desk.calls.popleft().run()
        later.answer("all")
        errands.pop()()
        assert sent.pop()[0].seq == 10 * n + 1 and not desk.is_saving


def test_an_answer_goes_to_the_link_that_asked_and_to_no_other() -> None:
    sent: list[Ticket] = []
    desk = Desk(lambda errand: errand())
    desk.on_entry = lambda open, reason: None
    for asked_again in (False, True):
        desk.open(lambda ticket, answer: sent.append(ticket))
        desk.request(7, "entry.set", {"open": True, "reason": ""})
        if not asked_again:
            desk.close()
            desk.open(lambda ticket, answer: sent.append(ticket))
        desk.calls.popleft().run()
    assert [ticket.seq for ticket in sent] == [7]


def test_entry_requests_that_are_never_answered_are_bounded() -> None:
    sent: list[Answer] = []
    desk = Desk(lambda errand: None)
    desk.on_entry = lambda open, reason: None
    desk.open(lambda ticket, answer: sent.append(answer))
    for n in range(65):
        desk.request(n, "entry.set", {"open": True, "reason": ""})
    assert [code(answer) for answer in sent] == ["refused"] and len(desk.calls) == 64


def test_the_mailbox_is_bounded() -> None:
    mailbox, ran = Mailbox(), []
    assert mailbox.put(lambda: ran.append(1), MAX_BYTES)
    assert not mailbox.put(lambda: ran.append(2), 1)
    assert mailbox.put(lambda: ran.append(3))
    mailbox.empty()
    assert ran == [1, 3] and mailbox.put(lambda: None, MAX_BYTES)


def test_a_step_within_a_step_does_nothing() -> None:
    engine, order = Engine(Identity("nobody"), str, bool), []

    def outer() -> None:
        engine.step()
        order.append("outer")

    engine.mailbox.put(outer)
    engine.mailbox.put(lambda: order.append("next"))
    engine.step()
    assert order == ["outer", "next"]


# ---- the link


def new_link() -> tuple[Link, list]:
    told: list = []
    return Link(ME, Desk(lambda errand: errand()), told.append), told


def joined_link() -> Link:
    link, _ = new_link()
    link.open(0.0)
    link.receive(packed(frame.REPLY, 1, "session.joined", {}), 0.0)
    link.out.clear()
    return link


def test_an_answer_to_the_join_that_does_not_come_ends_the_connection() -> None:
    link, _ = new_link()
    link.open(100.0)
    assert link.due == 110.0
    with pytest.raises(WireError, match="join"):
        link.tick(110.0)


def test_nothing_but_the_answer_to_the_join_is_taken_before_it() -> None:
    for kind, seq, name in ((frame.REQUEST, 1, "gm.execute"), (frame.REPLY, 2, "session.joined")):
        link, told = new_link()
        link.open(0.0)
        link.receive(packed(frame.NOTICE, 0, "link.ping", {}), 0.0)
        with pytest.raises(WireError):
            link.receive(packed(kind, seq, name, {}), 0.0)
        assert not link.joined and not told


def test_declarations_in_a_row_are_told_once() -> None:
    link = joined_link()
    for now in (0.01, 0.02, 0.03):
        link.declare(now)
        link.tick(now)
    assert not link.out
    link.tick(link.due)
    assert link.out.count(b"application.declare") == 1
    link.tick(100.0)
    assert link.out.count(b"application.declare") == 1


def test_a_daemon_that_does_not_read_is_hung_up_on() -> None:
    link = joined_link()
    for _ in range(3):
        link.notice(bytes(MAX_OUT_BYTES // 3))
    assert len(link.out) < MAX_OUT_BYTES // 2 and link.due > 0.0  # notices never end it
    for _ in range(3):
        link._answer(Ticket(1, 1), Answer(frame.REPLY, bytes(MAX_OUT_BYTES // 3)))
    assert len(link.out) <= MAX_OUT_BYTES + 100 and link.due <= 0.0
    with pytest.raises(WireError, match="read"):
        link.tick(0.0)
    link.lost()
    assert not link.out and not link.joined
    link.open(1.0)
    assert link.due == 11.0


@pytest.mark.parametrize(
    ("told", "taken"), [(2, 2.0), (0, 0.1), (1e9, 3600.0), ("2", 5.0), (True, 5.0), (None, 5.0)]
)
def test_a_rate_is_taken_where_it_makes_sense(told: object, taken: float) -> None:
    assert heartbeat_s({"heartbeat_s": told}, 5.0) == taken


def test_pauses_double_with_chance_and_begin_anew() -> None:
    pause = Pause(0.2, 5.0)
    for _ in range(2):
        for step in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
            assert step * 0.75 <= pause.next_s() <= step * 1.25
        pause.reset()
    assert all(Pause(1.0, 10.0, least_s=1.0).next_s() >= 1.0 for _ in range(50))


def test_after_a_good_connection_the_next_try_is_soon() -> None:
    link, _ = new_link()
    record = new_record()
    assert max(link.pause_s() for _ in range(20)) > 3.0
    assert 5.0 < max(record.pause_s() for _ in range(20)) <= 10.0
    link.open(0.0)
    link.receive(packed(frame.REPLY, 1, "session.joined", {}), 0.0)
    said(record)
    record.receive(b"+OK\r\n", 0.0)
    assert link.pause_s() <= 0.25 and 1.0 <= record.pause_s() <= 1.25
    assert all(new_record().pause_s() >= 1.0 for _ in range(50))


# ---- the record


def new_record(url: str = "redis://h", incarnation: str = "inc", **more) -> Record:
    record = Record(
        ME._replace(incarnation=incarnation), lambda: '{"players":1}', wall=lambda: 1795369747.2034, **more
    )
    record.place = place.of_globaldb(url)
    record.open(0.0)
    return record


def said(record: Record, now: float = 0.0) -> list[str]:
    """The one command that it sends now."""
    record.tick(now)
    words = record.out.decode().split("\r\n")[2::2]
    record.out.clear()
    return words


def test_a_record_is_these_words_at_this_rate() -> None:
    record = new_record()
    record.set_rate(10.0)
    words = [
        "HMSET",
        "process:大区1.1.game1",
        "info",
        '{"players":1}',
        "pid",
        "7",
        "lastupdate",
        "1795369747.203",
    ]
    assert said(record) == words
    record.receive(b"+OK\r\n", 0.1)
    assert said(record, 8.9) == [] and record.due == 9.0
    assert said(record, 9.0) == words


def test_nothing_is_sent_while_an_answer_is_missing() -> None:
    record = new_record()
    said(record)
    record.set_rate(0.1)
    assert said(record, 4.9) == []
    with pytest.raises(WireError, match="5 s"):
        record.tick(5.0)


def test_an_error_ends_the_connection() -> None:
    record = new_record()
    said(record)
    with pytest.raises(WireError, match="LOADING"):
        record.receive(b"-LOADING\r\n", 0.0)


def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    with pytest.raises(WireError):
        new_record().receive(b"+OK\r\n", 0.0)


@pytest.mark.parametrize(
    ("url", "words"), [("redis://:p@h", ["AUTH", "p"]), ("redis://u:p@h", ["AUTH", "u", "p"])]
)
def test_a_password_goes_first(url: str, words: list[str]) -> None:
    record = new_record(url)
    assert said(record) == words
    record.receive(b"+OK\r\n", 0.0)
    assert said(record)[0] == "HMSET"


def test_a_start_by_hand_is_counted_once_also_when_the_answer_is_lost() -> None:
    record = new_record(incarnation="")
    assert said(record) == ["HEXISTS", "process", "大区1.1.game1"]
    record.lost()
    record.open(2.0)
    assert said(record, 2.0)[0] == "HEXISTS"  # that one counts nothing
    record.receive(b":0\r\n", 2.0)
    assert said(record, 2.0) == ["HSET", "process", "大区1.1.game1", "1795369747.203"]
    record.receive(b":1\r\n", 2.0)
    assert said(record, 2.0) == ["HINCRBY", "process:大区1.1.game1", "startcount", "1"]
    record.lost()
    record.open(4.0)
    assert said(record, 4.0)[0] == "HMSET"


def test_one_that_is_there_already_is_not_entered_again() -> None:
    record = new_record(incarnation="")
    said(record)
    record.receive(b":1\r\n", 0.0)
    assert said(record)[0] == "HINCRBY"


def test_without_a_beat_there_is_silence_until_the_next() -> None:
    alive = [True, False, False, True]
    record = new_record(is_alive=lambda: alive.pop(0))
    said(record)
    record.receive(b"+OK\r\n", 0.0)
    assert said(record, 5.0) == [] == said(record, 6.0)
    assert 6.0 < record.due < 6.5
    assert said(record, 7.0)[0] == "HMSET"


# ---- info


@pytest.mark.parametrize(
    "bad",
    [lambda: 1 / 0, list, lambda: {"a": float("nan")}, lambda: {"a": {1}}, lambda: {"a": "x" * 99_999}],
)
def test_info_that_fails_leaves_the_last_one(bad, caplog: pytest.LogCaptureFixture) -> None:
    infos = [lambda: {"players": 1}, bad, bad, lambda: {"players": 2}]
    info = Info(lambda: infos.pop(0)())
    assert [info() for _ in range(4)] == ['{"players":1}'] * 3 + ['{"players":2}']
    assert len([record for record in caplog.records if record.name == "agentsdk"]) == 1
