"""The Python client against daemons that say no, lie, talk garbage or come late; under gevent, as tools may be."""

import contextlib
import gc
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from agent import wire
from agent.errors import Refused
from sdk.python import agentsdk
from sdk.python.agentsdk import change, client, feed, login, picture
from tests.sdk.daemon_stand_in import NAME, PASSWORD, USER, Between, Daemon
from tests.sdk.stand_in import Application, Listener, Message, packed
from tests.waiting import until

KEY = "大区1.1.2.3.4.game1"
WAIT_S = 15.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the daemon's certificate is."""
    return tmp_path_factory.mktemp("daemon")


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder) as daemon:
        yield daemon


Pair = tuple[agentsdk.Group, Application]


@pytest.fixture
def pair(daemon: Daemon) -> Iterator[Pair]:
    """A group, and the daemon's end of its connection."""
    with connected(daemon) as pair:
        yield pair


@contextlib.contextmanager
def connected(daemon: Daemon) -> Iterator[Pair]:
    tool = daemon.serve()
    with agentsdk.connect(daemon.address, user=USER, password=PASSWORD) as group:
        yield group, tool.get(timeout=WAIT_S)


def connect(address: Any, password: str = PASSWORD, timeout_s: float = WAIT_S) -> agentsdk.Group:
    return agentsdk.connect(address, user=USER, password=password, timeout_s=timeout_s)


def outcomes(tool: Application, message: Message, *rows: list) -> None:
    tool.reply(message, "outcomes", outcomes=list(rows))


# ---- coming in


def test_a_wrong_password_is_refused_and_names_the_daemon(daemon: Daemon) -> None:
    daemon.serve()
    with pytest.raises(agentsdk.LoginRefused, match=f"{daemon.address}: login refused"):
        connect(daemon.address, "wrong")


def test_a_password_in_any_script_is_the_same_on_every_keyboard(folder: Path) -> None:
    with Daemon(folder, "Kennwört 密码") as daemon:
        daemon.serve()
        connect(daemon.address, "Kennwo\u0308rt\u00a0密码").close()
        with pytest.raises(agentsdk.LoginRefused, match="no name or password is like that"):
            connect(daemon.address, "\u0007")


def test_somebody_in_between_is_noticed_and_learns_nothing(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "his").mkdir()
    with Between(tmp_path / "his", daemon.address) as between:
        daemon.serve()
        with pytest.raises(agentsdk.LoginRefused, match="somebody sits in between"):
            connect(between.address)
        assert between.heard and PASSWORD.encode() not in between.heard


def test_whoever_does_not_know_the_password_is_no_daemon(folder: Path) -> None:
    """He has a certificate of his own, takes any proof, and makes up a signature."""
    with Daemon(folder) as daemon:

        def pretend() -> None:
            tool = Application(daemon.accept_tls())
            hello = tool.take("session.hello")
            nonce = hello.fields["client_first"].rpartition("r=")[2]
            tool.reply(hello, "session.challenge", server_first=f"r={nonce}more,s=c2FsdA==,i=4096")
            signature = "v=" + "A" * 43 + "="
            prove = tool.take("session.prove")
            welcome = {"server_final": signature, "role": "daemon", "name": NAME}
            tool.send(wire.REPLY, prove.seq, "session.welcome", welcome)

        gevent.spawn(pretend)
        with pytest.raises(agentsdk.LoginRefused, match="could not prove"):
            connect(daemon.address)


def test_a_daemon_that_cannot_let_anybody_in_just_now_is_no_refusal(daemon: Daemon) -> None:
    daemon.no = ("unavailable", "users cannot be read")
    daemon.serve()
    with pytest.raises(agentsdk.ConnectFailed, match="users cannot be read") as failed:
        connect(daemon.address)
    assert not isinstance(failed.value, agentsdk.LoginRefused)


def plain(daemon: Daemon, data: bytes) -> None:
    daemon.accept().sendall(data)


def over_tls(daemon: Daemon, data: bytes) -> None:
    daemon.accept_tls().sendall(data)


HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
# what it sends, and what is said of it
GARBAGE: dict[str, tuple[Callable[[Daemon, bytes], None], bytes, str]] = {
    "no tls": (plain, HTTP, "no TLS with it"),
    "nothing": (lambda daemon, _data: daemon.accept().close(), b"", ""),
    "no frame": (over_tls, HTTP, "a frame of"),
    "too long a frame": (
        over_tls,
        wire.PREFIX.pack(login.MAX_FRAME_BYTES + 1, wire.REPLY, 1, 0, 0),
        "a frame of",
    ),
    "no json": (over_tls, wire.pack(wire.REPLY, 1, b"", b"", b"\xff"), "not JSON"),
    "another reply": (over_tls, packed(wire.REPLY, 1, "session.joined", {"server_first": "x"}), "belongs"),
    "a late reply": (over_tls, packed(wire.REPLY, 7, "session.challenge", {"server_first": "x"}), "belongs"),
    "no text": (over_tls, packed(wire.REPLY, 1, "session.challenge", {"server_first": 1}), "is no text"),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_whoever_is_no_daemon_is_told_so(daemon: Daemon, what: str) -> None:
    play, data, said = GARBAGE[what]
    playing = gevent.spawn(play, daemon, data)
    with pytest.raises(agentsdk.ConnectFailed, match=f"{daemon.address}.*{said}"):
        connect(daemon.address)
    playing.get(timeout=WAIT_S)


@pytest.mark.parametrize("silent", ["before tls", "before login"])
def test_whoever_says_nothing_is_waited_for_no_longer_than_asked(daemon: Daemon, silent: str) -> None:
    playing = gevent.spawn(daemon.accept if silent == "before tls" else daemon.accept_tls)
    with (
        gevent.Timeout(WAIT_S),
        pytest.raises(agentsdk.ConnectFailed, match=r"did not answer within [01] s"),
    ):
        connect(daemon.address, timeout_s=0.5)
    playing.get(timeout=WAIT_S)


def test_of_several_daemons_the_first_that_answers_is_taken(daemon: Daemon) -> None:
    with Listener() as nobody:
        nobody.stop()
        daemon.serve()
        connect([nobody.address, daemon.address]).close()
        with pytest.raises(agentsdk.ConnectFailed, match=f"{nobody.port}.*{nobody.port}"):
            connect([nobody.address, nobody.address])


# ---- asking


def test_a_daemon_that_dies_during_a_call_leaves_it_open_and_the_next_call_makes_a_new_link(
    daemon: Daemon, pair: Pair
) -> None:
    group, tool = pair
    call = gevent.spawn(group.gm, "game", "kick", player=1001, confirm=True)
    asked = tool.take("gm.call")
    assert asked.fields["arguments"] == {"player": 1001} and asked.fields["wide"] and asked.fields["sure"]
    tool.notice("gm.answered", id=asked.fields["id"], verdicts=[[KEY, "answered", {"kicked": 1001}, ""]])
    until(lambda: next(iter(group._waiting.values()))[0].some(), WAIT_S)
    tool.close()
    with pytest.raises(agentsdk.LinkLost, match="outcome unknown") as lost:
        call.get(timeout=WAIT_S)
    assert lost.value.id == asked.fields["id"]
    assert lost.value.came == [agentsdk.Answer(KEY, "answered", {"kicked": 1001})]

    again = gevent.spawn(group.gm_again, lost.value.id, "game", "kick", player=1001)
    tool = daemon.tool()
    asked = tool.take("gm.call")
    assert asked.fields["again"] and asked.fields["id"] == lost.value.id
    tool.reply(asked, "gm.verdicts", verdicts=[[KEY, "unknown", None, "it was interrupted"]])
    gm = again.get(timeout=WAIT_S)
    assert gm.in_doubt and not gm.good


def test_an_answer_that_comes_late_is_nobodys(pair: Pair) -> None:
    group, tool = pair
    with pytest.raises(agentsdk.NoReply, match="outcome unknown"):
        group.stop("game1", timeout_s=0.2)
    late = tool.take("group.operate")
    assert 0 < late.fields["left_s"] <= 0.2
    call = gevent.spawn(group.start, "game1")
    asked = tool.take("group.operate")
    outcomes(tool, late, [KEY, "ok", "stopped", 0])
    outcomes(tool, asked, [KEY, "ok", "started", 1])
    assert call.get(timeout=WAIT_S) == [agentsdk.Outcome(KEY, "ok", "started", 1)]


def test_what_came_before_time_was_up_is_told(pair: Pair) -> None:
    group, tool = pair
    call = gevent.spawn(group.stop, "game1", timeout_s=1.0)
    asked = tool.take("group.operate")
    tool.notice("target.finished", command=asked.fields["command"], outcome=[KEY, "ok", "stopped", 0])
    with pytest.raises(agentsdk.NoReply) as late:
        call.get(timeout=WAIT_S)
    assert late.value.came == [agentsdk.Outcome(KEY, "ok", "stopped", 0)]


def test_two_pictures_are_never_mixed_up(pair: Pair) -> None:
    """The first comes too late: whoever asks next waits for its end."""
    group, tool = pair
    with pytest.raises(agentsdk.NoReply):
        group.processes("a", timeout_s=0.2)
    first = tool.take("picture.watch")
    with pytest.raises(agentsdk.NoReply, match="an earlier picture"):
        group.processes("b", timeout_s=0.2)
    call = gevent.spawn(group.processes, "c")
    tool.notice("picture.changed", processes=[row("a")])
    tool.reply(first, "picture.begun", processes=1, tick_s=2.0)
    second = tool.take("picture.watch")
    assert second.fields["name"] == "c"
    tool.notice("picture.changed", processes=[row("c")])
    tool.reply(second, "picture.begun", processes=1, tick_s=2.0)
    assert [process.name for process in call.get(timeout=WAIT_S)] == ["c"]


def row(name: str, verdict: str = "RUNNING", pid: int = 1) -> list:
    return [f"大区1.1.2.3.4.{name}", verdict, "up", pid, 0.5, 1, 9.5, "", {}, 9.0]


UNREADABLE: dict[str, dict[str, Any]] = {
    "rows of another kind": {"outcomes": [{"target": KEY}]},
    "no rows": {},
    "words for numbers": {"outcomes": [[KEY, "ok", "", "many"]]},
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_no_success(pair: Pair, what: str) -> None:
    group, tool = pair
    call = gevent.spawn(group.start, "game1")
    tool.reply(tool.take("group.operate"), "outcomes", **UNREADABLE[what])
    with pytest.raises(agentsdk.OutcomeUnknown, match="cannot be read"):
        call.get(timeout=WAIT_S)


def test_another_reply_than_the_one_asked_for_is_no_success(pair: Pair) -> None:
    group, tool = pair
    call = gevent.spawn(group.start, "game1")
    tool.reply(tool.take("group.operate"), "tasks", tasks=[])
    with pytest.raises(agentsdk.OutcomeUnknown, match="outcomes belongs"):
        call.get(timeout=WAIT_S)


def test_answers_that_cannot_be_read_are_not_left_out_in_silence(pair: Pair) -> None:
    group, tool = pair
    call = gevent.spawn(group.gm, "game", "status")
    asked = tool.take("gm.call")
    tool.notice("gm.answered", id=asked.fields["id"], verdicts=[[KEY]])
    tool.reply(asked, "gm.verdicts", verdicts=[["b", "answered", 1, ""]])
    with pytest.raises(agentsdk.OutcomeUnknown, match="cannot be read"):
        call.get(timeout=WAIT_S)


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1", wire.PREFIX.pack(client.MAX_FRAME_BYTES + 1, 2, 1, 0, 0), wire.pack(2, 1, b"", b"", b"[1]"),
     wire.pack(2, 1, b"", b"", b"[" * 100_000), wire.pack(2, 1, b"", b"", b'["outcomes",{"a":1e999}]')],
    ids=["no frame", "too long", "no message", "nested", "no number"],
)  # fmt: skip
def test_garbage_ends_the_link_and_every_call_under_way(pair: Pair, data: bytes) -> None:
    group, tool = pair
    calls = [gevent.spawn(group.start, "game1") for _ in range(3)]
    for _ in calls:
        tool.take("group.operate")
    tool.raw(data)
    for call in calls:
        with pytest.raises(agentsdk.LinkLost, match="protocol error"):
            call.get(timeout=WAIT_S)
    assert tool.ended()


def test_a_daemon_that_says_why_it_goes_is_heard(pair: Pair) -> None:
    group, tool = pair
    call = gevent.spawn(group.tasks)
    tool.take("tasks.read")
    tool.notice("link.goodbye", text="user ada has been removed", code="removed")
    tool.close()
    with pytest.raises(agentsdk.LinkLost, match="user ada has been removed"):
        call.get(timeout=WAIT_S)


def test_a_daemon_that_asks_is_answered_and_pings_are_nothing(pair: Pair) -> None:
    _group, tool = pair
    tool.notice("link.ping")
    assert tool.ask("gm.execute", id="1").fields["code"] == "bad_request"


def test_a_silent_link_is_pinged_and_then_given_up(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    group, tool = pair
    monkeypatch.setattr(client, "HEARTBEAT_S", 0.1)
    call = gevent.spawn(group.tasks)
    tool.take("link.ping")
    monkeypatch.setattr(client, "SILENCE_S", 0.3)
    with pytest.raises(agentsdk.LinkLost, match="said nothing"):
        call.get(timeout=WAIT_S)


def test_a_daemon_that_does_not_read_costs_bounded_memory(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    group, _tool = pair
    monkeypatch.setattr(client, "MAX_OUT_BYTES", 1_500_000)
    text = "x" * 1_000_000
    refusals = []

    def full() -> bool:
        try:
            group.gm("game", "broadcast", text=text, timeout_s=0.05)
        except agentsdk.NoReply:
            return False
        except agentsdk.Refused as error:
            refusals.append(error.code)
        return bool(refusals)

    until(full, WAIT_S)
    assert refusals == ["overloaded"]


def test_mistakes_of_the_caller_are_found_before_anything_is_sent(pair: Pair) -> None:
    group, tool = pair
    for mistake in (
        lambda: group.start("a..b:"),
        lambda: group.start("game1", timeout_s=0),
        lambda: group.start("game1", timeout_s=float("nan")),
        lambda: group.gm("game1", "give", extra={1, 2}),
        lambda: group.gm("game1", "give", extra=float("nan")),
        lambda: group.gm("game1", "give", text="x" * 3_000_000),
        lambda: group.restart("game1", deadline_s=5.0),
    ):
        with pytest.raises(ValueError):
            mistake()
    gevent.spawn(group.tasks)
    assert tool.take().name == "tasks.read"


def test_after_close_nothing_is_sent(pair: Pair) -> None:
    group, tool = pair
    group.close()
    assert tool.ended()
    with pytest.raises(agentsdk.ConnectFailed, match="closed"):
        group.start("game1")


# ---- feeds


@contextlib.contextmanager
def fed(
    daemon: Daemon, group: agentsdk.Group, *rows: list, **wanted: Any
) -> Iterator[tuple[feed.Feed, Application]]:
    """A feed, and the daemon's end of its connection."""
    opening = gevent.spawn(group.changes, "game*", **wanted)
    tool = begun(daemon, *rows, events=wanted.get("events", False))
    with opening.get(timeout=WAIT_S) as changes:
        yield changes, tool


def begun(daemon: Daemon, *rows: list, events: bool = False) -> Application:
    tool = daemon.tool()
    if events:
        tool.reply(tool.take("events.watch"), "events.begun")
    asked = tool.take("picture.watch")
    assert asked.fields["follow"] and asked.fields["name"] == "game*"
    tool.notice("picture.changed", reset=True)
    tool.notice("picture.changed", processes=list(rows))
    tool.reply(asked, "picture.begun", processes=len(rows), tick_s=2.0)
    return tool


def take(changes: feed.Feed) -> agentsdk.Change:
    one = changes.get(WAIT_S)
    assert one is not None
    return one


def test_a_feed_tells_changes_events_and_troubles(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0], row("game1"), events=True, initial=True) as (changes, tool):
        assert take(changes)[:4] == ("process", KEY, "", "RUNNING")
        tool.notice("picture.changed", processes=[row("game1", "DEAD")])
        one = take(changes)
        assert (one.old, one.new, one.process.verdict) == ("RUNNING", "DEAD", "DEAD")
        tool.notice("events.happened", events=[[KEY, 5.0, "player_left", {"player": 1}]])
        assert take(changes).event == agentsdk.Event(KEY, 5.0, "player_left", {"player": 1})
        for text in ("globaldb is away", ""):
            tool.notice("picture.changed", trouble=text)
            one = take(changes)
            assert (one.kind, one.text) == ("trouble", text)
        assert changes.get(0.05) is None


def test_close_ends_whoever_waits(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0]) as (changes, tool):
        waiting = gevent.spawn(list, changes)
        gevent.sleep(0)
        changes.close()
        assert waiting.get(timeout=WAIT_S) == [] and tool.ended()
        assert changes.get() is None


def test_a_group_takes_its_feeds_with_it(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0]) as (changes, tool):
        waiting = gevent.spawn(list, changes)
        gevent.sleep(0)
        pair[0].close()
        assert waiting.get(timeout=WAIT_S) == [] and tool.ended()


def test_a_feed_that_is_forgotten_is_closed(daemon: Daemon, pair: Pair) -> None:
    opening = gevent.spawn(pair[0].changes, "game*")
    tool = begun(daemon)
    closed = opening.get(timeout=WAIT_S)._watch.closed
    del opening
    until(lambda: gc.collect() >= 0 and closed.is_set(), WAIT_S)
    assert tool.ended()


def test_a_lost_daemon_ends_a_feed_that_was_not_to_come_back(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0], row("game1")) as (changes, tool):
        tool.notice("picture.changed", processes=[row("game1", "DEAD")])
        tool.close()
        assert take(changes).new == "DEAD"
        with pytest.raises(agentsdk.LinkLost):
            take(changes)


def test_a_feed_comes_back_says_so_and_tells_what_has_changed_meanwhile(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0], row("game1"), row("game2"), events=True, reconnect=True) as (changes, tool):
        tool.close()
        assert take(changes).kind == change.TROUBLE
        tool = begun(daemon, row("game1", pid=2), row("game2"), row("game3"), events=True)
        assert take(changes).kind == change.RECONNECTED
        found = [take(changes), take(changes)]
        assert [(one.key[-5:], one.old, one.new) for one in found] == [
            ("game1", "RUNNING", "RUNNING"),
            ("game3", "", "RUNNING"),
        ]
        tool.notice("picture.changed", processes=[row("game2", "DEAD")])
        assert take(changes)[:4] == ("process", "大区1.1.2.3.4.game2", "RUNNING", "DEAD")


def test_while_the_daemon_is_away_nothing_counts_as_gone(
    daemon: Daemon, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "OVERDUE_S", 0.0)
    with fed(daemon, pair[0], row("game1"), reconnect=True) as (changes, tool):
        tool.notice("picture.changed", reset=True)
        tool.close()
        assert take(changes).kind == change.TROUBLE
        tool = daemon.tool()
        asked = tool.take("picture.watch")
        tool.notice("picture.changed", reset=True)
        tool.ask("nothing")  # that has been read
        assert changes.get(0.05) is None
        tool.notice("picture.changed", processes=[row("game1", "DEAD")])
        tool.reply(asked, "picture.begun", processes=1, tick_s=2.0)
        assert take(changes).kind == change.RECONNECTED
        assert take(changes)[:4] == ("process", KEY, "RUNNING", "DEAD")


def test_a_login_that_was_refused_is_not_tried_again_with_every_call(daemon: Daemon, pair: Pair) -> None:
    """The daemon in this test takes one connection, and a second one would wait for it."""
    group, tool = pair
    daemon.no = ("forbidden", "login refused")
    call = gevent.spawn(group.tasks)
    tool.take("tasks.read")
    tool.close()
    with pytest.raises(agentsdk.LinkLost):
        call.get(timeout=WAIT_S)
    refusing = daemon.serve()
    for _ in range(3):
        with pytest.raises(agentsdk.LoginRefused, match="login refused"):
            group.tasks()
    assert isinstance(refusing.exception, Refused)


def test_who_is_not_let_in_again_is_told(daemon: Daemon, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "REFUSALS", 2)
    with fed(daemon, pair[0], reconnect=True) as (changes, tool):
        daemon.no = ("forbidden", "login refused")
        tool.close()
        for _ in range(2):
            with contextlib.suppress(Exception):
                daemon.tool()
        with pytest.raises(agentsdk.LoginRefused):
            until(lambda: take(changes).kind != change.TROUBLE, WAIT_S)


def test_a_user_who_may_not_gets_no_feed(daemon: Daemon, pair: Pair) -> None:
    opening = gevent.spawn(pair[0].changes, events=True)
    tool = daemon.tool()
    tool.refuse(tool.take("events.watch"), "forbidden", "user ada may not see events")
    with pytest.raises(agentsdk.Forbidden, match="may not see events"):
        opening.get(timeout=WAIT_S)
    assert tool.ended()


def test_who_does_not_listen_costs_bounded_memory_and_is_told_what_is_missing(
    daemon: Daemon, pair: Pair
) -> None:
    with fed(daemon, pair[0], row("game1"), events=True) as (changes, tool):
        lots = 3 * change.MAX_EVENTS
        for n in range(0, lots, 50):
            tool.notice("events.happened", events=[[KEY, float(at), "e", None] for at in range(n, n + 50)])
            tool.notice("picture.changed", processes=[row("game1", ("DEAD", "RUNNING")[n // 50 % 2], pid=n)])
        tool.ask("nothing")  # all of it has been read
        first = take(changes)
        assert (first.kind, first.missed) == (change.MISSED, lots - change.MAX_EVENTS)
        assert [take(changes).event.at for _ in range(change.MAX_EVENTS)][-1] == lots - 1
        assert take(changes).kind == change.PROCESS
        assert changes.get(0.05) is None


def test_what_an_earlier_connection_still_says_counts_no_more(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0], row("game1")) as (changes, _tool):
        watch, client = changes._watch, pair[0]._line.client(lambda *_: None)
        watch._noticed(
            watch._dialled - 1, client, "picture.changed", {"processes": [row("game1", "DEAD")]}, 0
        )
        assert changes.get(0.05) is None


def test_a_connection_that_is_lost_before_it_is_taken_is_none(daemon: Daemon, pair: Pair) -> None:
    group, tool = pair
    with fed(daemon, group) as (changes, _tool):
        client = group._line.client(lambda *_: None)
        tool.close()
        until(lambda: client.lost, WAIT_S)
        with pytest.raises(agentsdk.LinkLost):
            changes._watch._take(client)


def test_a_notice_that_cannot_be_read_ends_the_feed(daemon: Daemon, pair: Pair) -> None:
    with fed(daemon, pair[0]) as (changes, tool):
        tool.notice("picture.changed", processes=[[1, 2]])
        with pytest.raises(agentsdk.LinkLost, match="cannot be read"):
            take(changes)


def test_a_daemon_has_to_show_a_certificate() -> None:
    """The proof is bound to it; TLS 1.2 is the least, and nobody's authority counts."""
    made = agentsdk.group.dialer.context()
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2 and made.verify_mode == ssl.CERT_NONE
