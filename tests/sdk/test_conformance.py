"""Every SDK against docs/sdk.md: the same example server in every language, before a stand-in daemon and a real Valkey.

`joined` is one game for all tests of an implementation, so that it is started once; a test that needs another
environment, or ends the game, starts its own with `play`.
"""

import itertools
import json
import math
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.globaldb_servers import QUOTED, Server, running, valkey_binary
from tests.sdk.servers import Game
from tests.sdk.stand_in import Application, Daemon, Listener, Message, packed
from tests.waiting import until

KEYS = (f"大区1.192.168.1.11.game{n}" for n in itertools.count(1))
IDS = (f"id-{n}" for n in itertools.count(1))
HEARTBEAT_S = 0.2
COMMANDS = {
    "status": ("read", []),
    "kick": ("write", [("player", "int"), ("reason", "str", "no reason given")]),
    "broadcast": ("write", [("text", "str")]),
    "give": (
        "write",
        [
            ("player", "int"),
            ("item", "str"),
            ("count", "int", 1),
            ("rate", "float", 1.0),
            ("silent", "bool", False),
            ("extra", "json", None),
        ],
    ),
    "unlock": ("red", [("password", "str")]),
    "slow": ("write", [("seconds", "float")]),
    "crash": ("red", []),
}


class Joined:
    """A game and its daemon's end of the link; `app` is replaced when the game joins anew."""

    def __init__(self, key: str, game: Game, daemon: Daemon, globaldb: str) -> None:
        self.key, self.game, self.daemon, self.globaldb = key, game, daemon, globaldb
        self.welcome()

    def welcome(self) -> Application:
        self.app = self.daemon.welcome(self.globaldb, HEARTBEAT_S)
        return self.app

    def ask(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> Message:
        return self.app.answer_to(self.request(command, id, again, **arguments))

    def request(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> int:
        return self.app.request("gm.execute", **execute(command, id, again, **arguments))

    def answer(self, command: str, id: str = "", **arguments: Any) -> Any:
        return answered(self.ask(command, id, **arguments))

    def executed(self) -> int:
        return self.answer("status")["executed"]


def execute(command: str, id: str = "", again: bool = False, **arguments: Any) -> dict[str, Any]:
    named = {"id": id or next(IDS), "command": command, "arguments": arguments}
    return {**named, "user": "ada", "again": again, "left_s": 9.5, "unheard_of": {"a": [1]}}


def answered(message: Message) -> Any:
    assert (message.kind, message.name) == (wire.REPLY, "gm.answer"), message
    return message.fields["answer"]


def refused(message: Message) -> tuple[str, str]:
    assert (message.kind, message.name) == (wire.ERROR, "error"), message
    return message.fields["code"], message.fields["text"]


Play = Callable[..., Game]


@pytest.fixture(scope="module")
def play(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    """Starts a game; all of them end with the test module at the latest."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("games")

        def start(key: str = "", daemon: Daemon | None = None, **environment: str) -> Game:
            if daemon:
                environment["AGENT_DAEMON"] = daemon.address
                environment["AGENT_INCARNATION"] = "9f86d081884c7d65"
                environment["AGENT_TOKEN"] = "6b51d431df5d7f14"
            if key:
                environment["AGENT_PROCESS"] = key
            return stack.enter_context(Game(command, folder, **environment))

        yield start


@pytest.fixture(scope="module")
def joined(play: Play, valkey_server: Server) -> Iterator[Joined]:
    with Daemon() as daemon:
        key = next(KEYS)
        yield Joined(key, play(key, daemon), daemon, valkey_server.url)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


def record(server: Server, key: str) -> dict[str, str]:
    with server.client() as client:
        return client.hgetall(f"process:{key}")


# ---- joining


def test_the_join_says_who_it_is(joined: Joined) -> None:
    join = joined.app.join
    assert join.kind == wire.REQUEST
    assert isinstance(join.fields.pop("sdk"), str)
    assert join.fields == {
        "protocol": 1,
        "key": joined.key,
        "incarnation": "9f86d081884c7d65",
        "token": "6b51d431df5d7f14",
        "pid": joined.game.pid,
    }


def test_it_declares_what_it_can_do(joined: Joined) -> None:
    declared = joined.app.declared
    assert declared.kind == wire.REQUEST
    assert declared.fields["saves"] is True and declared.fields["entry"] is True
    rows = {row["name"]: row for row in declared.fields["commands"]}
    assert {
        name: (row.get("danger", "write"), [argument(each) for each in row["arguments"]])
        for name, row in rows.items()
    } == COMMANDS
    assert rows["unlock"]["arguments"][0]["secret"] is True
    assert all(len(row.get("help", "")) <= 200 and "\n" not in row.get("help", "") for row in rows.values())


def argument(row: dict[str, Any]) -> tuple[Any, ...]:
    default = (row["default"],) if "default" in row else ()
    return row["name"], row.get("type", "str"), *default


def test_the_record_is_written_at_the_rate_it_was_told(joined: Joined, valkey_server: Server) -> None:
    seen: list[float] = []

    def enough() -> bool:
        at = float(record(valkey_server, joined.key).get("lastupdate", 0))
        if at and at not in seen:
            seen.append(at)
        return len(seen) >= 8

    until(enough, what="8 records")
    gaps = sorted(b - a for a, b in itertools.pairwise(seen))
    assert HEARTBEAT_S / 3 < gaps[len(gaps) // 2] < HEARTBEAT_S * 1.5
    fields = record(valkey_server, joined.key)
    assert fields.keys() == {"info", "pid", "lastupdate"}  # startcount is the daemon's
    assert fields["pid"] == str(joined.game.pid)
    assert json.loads(fields["info"]).keys() == {"players", "map"}


# ---- commands


def test_commands_run_and_answer(joined: Joined) -> None:
    before = joined.answer("status")
    assert before == {
        "players": before["players"],
        "map": "plains",
        "open": True,
        "executed": before["executed"],
    }
    assert joined.answer("kick", player=1001, reason='作弊 "x" \\ \n \u0000 😀') == {
        "kicked": 1001,
        "reason": '作弊 "x" \\ \n \u0000 😀',
    }
    assert joined.app.take("event.raised", lambda m: m.fields["name"] == "player_left").fields["data"] == {
        "player": 1001
    }
    assert joined.answer("broadcast", text="hello") == {"heard": before["players"] - 1, "text": "hello"}
    assert joined.answer("unlock", password="open sesame") == {"unlocked": True}
    after = joined.answer("status")
    assert (after["players"], after["executed"]) == (before["players"] - 1, before["executed"] + 3)


@pytest.mark.parametrize(
    "given",
    [
        {"player": 1, "item": "sword", "count": 1, "rate": 1.0, "silent": False, "extra": None},
        {"player": 0, "item": "", "count": -1, "rate": -0.25, "silent": True, "extra": []},
        {
            "player": 2**63 - 1,
            "item": "剑 😀",
            "count": -(2**63),
            "rate": 1e300,
            "silent": False,
            "extra": {},
        },
        {
            "player": 2**53 + 1,
            "item": "\u0001\u007f\u2028/</script>",
            "count": 2,
            "rate": 5e-324,
            "silent": True,
        }
        | {"extra": {"a": [1, 2.5, "ü", None, True, {"b": []}], "": {"\n": -0.5}}},
        {"player": 7, "item": "x" * 3000, "count": 3, "rate": 0.1, "silent": False, "extra": "text"},
        {"player": 7, "item": "deep", "count": 3, "rate": 0.1, "silent": False}
        | {"extra": json.loads("[" * 50 + "]" * 50)},
    ],
    ids=["plain", "empty", "extremes", "odd", "long", "deep"],
)
def test_arguments_of_every_type_come_back_as_they_went(joined: Joined, given: dict[str, Any]) -> None:
    assert joined.answer("give", **given) == given


def test_a_float_may_come_without_its_point(joined: Joined) -> None:
    given = {"player": 1, "item": "a", "count": 1, "rate": 3, "silent": False, "extra": 4}
    assert joined.answer("give", **given) == given


def test_a_refusal_says_why(joined: Joined) -> None:
    assert refused(joined.ask("kick", player=4711, reason="x")) == ("refused", "no player 4711")
    assert refused(joined.ask("unlock", password="sesame")) == ("refused", "wrong password")


def test_what_takes_long_holds_up_nothing(joined: Joined) -> None:
    slow = joined.request("slow", seconds=1.0)
    before = [joined.answer("broadcast", text=str(n))["text"] for n in range(3)]
    assert before == ["0", "1", "2"]
    assert all(message.seq != slow for message in joined.app.inbox)
    assert answered(joined.app.answer_to(slow)) == {"slept": 1.0}


def test_what_it_does_not_know_is_a_bad_request(joined: Joined) -> None:
    assert refused(joined.app.ask("process.dance", id="1"))[0] == "bad_request"
    assert refused(joined.ask("dance"))[0] == "bad_request"
    assert refused(joined.app.ask("gm.execute", id=7, command="status", arguments={}))[0] == "bad_request"
    assert refused(joined.app.ask("gm.execute", command="status", arguments={}))[0] == "bad_request"
    assert joined.answer("status")["map"] == "plains"


def test_notices_that_it_does_not_know_are_ignored(joined: Joined) -> None:
    joined.app.notice("link.ping")
    joined.app.notice("weather.changed", rain=[1, {"a": None}])
    joined.app.send(wire.REPLY, 4711, "weather.state", {})
    assert joined.answer("status")["map"] == "plains"


# ---- at most once


def test_an_id_runs_once_and_is_answered_again(joined: Joined) -> None:
    id, before = next(IDS), joined.executed()
    first = joined.answer("give", id, player=5, item="x", count=1, rate=1.5, silent=False, extra=None)
    for again in (False, True):
        same = joined.ask("give", id, again, player=5, item="x", count=1, rate=1.5, silent=False, extra=None)
        assert answered(same) == first
    assert joined.executed() == before + 1


def test_a_refusal_is_answered_again_too(joined: Joined) -> None:
    id = next(IDS)
    first = refused(joined.ask("kick", id, player=4711, reason="x"))
    assert refused(joined.ask("kick", id, again=True, player=4711, reason="x")) == first


def test_while_it_runs_the_answer_goes_to_the_newest_asker(joined: Joined) -> None:
    id, before = next(IDS), joined.executed()
    first = joined.request("slow", id, seconds=0.6)
    second = joined.request("slow", id, seconds=0.6)
    third = joined.request("slow", id, again=True, seconds=0.6)
    assert answered(joined.app.answer_to(third)) == {"slept": 0.6}
    assert joined.executed() == before + 1
    assert not [message for message in joined.app.inbox if message.seq in (first, second)]


def test_an_unknown_id_that_is_asked_for_again_is_forgotten_and_not_run(joined: Joined) -> None:
    before = joined.executed()
    assert refused(joined.ask("broadcast", again=True, text="x"))[0] == "forgotten"
    assert joined.executed() == before


def test_an_answer_too_long_to_keep_is_forgotten_and_not_run_again(joined: Joined) -> None:
    id, text = next(IDS), "x" * 5000
    assert joined.answer("broadcast", id, text=text)["text"] == text
    before = joined.executed()
    for again in (False, True):
        assert refused(joined.ask("broadcast", id, again, text=text))[0] == "forgotten"
    assert joined.executed() == before


def test_the_newest_1024_ids_are_kept(joined: Joined) -> None:
    oldest, kept, before = next(IDS), next(IDS), joined.executed()
    joined.answer("broadcast", oldest, text="oldest")
    joined.answer("broadcast", kept, text="kept")
    wanted = [packed(wire.REQUEST, 10_000 + n, "gm.execute", execute("status")) for n in range(1023)]
    for first in range(0, 1023, 341):
        joined.app.raw(b"".join(wanted[first : first + 341]))
        for n in range(first, first + 341):
            joined.app.answer_to(10_000 + n)
    assert joined.answer("broadcast", kept, text="kept")["text"] == "kept"
    assert refused(joined.ask("broadcast", oldest, again=True, text="oldest"))[0] == "forgotten"
    assert joined.executed() == before + 2


# ---- save, entry, events


def test_a_save_tells_how_far_it_is(joined: Joined) -> None:
    first = joined.app.request("process.save", id=next(IDS), reason="stop")
    progress = [joined.app.take("save.progressed")]
    second = joined.app.request("process.save", id=next(IDS), reason="stop")
    saved = joined.app.answer_to(second)
    assert (saved.kind, saved.name) == (wire.REPLY, "process.saved")
    assert isinstance(saved.fields["text"], str)
    progress += [message for message in joined.app.inbox if message.name == "save.progressed"]
    assert [(m.kind, m.fields["done"], m.fields["total"]) for m in progress] == [
        (wire.NOTICE, n, 5) for n in (1, 2, 3, 4, 5)
    ]
    assert all(message.seq != first for message in joined.app.inbox if message.kind != wire.NOTICE)
    joined.app.inbox.clear()
    assert joined.game.runs()


def test_a_save_may_be_done_twice(joined: Joined) -> None:
    for _ in range(2):
        assert joined.app.ask("process.save", id=next(IDS), reason="restart").name == "process.saved"


def test_while_entry_is_closed_players_leave(joined: Joined) -> None:
    shut = joined.app.ask("entry.set", open=False, reason="maintenance")
    assert (shut.kind, shut.name) == (wire.REPLY, "entry.state")
    assert isinstance(shut.fields["text"], str)
    assert joined.answer("status")["open"] is False
    until(lambda: joined.answer("status")["players"] == 0)
    assert joined.app.ask("entry.set", open=True, reason="").name == "entry.state"
    assert joined.answer("status")["open"] is True


# ---- frames


def test_frames_may_come_byte_by_byte(joined: Joined) -> None:
    frames = packed(wire.REQUEST, 20_001, "gm.execute", execute("status"))
    frames += packed(wire.REQUEST, 20_002, "gm.execute", execute("broadcast", text="ü" * 50))
    for i in range(len(frames)):
        joined.app.raw(frames[i : i + 1])
    assert answered(joined.app.answer_to(20_001))["map"] == "plains"
    assert answered(joined.app.answer_to(20_002))["text"] == "ü" * 50


def test_many_frames_may_come_at_once_and_are_answered_in_their_order(joined: Joined) -> None:
    seqs = range(21_000, 21_100)
    joined.app.raw(
        b"".join(packed(wire.REQUEST, seq, "gm.execute", execute("broadcast", text=str(seq))) for seq in seqs)
    )
    for seq in seqs:
        message = joined.app.take("gm.answer")
        assert (message.seq, message.fields["answer"]["text"]) == (seq, str(seq))


def test_addresses_of_a_frame_are_skipped(joined: Joined) -> None:
    body = json.dumps(["gm.execute", execute("status")]).encode()
    joined.app.raw(wire.pack(wire.REQUEST, 0xFFFFFFFF, "大区1.x".encode(), b"192.168.1.10", body))
    assert answered(joined.app.answer_to(0xFFFFFFFF))["map"] == "plains"


def test_a_big_frame_is_taken(joined: Joined) -> None:
    request = execute("status") | {"unheard_of": "x" * 1_000_000}
    assert answered(joined.app.ask("gm.execute", **request))["map"] == "plains"


GARBAGE = {
    "one longer than the limit": struct.pack(">IBIBB", 1024 * 1024 + 1, 1, 1, 0, 0),
    "one shorter than its addresses": struct.pack(">IBIBB", 20, 1, 1, 200, 200) + b"x" * 20,
    "an unknown kind": struct.pack(">IBIBB", 9, 9, 1, 0, 0) + b"[]",
    "no JSON": wire.pack(wire.REQUEST, 1, b"", b"", b"{"),
    "JSON too deep": wire.pack(wire.REQUEST, 1, b"", b"", b'["gm.execute",' + b"[" * 100_000),
}


def test_after_a_broken_frame_it_hangs_up_and_joins_anew(joined: Joined) -> None:
    for what, data in GARBAGE.items():
        joined.app.raw(data)
        assert joined.app.ended(), what
        joined.app.close()
        joined.welcome()
        assert joined.answer("status")["map"] == "plains", what


# ---- a link that is lost


def test_what_was_asked_on_a_lost_link_is_remembered_on_the_next(joined: Joined) -> None:
    done, runs, before = next(IDS), next(IDS), joined.executed()
    joined.answer("broadcast", done, text="x")
    lost = joined.request("slow", runs, seconds=1.0)
    joined.answer("status")  # so that it runs by now
    joined.app.close()
    app = joined.welcome()
    assert joined.answer("broadcast", done, text="x")["text"] == "x"
    assert answered(joined.ask("slow", runs, again=True, seconds=1.0)) == {"slept": 1.0}
    assert joined.executed() == before + 2
    assert lost not in [message.seq for message in app.inbox]


def test_a_save_goes_on_when_the_link_is_lost(joined: Joined) -> None:
    joined.app.request("process.save", id="s1", reason="stop")
    joined.app.take("save.progressed")
    joined.app.close()
    joined.welcome()
    assert joined.app.ask("process.save", id="s1", reason="stop").name == "process.saved"


def test_it_comes_back_to_a_daemon_that_was_away(joined: Joined, valkey_server: Server) -> None:
    joined.daemon.stop()
    was = record(valkey_server, joined.key)["lastupdate"]
    until(
        lambda: float(record(valkey_server, joined.key)["lastupdate"]) > float(was) + 1.0
    )  # it goes on alone
    joined.daemon.start()
    joined.welcome()
    assert joined.answer("status")["map"] == "plains"


def test_sigterm_says_bye(joined: Joined) -> None:
    joined.game.terminate()
    assert joined.game.said_bye()
    assert joined.app.ended()


# ---- other environments


def test_a_refused_join_is_tried_again(play: Play, daemon: Daemon) -> None:
    game = play(next(KEYS), daemon)
    for _ in range(3):
        app = daemon.application()
        app.refuse(app.take("session.join"), "forbidden", "not yours")
        app.close()
    app = daemon.welcome()
    event = app.take("event.raised").fields
    assert (event["name"], event["data"]) == ("server_started", {"map": "plains"})
    assert math.isclose(event["at"], time.time(), abs_tol=60)
    crashed = app.request("gm.execute", **execute("crash"))
    assert game.exit_code() == 3
    with pytest.raises((EOFError, ConnectionError)):
        app.answer_to(crashed)


def test_globaldb_goes_away_and_comes_back(play: Play, daemon: Daemon, tmp_path: Path) -> None:
    with running(valkey_binary(), tmp_path) as server:
        key = next(KEYS)
        play(key, daemon, GAME_SAVE="decline")
        app = daemon.welcome(server.url, HEARTBEAT_S)
        until(lambda: record(server, key))
        server.stop()
        save = app.ask("process.save", id="1", reason="stop")
        assert refused(save) == ("refused", "a match is running")
        server.start()
        until(lambda: record(server, key), timeout=25)
        assert answered(app.ask("gm.execute", **execute("status")))["map"] == "plains"


def test_a_globaldb_out_of_its_mind_does_not_disturb(play: Play, daemon: Daemon, valkey: Server) -> None:
    with Listener() as mad:
        key = next(KEYS)
        game = play(key, daemon, GAME_SAVE="die")
        app = daemon.welcome(mad.url, HEARTBEAT_S)
        for said in (b"+" + b"x" * 3_000_000, b"+OK\r\n+OK\r\n+OK\r\n"):
            sock = mad.accept()
            sock.recv(65536)
            try:
                sock.sendall(said)
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass
            assert answered(app.ask("gm.execute", **execute("status")))["map"] == "plains"
        app.close()
        app = daemon.welcome(valkey.url, HEARTBEAT_S)  # and now another address
        until(lambda: record(valkey, key), timeout=25)
        app.request("process.save", id="1", reason="stop")
        assert game.exit_code() == 4
        app.ended()
        assert app.take("save.progressed").fields["done"] == 1  # the second may die with it


def test_the_globaldb_of_the_environment_wins(play: Play, daemon: Daemon, valkey: Server) -> None:
    key = next(KEYS)
    play(key, daemon, AGENT_GLOBALDB=valkey.url)
    app = daemon.welcome("redis://127.0.0.1:1", HEARTBEAT_S)
    assert answered(app.ask("gm.execute", **execute("status")))["map"] == "plains"
    seen: set[str | None] = set()
    until(lambda: seen.add(record(valkey, key).get("lastupdate")) or len(seen) > 4)
    assert "startcount" not in record(valkey, key)


def test_started_by_hand_it_counts_its_start_itself(play: Play, common_server: Server) -> None:
    """Also: a password, and nothing but the commands that every globaldb has."""
    key = next(KEYS)
    url = f"redis://common:{QUOTED}@127.0.0.1:{common_server.port}"
    for n in (1, 2):
        game = play(key, AGENT_GLOBALDB=url)
        until(lambda game=game: record(common_server, key).get("pid") == str(game.pid))  # type: ignore[misc]
        assert record(common_server, key)["startcount"] == str(n)
        game.terminate()
        assert game.said_bye()
    with common_server.client() as client:
        assert float(client.hget("process", key)) > 1e9


def test_outside_of_an_agent_it_just_plays(play: Play) -> None:
    game = play()
    with pytest.raises(AssertionError):
        until(lambda: not game.runs(), timeout=0.7)
    game.terminate()
    assert game.said_bye()
