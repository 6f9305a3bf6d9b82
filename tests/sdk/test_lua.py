"""The Lua SDK where the test that all SDKs share does not look: its JSON, its declarations, and games, daemons and
globaldbs that do everything wrong.

`lua/*.lua` are the programs: four that test themselves, and `game.lua`, whose handlers fail in every way there is.
"""

import json
import math
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from tests.sdk.servers import SDK, tool
from tests.sdk.stand_in import Application, Daemon, Listener, Message, packed
from tests.waiting import until

HERE = Path(__file__).parent / "lua"
KEY = "大区1.192.168.1.11.game1"
RECORD = f"process:{KEY}"
LUAS = [
    "lua5.4",
    "luajit",
    *(name for name in ("lua5.1", "lua5.2", "lua5.3") if shutil.which(name)),
]
RUN_GAMES = ["lua5.4", "luajit"]
HURRY = 8.0  # so that 5 s last 0.6: more than a busy machine takes for an answer


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    return {**clean, "LUA_PATH": f"{SDK}/lua/?.lua;;", **more}


def run(lua: str, program: str, told: str = "", **more: str) -> str:
    words = [tool(lua, lua), str(HERE / program)]
    done = subprocess.run(
        words, input=told, env=environment(**more), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# ---- by itself


@pytest.mark.parametrize("lua", LUAS)
def test_declarations_that_break_the_contract_raise(lua: str) -> None:
    run(lua, "declarations.lua")


@pytest.mark.parametrize("lua", LUAS)
def test_values_become_json_or_are_refused(lua: str) -> None:
    run(lua, "values.lua")


@pytest.mark.parametrize("lua", LUAS)
def test_a_locale_with_commas_changes_no_number(lua: str) -> None:
    run(lua, "values.lua", COMMA="1")


@pytest.mark.parametrize("lua", LUAS)
def test_without_an_agent_nothing_happens(lua: str) -> None:
    assert run(lua, "unsupervised.lua") == ""


@pytest.mark.parametrize("lua", LUAS)
def test_a_connection_to_itself_is_none(lua: str) -> None:
    run(lua, "itself.lua")


# ---- JSON

VALID = [
    *(
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-1",
        "10",
        "0.5",
        "-0.5e-3",
        "1E5",
        "1e+5",
        "1.0",
        "123.456e2",
    ),
    *("9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775807"),
    *("-9223372036854775808", "1e300", "5e-324", "0.1", "1e-400", "99999999999999999999.0"),
    *('""', '"a"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0000\\u001f\\u00e9\\u4e2d"', '"大区😀\x7f"'),
    *('"\\ud83d\\ude00"', '"\\uD83D\\uDE00x"', '"\u2028"'),
    *("[]", "{}", "[[]]", "[{}]", '{"a":{}}', "[1,null,2]", "[null]", '{"":null}', '{"a":[],"b":{"c":[{}]}}'),
    *(" \t\r\n[ 1 , 2 ] \n", ' { "a" : 1 , "b" : [ ] } ', '{"1":"a","2":"b"}'),
    "[" * 64 + "]" * 64,
    '{"a":' * 63 + "[1]" + "}" * 63,
]
INVALID = [
    *("", " ", "nul", "nulll", "True", "tru", "NaN", "Infinity", "-Infinity", "undefined", "'a'"),
    *(
        "01",
        "-01",
        "00",
        "-",
        "+1",
        ".5",
        "1.",
        "-.5",
        "1e",
        "1e+",
        "1.e5",
        "0x10",
        "1_000",
        "1 2",
        "1-2",
        "1+",
    ),
    *("1e999", "-1e999", "9223372036854775808", "-9223372036854775809", "1" * 400),
    *(
        '"',
        '"a',
        '"\\"',
        '"\\x"',
        '"\\u12"',
        '"\\u12g4"',
        '"\\uD83D\\u12"',
        '"\n"',
        '"\t"',
        '"\x00"',
        '"a" "b"',
    ),
    *("[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "[]]", "[1,,2]"),
    *(
        "{",
        "}",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,',
        '{"a":1,}',
        "{a:1}",
        "{1:2}",
        '{"a" 1}',
        "{,}",
        '{"a":1]',
    ),
    *("// x", "[1]x", "\ufeff[]", "\\u0031", "[" * 65 + "]" * 65, "[" * 100_000),
]


@pytest.mark.parametrize("lua", LUAS)
def test_json_comes_back_as_it_went(lua: str) -> None:
    texts = VALID + random_texts(200)
    for text, answer in zip(texts, echoed(lua, texts), strict=True):
        assert answer.startswith("ok "), (text, answer)
        assert same(json.loads(bytes.fromhex(answer[3:])), json.loads(text)), (text, answer)


@pytest.mark.parametrize("lua", LUAS)
def test_what_is_not_json_is_refused(lua: str) -> None:
    broken = [text for text in map(cut, random_texts(100)) if not is_json(text)]
    for text, answer in zip(INVALID + broken, echoed(lua, INVALID + broken), strict=True):
        assert answer.startswith("no "), (text[:100], answer)


@pytest.mark.parametrize("lua", LUAS)
def test_half_a_surrogate_pair_never_leaves(lua: str) -> None:
    texts = ['"\\ud83d"', '"\\ude00\\ud83d"', '"\\ud83dx"', '"\\ud83d\\u0041"']
    answers = [json.loads(bytes.fromhex(answer[3:])) for answer in echoed(lua, texts)]
    assert answers == ["\ufffd", "\ufffd\ufffd", "\ufffdx", "\ufffdA"]


def echoed(lua: str, texts: list[str]) -> list[str]:
    return run(lua, "echo_json.lua", "".join(text.encode().hex() + "\n" for text in texts)).splitlines()


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same kind but for int and float: 1.0 and 1 are one number in Lua 5.1."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def random_texts(count: int) -> list[str]:
    chance = random.Random(20)
    return [json.dumps(value(chance, 5), ensure_ascii=chance.random() < 0.5) for _ in range(count)]


def value(chance: random.Random, depth: int) -> Any:
    kind = chance.randrange(8 if depth else 6)
    if kind == 0:
        return chance.choice((None, True, False))
    if kind == 1:
        return chance.randrange(-(2**63), 2**63) >> chance.randrange(64)
    if kind == 2:
        return chance.uniform(-1, 1) * 10.0 ** chance.randrange(-300, 300)
    if kind <= 5:
        return "".join(chance.choice('ab"\\/\n\x00\x7fé中😀') for _ in range(chance.randrange(12)))
    some = [value(chance, depth - 1) for _ in range(chance.randrange(5))]
    return some if kind == 6 else {str(chance.randrange(99)): each for each in some}


def cut(text: str) -> str:
    return text[: len(text) * 2 // 3]


def is_json(text: str) -> bool:
    try:
        return math.isfinite(float(json.loads(text))) if text.strip("-0123456789.eE") == "" else True
    except ValueError:
        return False


# ---- a game


class Game:
    """A running game.lua and the daemon that it joins."""

    def __init__(self, lua: str, folder: Path, daemon: Daemon | None = None, **more: str) -> None:
        self._log = folder / "game.log"
        more = {"AGENT_PROCESS": KEY, "AGENT_INCARNATION": "9f86", "AGENT_TOKEN": "6b51"} | more
        if daemon:
            more.setdefault("AGENT_DAEMON", daemon.address)
        self._daemon = daemon
        words = [tool(lua, lua), str(HERE / "game.lua")]
        with open(self._log, "wb") as log:
            self._child = subprocess.Popen(
                words, env=environment(**more), stdout=log, stderr=log, preexec_fn=many_descriptors
            )

    def stop(self) -> None:
        self._child.kill()
        self._child.wait()
        print(self._log.read_text(errors="replace")[-3000:])

    def welcome(self, globaldb: str = "", heartbeat_s: float = 0.2) -> Application:
        assert self._daemon
        self.app = self._daemon.welcome(globaldb, heartbeat_s)
        return self.app

    def ask(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> Message:
        return self.app.answer_to(self.request(command, id, again, **arguments))

    def request(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> int:
        id = id or str(random.random())
        return self.app.request(
            "gm.execute", id=id, command=command, arguments=arguments, user="ada", again=again
        )

    def answer(self, command: str, **arguments: Any) -> Any:
        message = self.ask(command, **arguments)
        assert message.name == "gm.answer", message
        return message.fields["answer"]

    def problems(self) -> list[str]:
        lines = self._log.read_text(errors="replace").splitlines()
        return [line.removeprefix("problem ") for line in lines if line.startswith("problem ")]

    def told(self, text: str) -> bool:
        return any(text in problem for problem in self.problems())

    def turn(self) -> tuple[int, float, int]:
        """How often its loop has turned, the longest poll in seconds, KiB of memory."""
        assert self._child.poll() is None, "it has ended"
        lines = [
            line for line in self._log.read_text(errors="replace").split("\n")[:-1] if line[:5] == "turn "
        ]
        count, longest, kib = lines[-1].split()[1:] if lines else ("0", "0", "0")
        return int(count), float(longest), int(kib)

    def goes_on(self, turns: int = 60) -> None:
        start = self.turn()[0]
        until(lambda: self.turn()[0] >= start + turns, what="turns of the game's loop")
        assert self.turn()[1] < 1.0, "a poll that waits"


def many_descriptors() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(params=RUN_GAMES)
def lua(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Table:
    """What a test needs: games, a daemon, a globaldb that the test itself is."""

    def __init__(self, lua: str, folder: Path) -> None:
        self._lua, self._folder = lua, folder
        self.stack = ExitStack()
        self.daemon = self.stack.enter_context(Daemon())
        self.globaldb = self.stack.enter_context(Listener())

    def game(self, **more: str) -> Game:
        game = Game(self._lua, self._folder, self.daemon, **more)
        self.stack.callback(game.stop)
        return game


@pytest.fixture
def table(lua: str, tmp_path: Path) -> Iterator[Table]:
    table = Table(lua, tmp_path)
    with table.stack:
        yield table


def refused(message: Message) -> tuple[str, str]:
    assert message.kind == wire.ERROR, message
    return message.fields["code"], message.fields["text"]


# ---- handlers


def test_a_handler_that_fails_is_answered_and_the_game_goes_on(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    for command, text in {
        "raise": "first line",
        "raise_table": "table",
        "raise_asleep": "asleep",
        "yield_elsewhere": "agent.later",
        "answer_function": "a function is not JSON",
    }.items():
        code, said = refused(game.ask(command))
        assert code == "internal" and said.startswith(f"command {command} failed: ")
        assert text in said and "second line" not in said and "traceback" not in said
        assert game.told(f"command {command}: "), command
    assert game.told("first line\\nsecond line\\nstack traceback:")
    assert game.answer("answer_then_raise") == "answered"
    until(lambda: game.told("afterwards"))
    assert refused(app.ask("entry.set", open=False, reason="no"))[0] == "refused"
    assert app.ask("entry.set", open=True, reason="").fields == {"text": ""}
    assert refused(app.ask("entry.set", open="yes"))[0] == "bad_request"
    assert game.answer("count") == 1
    assert not game.told("a mistake in agent.lua")


def test_what_a_handler_returns_is_the_answer(table: Table) -> None:
    game = table.game()
    game.welcome()
    assert game.answer("answer_false") is False
    assert game.answer("answer_nothing") is None
    assert game.answer("yield") == "woke up"
    assert refused(game.ask("refuse")) == ("refused", "no")
    assert refused(game.ask("refuse_deep")) == ("refused", "no, deep down")
    assert refused(game.ask("refuse_table"))[0] == "refused"
    assert game.answer("poll_inside") == "polled"
    assert game.problems() == []


def test_so_many_handlers_and_no_more_sleep_at_once(table: Table) -> None:
    game = table.game()
    game.welcome()
    dozing = [game.request("doze", seconds=60.0) for _ in range(1000)]
    assert refused(game.ask("doze", seconds=60.0))[0] == "refused"
    assert not {message.seq for message in game.app.inbox} & set(dozing)


def test_answers_have_limits(table: Table) -> None:
    game = table.game()
    game.welcome()
    assert len(game.answer("answer_long", bytes=64 * 1024 - 2)) == 64 * 1024 - 2
    assert refused(game.ask("answer_long", bytes=64 * 1024 - 1))[0] == "internal"
    game.ask("answer_long", "kept", bytes=4096 - 2)
    game.ask("answer_long", "not kept", bytes=4096 - 1)
    assert game.ask("answer_long", "kept", again=True).name == "gm.answer"
    assert refused(game.ask("answer_long", "not kept", again=True))[0] == "forgotten"
    assert game.answer("bad_events") == [False, False, False, True]
    assert game.told("event x: 8194 bytes") and game.told("its name is not a string")


def test_a_later_answer_goes_to_the_link_that_asks_for_it_last(table: Table) -> None:
    game = table.game()
    game.welcome()
    game.request("keep", "k")
    assert game.answer("count") == 1
    game.app.close()
    game.welcome()
    assert game.answer("count") == 2
    newest = game.request("keep", "k", again=True)
    assert game.answer("release") == [True, False, False]
    assert game.app.answer_to(newest).fields["answer"] == "at last"
    assert game.ask("keep", "k", again=True).fields["answer"] == "at last"


def test_a_later_answer_that_nobody_asks_for_any_more_goes_nowhere(table: Table) -> None:
    game = table.game()
    game.welcome()
    lost = game.request("keep", "k")
    assert game.answer("count") == 1
    game.app.close()
    game.welcome()
    assert game.answer("release") == [True, False, False]
    assert game.answer("count") == 2
    assert [
        message for message in game.app.inbox if message.seq == lost and message.kind != wire.NOTICE
    ] == []
    assert game.ask("keep", "k").fields["answer"] == "at last"  # once it is asked for, it is there


def test_progress_after_the_end_of_a_save_is_not_told(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    save = app.request("process.save", id="s", reason="stop")
    assert game.answer("progress") is False
    assert app.answer_to(save).name == "process.saved"
    assert [m.fields["done"] for m in app.inbox if m.name == "save.progressed"] == [1]


def test_what_is_declared_later_is_declared_again(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    refused(game.ask("declare_more", chars=100))  # it has some already, so that 199 more are too many
    declared = app.take("application.declare")
    assert len(declared.fields["commands"]) == 200
    app.refuse(declared, "bad_request", "commands[7].help: no")
    until(lambda: game.told("application.declare: commands[7].help: no"))
    assert game.answer("count") == 1


# ---- the clock


@pytest.mark.parametrize("by", [-7200.0, 7200.0])
def test_a_clock_that_is_set_stops_no_heartbeat(table: Table, by: float) -> None:
    game = table.game()
    game.welcome(table.globaldb.url)
    sock = table.globaldb.accept()
    beat(sock)
    game.request("set_clock", by=by)
    for _ in range(3):
        try:
            beat(sock)
        except EOFError:  # a jump forward may look like an answer that does not come: once
            sock = table.globaldb.accept()
    game.app.close()
    game.welcome()  # and it comes back in time
    assert game.answer("count") == 1


def beat(sock: socket.socket, answer: bytes = b"+OK\r\n") -> dict[str, str]:
    """The next record that is written there. EOFError when the game hung up."""
    words = command(sock)
    assert words[:2] == ["HMSET", RECORD], words
    sock.sendall(answer)
    return dict(zip(words[2::2], words[3::2], strict=True))


def command(sock: socket.socket) -> list[str]:
    data = b""
    while not complete(data):
        some = sock.recv(65536)
        if not some:
            raise EOFError("the game hung up")
        data += some
    return [part.decode() for part in data.split(b"\r\n")[2::2]]


def complete(data: bytes) -> bool:
    lines = data.split(b"\r\n")
    return lines[0][1:].isdigit() and len(lines) == 2 * int(lines[0][1:]) + 2


def test_a_clock_that_jumps_ahead_wakes_no_sleeper(table: Table) -> None:
    game = table.game()
    game.welcome()
    dozes = game.request("doze", seconds=60)
    game.request("set_clock", by=7200.0)
    game.goes_on()
    assert game.answer("count") == 1
    assert dozes not in [message.seq for message in game.app.inbox]


# ---- the record


def test_statistics_that_cannot_be_had_do_not_stop_the_heartbeat(table: Table) -> None:
    game = table.game()
    game.welcome(table.globaldb.url, heartbeat_s=0.05)
    sock = table.globaldb.accept()
    assert json.loads(beat(sock)["info"]) == {"players": 3}
    for how, said in {
        "raises": "no statistics",
        "refuses": "not now",
        "list": "a list",
        "number": "a number",
        "huge": "at most 65536",
        "nan": "NaN",
    }.items():
        game.request("set_info", how=how)
        until(lambda said=said: beat(sock) and game.told(said))  # type: ignore[misc]
        assert beat(sock)["info"] == '{"players":3}'
        assert sum(said in problem for problem in game.problems()) == 1  # once, not at every heartbeat


def test_a_start_by_hand_is_counted_once_even_if_the_answer_is_lost(table: Table) -> None:
    table.game(AGENT_GLOBALDB=table.globaldb.url, AGENT_INCARNATION="", AGENT_DAEMON="", HURRY=str(HURRY))
    sock = table.globaldb.accept()
    assert command(sock) == ["HEXISTS", "process", KEY]
    sock.sendall(b":0\r\n")
    words = command(sock)
    assert words[:3] == ["HSET", "process", KEY] and float(words[3]) > 1e9
    sock.close()  # before it answers
    sock = table.globaldb.accept()
    assert command(sock) == ["HEXISTS", "process", KEY]
    sock.sendall(b":1\r\n")
    assert command(sock) == ["HINCRBY", RECORD, "startcount", "1"]
    sock.close()
    assert beat(table.globaldb.accept()).keys() == {"info", "pid", "lastupdate"}


def test_the_password_is_said_first_and_never_told(table: Table) -> None:
    game = table.game(
        AGENT_GLOBALDB=f"redis://ad%61:p%40ss:w%C3%B6rd@{table.globaldb.address}/0", HURRY=str(HURRY)
    )
    sock = table.globaldb.accept()
    assert command(sock) == ["AUTH", "ada", "p@ss:wörd"]
    sock.sendall(b"-WRONGPASS no\r\n")
    sock = table.globaldb.accept()
    assert command(sock)[0] == "AUTH"
    sock.sendall(b"+OK\r\n")
    assert beat(sock)["info"] == '{"players":3}'
    assert game.told("WRONGPASS") and not game.told("p@ss")


@pytest.mark.parametrize(
    "url", ["rediss://127.0.0.1:6379", "http://x", "redis://", "redis://a b:1", "redis://h:99999"]
)
def test_a_globaldb_that_cannot_be_spoken_to_costs_the_record_alone(table: Table, url: str) -> None:
    game = table.game()
    game.welcome(url)
    assert game.answer("count") == 1
    assert len(game.problems()) == 1 and game.problems()[0].startswith("globaldb: ")


# Each with what is told of it when it ends the connection.
ANSWERS = [
    (b"-ERR no\r\n", "ERR no"),
    (b"$2\r\nOK\r\n", "not one of Redis"),
    (b"*0\r\n", "not one of Redis"),
    (b"+OK\r\n+OK\r\n", "was not asked"),
    (b"\r\n", "not one of Redis"),
    (b"+OK\n", "not one of Redis"),
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not one of Redis"),
    (b"+" + b"x" * 100_000, "too long"),
    (b"", "closed"),
    (b":1\r\n", ""),
    (b"+\r\n", ""),
]


def test_answers_of_a_hostile_globaldb_end_its_connection_at_most(table: Table) -> None:
    game = table.game(HURRY=str(HURRY))
    game.welcome(table.globaldb.url)
    chance = random.Random(7)
    fuzz = [chance.choice(b"$*(,#_!=%~>|\n\r").to_bytes() + chance.randbytes(20) for _ in range(4)]
    for answer, why in ANSWERS + [(answer, "not one of Redis") for answer in fuzz]:
        sock = table.globaldb.accept()
        beat(sock)  # a good one, so that it comes back soon
        beat(sock, answer)
        if not answer:
            sock.shutdown(socket.SHUT_WR)
        if why:
            assert hung_up(sock) == 0, answer
            until(lambda why=why: why in "".join(game.problems()[-1:]))  # type: ignore[misc]
        else:
            beat(sock)
            sock.close()
    beat(table.globaldb.accept())
    assert game.answer("count") == 1
    assert not game.told("a mistake in agent.lua")


def test_an_answer_of_globaldb_may_come_in_pieces(table: Table) -> None:
    game = table.game()
    game.welcome(table.globaldb.url)
    sock = table.globaldb.accept()
    command(sock)
    for n, piece in enumerate((b"+", b"OK", b"\r", b"\n"), start=1):
        sock.sendall(piece)
        assert game.answer("count") == n
    beat(sock)


def hung_up(sock: socket.socket) -> int:
    """Waits until the game has hung up: how many bytes it had said before."""
    said = 0
    try:
        while data := sock.recv(65536):
            said += len(data)
    except ConnectionError:
        pass
    return said


# ---- hostile daemons


def test_frames_of_a_hostile_daemon_end_its_link_at_most(table: Table) -> None:
    game = table.game(HURRY=str(HURRY))
    for data in hostile_frames(random.Random(11)):
        app = game.welcome()
        try:
            app.raw(data)
            app.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        hung_up(app.sock)
    game.welcome()
    assert game.answer("count") == 1
    assert not game.told("a mistake in agent.lua")


def hostile_frames(chance: random.Random) -> Iterator[bytes]:
    call = packed(wire.REQUEST, 1, "gm.execute", {"id": "1", "command": "refuse", "arguments": {}})
    save = packed(wire.REQUEST, 2, "process.save", {"id": "1", "reason": "stop"})
    for _ in range(12):
        yield chance.randbytes(chance.randrange(1, 200))
    for _ in range(25):
        frames = bytearray(call + save)
        for _ in range(chance.randrange(1, 4)):
            frames[chance.randrange(len(frames))] = chance.randrange(256)
        yield bytes(frames)
    yield packed(wire.REQUEST, 3, "gm.execute", {})
    yield packed(wire.REQUEST, 3, "gm.execute", {"id": None, "command": [], "arguments": 1})
    yield packed(wire.REQUEST, 3, "gm.execute", {"id": "x", "command": "", "arguments": []})
    yield packed(wire.ERROR, 2, "error", {"code": [], "text": {"a": None}})  # application.declare is refused
    yield packed(wire.REPLY, 1, "session.joined", {"heartbeat_s": -1e300, "globaldb": []})


BROKEN = {
    struct.pack(">IBH", 3, 1, 0): "a frame that is shorter than its head",
    struct.pack(">IBIBB", 20, 1, 1, 200, 200) + b"x" * 20: "a frame that is shorter than its addresses",
    struct.pack(">IBIBB", 9, 9, 1, 0, 0) + b"[]": "a frame of the kind 9",
    struct.pack(">IBIBB", 0xFFFFFFFF, 1, 1, 0, 0): "a frame of 4294967295 bytes",
    wire.pack(wire.REQUEST, 1, b"", b"", b"[" * 100): "nested deeper than 64",
    wire.pack(wire.REQUEST, 1, b"", b"", b'["x",5]'): "no name or no fields",
}


def test_a_broken_frame_ends_the_link_and_on_error_hears_why(table: Table) -> None:
    game = table.game(HURRY=str(HURRY))
    for data, why in BROKEN.items():
        app = game.welcome()
        app.raw(data)
        assert app.ended()
        until(lambda why=why: why in "".join(game.problems()[-1:]))  # type: ignore[misc]


def test_what_comes_behind_a_broken_frame_is_not_run(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    count = packed(wire.REQUEST, 2, "gm.execute", {"id": "1", "command": "count", "arguments": {}})
    app.raw(wire.pack(wire.REQUEST, 1, b"", b"", b"no JSON") + count)
    assert app.ended()
    app.close()
    game.welcome()
    assert game.answer("count") == 1


def test_a_poll_in_a_handler_runs_no_other_handler(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    batch = [
        packed(wire.REQUEST, n, "gm.execute", {"id": str(n), "command": command, "arguments": {}})
        for n, command in enumerate(("poll_inside", "count"))
    ]
    app.raw(b"".join(batch))
    assert [app.take("gm.answer").fields["answer"] for _ in batch] == ["polled", 1]


def test_a_welcome_that_makes_no_sense_is_survived(table: Table) -> None:
    game = table.game(HURRY=str(HURRY))
    strange: list[dict[str, Any]] = [{}, {"heartbeat_s": "x", "globaldb": 5}]
    for fields in (*strange, {"heartbeat_s": 0, "globaldb": "x" * 100_000}):
        app = table.daemon.application()
        app.send(wire.REPLY, app.take("session.join").seq, "session.joined", fields)
        app.take("application.declare")
        app.close()
    game.welcome()
    assert game.answer("count") == 1


def test_no_request_is_run_before_the_join_is_answered(table: Table) -> None:
    game = table.game()
    app = game.app = table.daemon.application()
    join = app.take("session.join")
    assert refused(game.ask("count"))[0] == "bad_request"
    app.reply(join, "session.joined", daemon="", version="", heartbeat_s=5.0, globaldb="")
    assert game.answer("count") == 1


def test_more_frames_than_one_poll_takes_are_all_answered(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    many = [
        packed(wire.REQUEST, 1000 + n, "gm.execute", {"id": str(n), "command": "count", "arguments": {}})
        for n in range(500)
    ]
    app.raw(b"".join(many))
    assert [app.answer_to(1000 + n).fields["answer"] for n in range(500)] == list(range(1, 501))


def test_a_frame_at_the_limit_is_taken_and_one_above_ends_the_link(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    fields = {"id": "1", "command": "count", "arguments": {}, "more": ""}
    length = len(packed(wire.REQUEST, 9, "gm.execute", fields)) - wire.LENGTH_BYTES
    fields["more"] = "x" * (1024 * 1024 - length)
    app.send(wire.REQUEST, 9, "gm.execute", fields)
    assert app.answer_to(9).fields["answer"] == 1
    app.raw(struct.pack(">I", 1024 * 1024 + 1))
    assert app.ended()


# ---- peers that hang


def test_peers_that_never_answer_hold_up_nothing(table: Table) -> None:
    """The daemon takes the connection and says nothing, globaldb likewise: both are given up and tried again."""
    game = table.game(AGENT_GLOBALDB=table.globaldb.url, HURRY=str(HURRY))
    links = [table.daemon.application() for _ in range(2)]
    records = [table.globaldb.accept() for _ in range(2)]
    assert links[0].ended() and hung_up(records[0]) > 0
    assert game.told("session.join was not answered within 10 s") and game.told("no answer within 5 s")
    game.goes_on()


def test_connections_that_never_come_hold_up_nothing(table: Table) -> None:
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # the queue of those who wait for accept() is full now
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        address = f"127.0.0.1:{full.getsockname()[1]}"
        game = table.game(AGENT_DAEMON=address, AGENT_GLOBALDB=f"redis://{address}", HURRY=str(HURRY))
        until(lambda: game.told("link to the daemon: no connection within 5 s"))
        until(lambda: game.told(f"globaldb {address}: no connection within 5 s"))
        game.goes_on()


def test_a_daemon_that_does_not_read_loses_events_and_then_its_link(table: Table) -> None:
    game = table.game()
    app = game.welcome()
    flood = game.request("flood", events=2000)  # 16 MB, more than the kernel takes
    game.goes_on()
    assert 0 < app.answer_to(flood).fields["answer"] < 2000
    for _ in range(300):
        game.request("answer_long", bytes=60_000)
    until(lambda: game.told("the daemon does not read"))
    game.goes_on()
    app.close()
    game.welcome()
    assert game.answer("count") == 1


def test_a_refused_connection_is_tried_again_and_told_once(table: Table) -> None:
    table.daemon.stop()
    table.globaldb.stop()
    game = table.game(AGENT_GLOBALDB=table.globaldb.url, HURRY=str(HURRY))
    until(lambda: game.told("link to the daemon: connection refused"))
    until(lambda: game.told(f"globaldb {table.globaldb.address}: connection refused"))
    game.goes_on(100)
    table.daemon.start()
    game.welcome()
    assert game.answer("count") == 1
    assert len(game.problems()) == 2


# ---- the machine


def test_a_game_with_thousands_of_connections_can_join(table: Table) -> None:
    """select() cannot look at descriptors above 1,023."""
    game = table.game(DESCRIPTORS="1100")
    game.welcome(table.globaldb.url)
    assert game.answer("count") == 1
    beat(table.globaldb.accept())


def test_for_an_address_nobody_asks_the_dns(table: Table) -> None:
    game = table.game(NO_DNS="1")
    game.welcome(table.globaldb.url)
    beat(table.globaldb.accept())
    assert game.problems() == []


def test_a_daemon_may_have_a_name(table: Table) -> None:
    game = table.game(AGENT_DAEMON=f"localhost:{table.daemon.port}")
    game.welcome()
    assert game.answer("count") == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:0", "no.such.host.invalid:1"])
def test_an_address_that_is_none_costs_the_link_alone(table: Table, address: str) -> None:
    game = table.game(AGENT_DAEMON=address, AGENT_GLOBALDB=table.globaldb.url)
    beat(table.globaldb.accept())
    assert len(game.problems()) == 1 and "AGENT_DAEMON" in game.problems()[0]


@pytest.mark.parametrize("lua", RUN_GAMES)
def test_a_poll_with_nothing_to_do_costs_microseconds(lua: str) -> None:
    with Daemon() as daemon, Listener() as globaldb:
        words = [tool(lua, lua), str(HERE / "idle.lua")]
        told = {"AGENT_DAEMON": daemon.address, "AGENT_PROCESS": KEY, "AGENT_INCARNATION": "9f86"}
        with subprocess.Popen(words, env=environment(**told), stdout=subprocess.PIPE, text=True) as idle:
            try:
                daemon.welcome(globaldb.url, heartbeat_s=60.0)
                beat(globaldb.accept())
                printed, _ = idle.communicate(timeout=20)
            finally:
                idle.kill()
    assert float(printed) < 100.0  # 2 with LuaJIT, 4 with the others
