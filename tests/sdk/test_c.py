"""The C SDK where the test that all SDKs share does not look: its JSON, its declarations, its clocks, and games,
daemons and globaldbs that do everything wrong.

`c/*.c` are the programs: `reader`, `declarations`, `times` and `fuzz` have agent.c inside and test its parts under
AddressSanitizer; `game` does what no game should, at this test's command.
"""

import json
import math
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import declaration, wire
from tests.globaldb_servers import Server, free_port
from tests.sdk.servers import SANITIZE, SDK, compile, tool
from tests.sdk.stand_in import Application, Daemon, Listener, Message, packed
from tests.waiting import until

HERE = Path(__file__).parent / "c"
SOURCE = str(SDK / "c/agent.c")
KEY = "大区1.192.168.1.11.game1"
RECORD = f"process:{KEY}"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
C99 = ["-x", "c", "-std=c99", "-Wpedantic", *WARNINGS]
CPP = ["-x", "c++", "-std=c++11", *WARNINGS]
TESTED = ["-g", "-O0", *SANITIZE, f"-I{SDK}/c"]
HURRY_S = 0.5  # of one agent_poll on a machine that is busy with something else; what blocks takes seconds

BUILDS = {
    name: [tool("gcc", "gcc"), *C99, *flags, *sources, "-lm"]
    for name, flags, sources in (
        ("reader", TESTED, [str(HERE / "reader.c")]),
        ("declarations", TESTED, [str(HERE / "declarations.c")]),
        ("times", TESTED, [str(HERE / "times.c")]),
        ("fuzz", TESTED, [str(HERE / "fuzz.c")]),
        ("game", ["-O2", "-DCOUNT_ALLOCATIONS", f"-I{SDK}/c"], [str(HERE / "game.c"), SOURCE]),
        ("game-asan", TESTED, [str(HERE / "game.c"), SOURCE]),
    )
}


class Programs(dict[str, str]):
    """Each is built by the first test that asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __missing__(self, name: str) -> str:
        path = str(self._folder / name)
        compile(*BUILDS[name], "-o", path)
        self[name] = path
        return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("c"))


def clean(**more: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}, **more}


def run(program: str, *words: str, told: str = "", **more: str) -> str:
    done = subprocess.run(
        [program, *words], input=told, env=clean(**more), capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


# ---- compilers


@pytest.mark.parametrize(
    "words",
    [
        ["gcc", "-c", *C99, "-O2", "-Wconversion", "-Wshadow", "-Wno-sign-conversion"],
        ["gcc", "-c", "-x", "c", "-std=c11", *WARNINGS, "-O3"],
        ["gcc", "-c", "-x", "c", *WARNINGS, "-Os", "-DNDEBUG"],
        ["g++", "-c", *CPP, "-O2"],
        ["g++", "-c", "-x", "c++", "-std=c++20", *WARNINGS],
        *([["clang", "-c", *C99, "-O2"]] if shutil.which("clang") else []),
    ],
    ids=lambda words: " ".join(word for word in words if word in ("gcc", "g++", "clang") or "std" in word),
)
def test_it_compiles_without_a_warning(words: list[str], tmp_path: Path) -> None:
    for source in ("agent.c", "example.c"):
        done = subprocess.run(
            [tool(words[0], words[0]), *words[1:], str(SDK / "c" / source), "-o", str(tmp_path / "out.o")],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_it_needs_nothing_but_libc_and_exports_nothing_but_agent(tmp_path: Path) -> None:
    library = tmp_path / "agent.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", SOURCE, "-o", str(library), "-Wl,-z,defs"], check=True)
    symbols = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True)
    names = [line.split()[-1] for line in symbols.stdout.splitlines()]
    assert [name for name in names if not name.startswith("agent_")] == []
    header = (SDK / "c/agent.h").read_text()
    assert set(names) == set(re.findall(r"^[a-z][^\n(]*\b(agent_\w+)\(", header, re.M))


# ---- JSON

VALID = [
    "null", "true", "false", "0", "-0", "-1", "1.5", "1e5", "1E+5", "1e-5", "0.0", "-0.0e0", '""', '"a"',
    "[]", "{}",
    " [ 1 , 2 ] ", '\t{ "a" : 1 }\r\n', '{"a":1,"a":2}', '{"":{}}', '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9"',
    '"\\ud83d\\ude00"',
    '"大区 😀 \u2028 \x7f"', "9223372036854775807", "-9223372036854775808", "1e308", "5e-324", '"\\u0000"',
    "[" * 64 + "]" * 64, '{"a":' * 64 + "1" + "}" * 64, "[[],[],[[]]]", "[1,[2,[3]]]",
]  # fmt: skip
INVALID = [
    "", " ", "nul", "nulll", "True", "NaN", "Infinity", "-", "+1", "01", "-01", "1.", ".5", "1.e5", "1e",
    "1e+", "0x10",
    "1 2", "[1 2]", "[1,]", "[,1]", "[", "]", "{", "}", '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', "{1:2}",
    '{"a" 1}', "'a'", '"',
    '"a', '"\\', '"\\"', '"\\x"', '"\\u12"', '"\\u12g4"', '"\\u"', '"a\nb"', '"\t"', '"\x00"', "\ufeff1",
    "//\n1", "1,",
    "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65,
    "[" * 100_000, '{"a":' * 100_000, "[}", '{"a":[}', "tru", "nullnull",
    "\x0c1", "1\x0b", "\u00a01",
]  # fmt: skip
NOT_UTF_8 = [
    b'"\xff"', b'"\xc3"', b'"\xc3', b'"\xc0\xaf"', b'"\xe0\x80\x80"', b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"', b'"\xf8\x88"',
    b'"\xe5\xa4', b'"\x80"', b'{"\xff":1}',
]  # fmt: skip
NOT_TO_BE_SENT = [
    "9223372036854775808",
    "-9223372036854775809",
    "1e999",
    "-1e400",
    '"\\ud800"',
    '"\\udc00"',
    "1" * 400,
]
NOT_TO_BE_SENT += ['"\\ud800\\u0041"', '"\\ud83dx"', '["\\ude00\\ud83d"]', '{"\\ud800":1}']


def test_json_is_valid_or_not(programs: Programs) -> None:
    texts = (
        [text.encode() for text in VALID + INVALID] + NOT_UTF_8 + [text.encode() for text in NOT_TO_BE_SENT]
    )
    wanted = ["1 1"] * len(VALID) + ["0 0"] * (len(INVALID) + len(NOT_UTF_8)) + ["1 0"] * len(NOT_TO_BE_SENT)
    said = run(programs["reader"], told="".join(f"json {text.hex()}\n" for text in texts)).splitlines()
    assert [(text, says) for text, says in zip(texts, said, strict=True)] == list(
        zip(texts, wanted, strict=True)
    )


def test_whatever_is_cut_off_is_not_valid(programs: Programs) -> None:
    whole = '{"a":[1.5e-3,true,null,"\\u00e9\\ud83d\\ude00 大"],"b":{"c":false}}'.encode()
    told = "".join(f"json {whole[:length].hex()}\n" for length in range(len(whole)))
    assert set(run(programs["reader"], told=told).splitlines()) == {"0 0"}


def test_strings_say_what_python_says_they_say(programs: Programs) -> None:
    chosen = random.Random(1)
    texts = ["", "\0", "a\0b", '"\\/\b\f\n\r\t', "é大😀", "\x7f\u2028", "x" * 5000]
    texts += ["".join(chr(chosen.choice((0x22, 0x5C, 0x0A, 0x41, 0xE9, 0x5927, 0x1F600))) for _ in range(20))]
    spelled = [json.dumps(text, ensure_ascii=ascii).encode() for text in texts for ascii in (True, False)]
    said = run(programs["reader"], told="".join(f"text {text.hex()}\n" for text in spelled)).splitlines()
    assert [bytes.fromhex(line).decode() for line in said] == [json.loads(text) for text in spelled]
    odd = {
        '"\\ud800"': "\ufffd",
        '"\\ude00\\ud83d"': "\ufffd\ufffd",
        '"\\ud83d\\ud83d\\ude00"': "\ufffd😀",
        '"\\ud83dx"': "\ufffdx",
    }
    said = run(programs["reader"], told="".join(f"text {text.encode().hex()}\n" for text in odd)).splitlines()
    assert [bytes.fromhex(line).decode() for line in said] == list(odd.values())


def test_quoted_text_reads_back_whatever_it_was(programs: Programs) -> None:
    texts = [
        bytes(range(128)),
        "é大😀\u2028".encode(),
        b"",
        b'"\\\0"',
        b"\xff",
        b"a\xc3",
        b"\xed\xa0\x80b",
        b"\xe5\xa4\xa7\xe5\xa4",
    ]
    said = run(programs["reader"], told="".join(f"quote {text.hex()}\n" for text in texts)).splitlines()
    for text, line in zip(texts, said, strict=True):
        read = json.loads(bytes.fromhex(line))
        if "\ufffd" in text.decode(errors="replace"):
            assert read.replace("\ufffd", "") == text.decode(errors="ignore")
            assert "\ufffd" in read
        else:
            assert read == text.decode()


# ---- numbers


@pytest.fixture(scope="module")
def comma(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program whose setlocale(LC_ALL, "") makes it write 1,5."""
    folder = tmp_path_factory.mktemp("locale")
    localedef = shutil.which("localedef")
    words = [localedef or "", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")]
    if not localedef or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("there is no localedef, or it does not know de_DE (apt-get install locales)")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"}


def test_numbers_keep_their_point_in_every_locale(programs: Programs, comma: dict[str, str]) -> None:
    told = f"print \nfloat {b'1.5'.hex()}\njson {b'1.5e3'.hex()}\n"
    assert run("/usr/bin/printf", "%.1f", "1,5", **comma) == "1,5"  # so that this can fail
    assert run(programs["reader"], told=told, **comma).splitlines() == ['{"a": 1.50}', "1.5", "1 1"]


def test_floats_come_back_to_the_bit(programs: Programs) -> None:
    chosen = random.Random(2)
    floats = [
        0.0,
        -0.0,
        0.1,
        1.0,
        1e300,
        5e-324,
        1.7976931348623157e308,
        2.0**53 + 2,
        1 / 3,
        123456789012345680.0,
    ]
    floats += [value for (value,) in struct.iter_unpack("<d", chosen.randbytes(8000)) if math.isfinite(value)]
    said = run(programs["reader"], told="".join(f"float {repr(value).encode().hex()}\n" for value in floats))
    read = [json.loads(line) for line in said.splitlines()]
    assert {type(value) for value in read} == {float}
    assert [struct.pack("<d", value) for value in read] == [struct.pack("<d", value) for value in floats]


def test_ints_have_64_bits(programs: Programs) -> None:
    cases = {
        "0": "0",
        "-0": "0",
        "9223372036854775807": "9223372036854775807",
        "-9223372036854775808": "-9223372036854775808",
    }
    cases |= dict.fromkeys(
        ["9223372036854775808", "-9223372036854775809", "1.0", "1e1", "", "-", "99999999999999999999", "a"],
        "no",
    )
    said = run(
        programs["reader"], told="".join(f"int {text.encode().hex()}\n" for text in cases)
    ).splitlines()
    assert dict(zip(cases, said, strict=True)) == cases


# ---- addresses, frames


def test_where_globaldb_is(programs: Programs) -> None:
    cases = {
        "h": "h|6379||", "h:1": "h|1||", "1.2.3.4:65535/0": "1.2.3.4|65535||", "[::1]": "::1|6379||",
        "[::1]:7": "::1|7||",
        ":p@h": "h|6379||p", "u:p@h:2": "h|2|u|p", "u:p%40%3a%2F%c3%A4:x@h": "h|6379|u|p@:/ä:x",
        "u@h": "h|6379|u|", ":a@b@h": "h|6379||a@b", "u:100%@h": "h|6379|u|100%",
        **dict.fromkeys(("", ":1", "h:", "h:0", "h:65536", "h:x", "h:1x", "h:99999999999999999999"), "no"),
        **dict.fromkeys(("[::1", "[]", "[::1]x", "@", "u:p@", "x" * 256, ":" + "p" * 600 + "@h"), "no"),
    }  # fmt: skip
    said = run(
        programs["reader"], told="".join(f"url {text.encode().hex()}\n" for text in cases)
    ).splitlines()
    assert dict(zip(cases, said, strict=True)) == cases


def test_what_a_frame_is(programs: Programs) -> None:
    whole = packed(wire.REQUEST, 1, "a", {})
    cases = {
        b"": 0, whole[:3]: 0, whole[:10]: 0, whole[:11]: len(whole), whole: len(whole),
        b"\x00\x10\x00\x01": -1, b"\xff" * 4: -1,
        struct.pack(">IBIBB", 7, 1, 1, 0, 0): 11, struct.pack(">IBIBB", 6, 1, 1, 0, 0): -1,
        struct.pack(">IBIBB", 9, 1, 1, 1, 2): -1,
        struct.pack(">IBIBB", 9, 0, 1, 0, 0): -1, struct.pack(">IBIBB", 9, 5, 1, 0, 0): -1,
        struct.pack(">IBIBB", 0, 1, 1, 0, 0): -1,
        struct.pack(">IBIBB", 1 << 20, 1, 1, 255, 255): (1 << 20) + 4,
    }  # fmt: skip
    said = run(programs["reader"], told="".join(f"frame {data.hex()}\n" for data in cases)).splitlines()
    assert dict(zip(cases, map(int, said), strict=True)) == cases


# ---- alone


def test_declarations_that_break_the_contract_are_refused(programs: Programs) -> None:
    """And those that do not are ones that the agent takes."""
    long, many = map(json.loads, run(programs["declarations"]).splitlines())
    read_long, read_many = map(declaration.read_declarations, (long, many))
    assert len(read_many.commands) == declaration.MAX_COMMANDS > len(read_long.commands)


def test_pauses_and_time_outs(programs: Programs) -> None:
    run(programs["times"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whatever_peers_say_breaks_nothing(programs: Programs, seed: int) -> None:
    said = run(programs["fuzz"], str(seed), "25000")
    commands, kept = map(int, re.findall(r"\d+", said))
    assert commands > 400 and kept > 10_000  # it came to something


# ---- a game that does everything wrong


class Game:
    """One running `game`, and its daemon's end of the link."""

    app: Application

    def __init__(
        self, daemon: Daemon | None, output: Callable[[], str], child: subprocess.Popen[bytes]
    ) -> None:
        self.daemon, self.output, self.child = daemon, output, child
        self._ids = 0

    def welcome(self, globaldb: str = "", heartbeat_s: float = 0.2) -> Application:
        assert self.daemon
        self.app = self.daemon.welcome(globaldb, heartbeat_s)
        return self.app

    def request(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> int:
        self._ids += 1
        named = {"id": id or f"id-{self._ids}", "command": command, "arguments": arguments, "again": again}
        return self.app.request("gm.execute", **named, user="ada", left_s=7.25)

    def ask(self, command: str, id: str = "", again: bool = False, **arguments: Any) -> Message:
        return self.app.answer_to(self.request(command, id, again, **arguments))

    def answer(self, command: str, **arguments: Any) -> Any:
        message = self.ask(command, **arguments)
        assert message.name == "gm.answer", message
        return message.fields["answer"]

    def error(self) -> str:
        return self.answer("error")


Play = Callable[..., Game]


@pytest.fixture
def play(programs: Programs, tmp_path: Path) -> Iterator[Play]:
    with ExitStack() as stack:

        def start(daemon: Daemon | None = None, program: str = "game", **more: str) -> Game:
            path = tmp_path / f"game{free_port()}.log"
            if daemon:
                more = {"AGENT_DAEMON": daemon.address, "AGENT_INCARNATION": "1", "AGENT_TOKEN": "t"} | more
            environment = clean(**{"AGENT_PROCESS": KEY, **more})
            log = stack.enter_context(open(path, "wb"))
            child = subprocess.Popen([programs[program]], env=environment, stdout=log, stderr=log)
            stack.callback(child.wait)
            stack.callback(child.kill)
            return Game(daemon, lambda: path.read_text(errors="replace"), child)

        yield start


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


@pytest.fixture(params=["game", "game-asan"])
def game(request: pytest.FixtureRequest, play: Play, daemon: Daemon) -> Iterator[Game]:
    game = play(daemon, request.param)
    game.welcome()
    yield game
    assert "Sanitizer" not in game.output() and "runtime error" not in game.output()


def failed(message: Message) -> tuple[str, str]:
    assert (message.kind, message.name) == (wire.ERROR, "error"), message
    return message.fields["code"], message.fields["text"]


def test_an_answer_may_come_after_its_link(game: Game) -> None:
    game.request("keep", id="k1")
    game.request("keep", id="k2")
    game.answer("facts")  # so that both run
    game.app.close()
    game.welcome()
    assert game.answer("release") == [2, 0]
    assert game.ask("keep", id="k1", again=True).fields["answer"] == {"kept": 0}
    assert game.ask("keep", id="k2").fields["answer"] == {"kept": 1}
    waiting = game.request("keep", id="k3")
    assert game.answer("release") == [1, 0]
    assert game.app.answer_to(waiting).fields["answer"] == {"kept": 0}


def test_an_answer_that_is_not_json_is_not_sent(game: Game) -> None:
    for text in (
        "",
        "{",
        "nul",
        "1 2",
        '"\\ud800"',
        "[" * 63 + "]" * 63,
        "12345678901234567890",
        "1e999",
        "NaN",
    ):
        assert failed(game.ask("say", json=text))[0] == "internal", text
        assert "not JSON" in game.error()
    for how in ("utf8", "null", "long", "longer"):
        assert failed(game.ask("wrong", how=how))[0] == "internal", how
    assert failed(game.ask("wrong", how="nothing")) == ("internal", "its handler gave no answer")
    assert game.error() == "the handler of wrong gave no answer"
    for text in ("null", " [1, 2.50] ", '"\\ud83d\\ude00\\u0000"', "[" * 62 + "]" * 62, "1" * 19):
        message = game.ask("say", json=text)
        assert message.fields["answer"] == json.loads(text)
    assert game.answer("wrong", how="longest") == "x" * 65534
    assert game.answer("wrong", how="twice") == 1
    assert "more than one answer" in game.error()
    reason = failed(game.ask("wrong", how="reason"))
    assert reason == ("refused", "\ufffd" + "x" * 1023)
    assert failed(game.ask("wrong", how="no reason")) == ("refused", "")


def test_arguments_of_another_type_are_nothing(game: Game) -> None:
    assert game.answer("wrong", how="types", number=7, none=None) == [0, 0, 0, "", 1, 0]
    assert game.error() == "argument how of wrong is not true or false"
    assert game.answer("wrong", how="types") == [0, 0, 0, "", 1, 0]
    assert "wrong has no argument none" in game.error()


def test_a_request_says_who_asks_and_how_long(game: Game) -> None:
    facts = game.answer("facts")
    assert (facts["user"], facts["left_s"]) == ("ada", 7.25)


def test_an_id_that_cannot_be_kept_is_not_run(game: Game) -> None:
    for id in ("x" * 257, "大" * 86, "a\0b", ""):
        fields = {"id": id, "command": "facts", "arguments": {}, "user": "ada", "again": False}
        assert failed(game.app.ask("gm.execute", **fields))[0] == "bad_request"
    assert game.ask("facts", id="x" * 256).name == "gm.answer"


def test_more_answers_than_there_is_room_for_are_forgotten_but_not_run_again(game: Game) -> None:
    text = json.dumps("x" * 4000)
    for n in range(140):
        assert game.ask("say", id=f"big{n}", json=text).name == "gm.answer"
    assert failed(game.ask("say", id="big0", json="1"))[0] == "forgotten"
    assert failed(game.ask("say", id="big5", json="1", again=True))[0] == "forgotten"
    for n in (30, 139):
        assert game.ask("say", id=f"big{n}", json="1").fields["answer"] == "x" * 4000


def test_with_1024_commands_running_no_more_are_run(game: Game) -> None:
    """And a ticket of before has no power over the command that has its place now."""
    game.request("keep", id="stale")
    assert game.answer("release") == [1, 0]
    for n in range(1023):
        game.request("keep", id=f"run{n}")
    assert game.answer("stale") == 0
    game.request("keep", id="last")
    assert failed(game.ask("facts")) == ("refused", "too many commands are running already")
    assert failed(game.ask("facts", id="x", again=True))[0] == "forgotten"
    assert [message.name for message in game.app.inbox] == ["gm.answer"]  # that of "stale"


def test_events_are_json_of_a_bounded_length(game: Game) -> None:
    bad = [
        ("", "1"),
        ("x" * 65, "1"),
        ("e", ""),
        ("e", "{"),
        ("e", '"' + "x" * 8191 + '"'),
        ("e", "[" * 63 + "]" * 63),
    ]
    for name, text in bad:
        assert game.answer("event", name=name, json=text) == 0
        assert game.error().startswith("event ")
    for name, text in (("大" * 21, "{}"), ("e", '"' + "x" * 8190 + '"')):
        assert game.answer("event", name=name, json=text) == 1
        assert game.app.take("event.raised").fields["data"] == json.loads(text)


def test_a_command_may_be_declared_late(game: Game) -> None:
    assert game.answer("declare") == 1
    declared = game.app.take("application.declare")
    assert declared.fields["commands"][-1]["name"] == "late"
    game.app.refuse(declared, "bad_request", "commands[13]: no good")
    assert game.answer("declare") == 0
    assert game.error() == "command late: name: it is declared already"
    assert (
        "trouble: the daemon: it refuses what we declare: bad_request: commands[13]: no good\n"
        in game.output()
    )
    assert game.answer("late")


def test_entry_may_say_nothing_or_nonsense(game: Game) -> None:
    assert game.app.ask("entry.set", open=True).fields == {"text": ""}
    assert game.app.ask("entry.set", open=False).fields == {"text": "\ufffd shut"}
    assert failed(game.app.ask("entry.set", open=1))[0] == "bad_request"
    assert failed(game.app.ask("entry.set"))[0] == "bad_request"


def test_it_may_be_closed_inside_a_handler(game: Game) -> None:
    assert game.answer("close") == "closed"
    assert game.app.ended()
    until(lambda: game.child.poll() == 0)
    assert game.output().endswith("closed\n")


def test_a_forked_child_says_nothing(game: Game) -> None:
    waiting = game.request("keep")
    for _ in range(2):
        assert game.answer("fork") == 0
        assert not game.app.inbox
    assert game.answer("release") == [1, 0]
    assert game.app.answer_to(waiting).fields["answer"] == {"kept": 0}


@contextmanager
def record_goes_on(server: Server) -> Iterator[None]:
    with server.client() as client:
        before = until(lambda: client.hget(RECORD, "lastupdate"))
        yield
        assert float(client.hget(RECORD, "lastupdate")) > float(before) + 0.8


def test_a_save_that_blocks_the_loop_is_heard_and_the_record_goes_on(
    play: Play, daemon: Daemon, valkey: Server
) -> None:
    game = play(daemon, "game-asan")
    game.welcome(valkey.url)
    with record_goes_on(valkey):
        save = game.app.request("process.save", id="1", reason="stop")
        assert game.app.answer_to(save).fields == {"text": "all"}
    told = [message.fields for message in game.app.inbox if message.name == "save.progressed"]
    assert told[-1] == {"done": 1200, "total": 1200, "text": "stop"}
    assert 5 < len(told) < 400  # 20 a second, of 1,200 that it said


def test_a_handler_that_blocks_and_polls_keeps_the_record_going(
    play: Play, daemon: Daemon, valkey: Server
) -> None:
    game = play(daemon, "game-asan")
    game.welcome(valkey.url)
    with record_goes_on(valkey):
        block = game.request("block")
        next_one = game.request("facts")
        first = game.app.take("gm.answer")
        assert (first.seq, first.fields["answer"]) == (block, "blocked")
    assert game.app.answer_to(next_one).name == "gm.answer"


def test_a_wrong_info_is_not_written_and_the_old_one_is(play: Play, daemon: Daemon, valkey: Server) -> None:
    game = play(daemon)
    game.welcome(valkey.url)
    with valkey.client() as client:
        for good, bad in (
            ('{"players": 2}', "[]"),
            ('{"players": 3, "x": [1.5]}', '{"players": '),
            ("{}", ""),
        ):
            game.answer("info", json=good)
            until(lambda good=good: client.hget(RECORD, "info") == good)
            game.answer("info", json=bad)
            until(lambda: "info is not a JSON object" in game.error())
            at = client.hget(RECORD, "lastupdate")
            until(lambda at=at: client.hget(RECORD, "lastupdate") != at)
            assert client.hget(RECORD, "info") == good


def test_nothing_is_allocated_after_open(play: Play, daemon: Daemon, valkey: Server) -> None:
    game = play(daemon)
    game.welcome(valkey.url, 0.05)
    for n in range(50):
        game.answer("say", json=json.dumps(["x" * n]))
        game.answer("event", name="e", json="{}")
    game.app.ask("entry.set", open=False)
    game.app.raw(b"garbage that is no frame")
    assert game.app.ended()
    game.welcome("redis://127.0.0.1:1")
    until(lambda: "globaldb 127.0.0.1:1: Connection refused" in game.output())
    assert game.answer("facts")["allocations"] <= 1  # strerror, or printf, once


# ---- peers that hang


def test_a_daemon_that_never_reads_is_hung_up_on_and_holds_up_nothing(game: Game) -> None:
    """At first it gets no more events; then, when there is no room for an answer, no more at all."""
    assert 60 < game.answer("flood") < 2000
    try:
        for _ in range(500):
            game.request("wrong", how="longest")
    except ConnectionError:
        pass
    until(lambda: "does not read" in game.output())
    game.app.close()
    game.welcome()
    assert game.answer("facts")["longest_s"] < HURRY_S


def test_a_daemon_that_accepts_and_says_nothing_holds_up_nothing(play: Play, daemon: Daemon) -> None:
    game = play(daemon)
    silent = daemon.application()
    silent.take("session.join")
    silent.raw(b"\x00\x00\x00\x20")
    end = time.monotonic() + 1.0
    until(lambda: time.monotonic() > end)
    silent.close()
    game.welcome()
    facts = game.answer("facts")
    assert facts["longest_s"] < HURRY_S and facts["polls"] > 15


def test_a_daemon_that_does_not_accept_holds_up_nothing(play: Play, valkey: Server) -> None:
    """Its backlog is full, so that connecting hangs."""
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        play(
            None,
            AGENT_DAEMON=f"127.0.0.1:{deaf.getsockname()[1]}",
            AGENT_GLOBALDB=valkey.url,
            AGENT_INCARNATION="1",
        )
        with valkey.client() as client:
            until(lambda: client.hget(RECORD, "lastupdate"))


RAVINGS = {
    b"-ERR no\r\n": "it answers -ERR no",
    b"$-1\r\n": "it answers $-1",
    b"*1\r\n:1\r\n": "it answers *1",
    b"+" + b"x" * 5000: "it answers without end",
    b"\r\n": "it answers nothing",
    b"+OK\r\n:1\r\n": "it answers :1",
    b"": "the connection was lost",
}


def test_a_globaldb_that_hangs_or_raves_holds_up_nothing(play: Play, daemon: Daemon) -> None:
    game = play(daemon, "game-asan")
    for said, told in RAVINGS.items():
        with Listener() as mad:
            game.welcome(mad.url)
            sock = mad.accept()
            assert b"HMSET" in sock.recv(4096)
            sock.sendall(said)
            if not said:
                sock.close()
            until(lambda mad=mad, told=told: f"globaldb 127.0.0.1:{mad.port}: {told}\n" in game.output())
            game.app.close()
    with Listener() as silent:
        game.welcome(silent.url)
        silent.accept().sendall(b"+O")  # and then nothing more
        assert game.answer("facts")["longest_s"] < HURRY_S


def test_tls_to_globaldb_is_not_supported_and_the_link_works(play: Play, daemon: Daemon) -> None:
    game = play(daemon, AGENT_GLOBALDB="rediss://:secret@127.0.0.1:6379")
    game.welcome()
    assert "rediss:// (TLS) is not supported" in game.error()
    assert "secret" not in game.output()


def test_a_name_is_looked_up_where_the_environment_has_it_and_nowhere_else(
    play: Play, daemon: Daemon, valkey: Server
) -> None:
    game = play(daemon, AGENT_GLOBALDB=f"redis://localhost:{valkey.port}")
    with valkey.client() as client:
        until(lambda: client.hget(RECORD, "lastupdate"))
    game.child.kill()
    daemon.application().close()
    game = play(daemon)
    game.welcome(f"redis://localhost:{valkey.port}")
    assert game.error() == "globaldb localhost: the daemon tells a name, not an address: no record is written"
    game = play(None, AGENT_GLOBALDB="redis://no-such-host.invalid")
    until(lambda: "globaldb no-such-host.invalid: no such host: no record is written" in game.output())


def test_a_trouble_that_lasts_is_told_once(play: Play) -> None:
    game = play(None, AGENT_DAEMON="127.0.0.1:1", AGENT_GLOBALDB="redis://127.0.0.1:2")
    end = time.monotonic() + 2.5  # three tries of the link, two of the record
    until(lambda: time.monotonic() > end)
    assert sorted(game.output().splitlines()) == [
        "trouble: globaldb 127.0.0.1:2: Connection refused",
        "trouble: the daemon: Connection refused",
    ]


def test_wrong_settings_are_told_and_break_nothing(play: Play) -> None:
    game = play(
        None, AGENT_DAEMON="no-such-host.invalid:1", AGENT_GLOBALDB="http://:secret@x", AGENT_TOKEN="x" * 600
    )
    until(lambda: "globaldb's address is not" in game.output())
    assert "AGENT_DAEMON no-such-host.invalid:1 is not host:port, or no such host" in game.output()
    assert "AGENT_TOKEN is too long" in game.output()
    assert "secret" not in game.output()
    assert game.child.poll() is None


# ---- what it costs


def test_an_idle_poll_costs_no_more_than_looking_at_its_sockets(
    programs: Programs, daemon: Daemon, valkey: Server
) -> None:
    environment = clean(
        AGENT_PROCESS=KEY, AGENT_DAEMON=daemon.address, AGENT_INCARNATION="1", AGENT_TOKEN="t"
    )
    child = subprocess.Popen([programs["game"], "idle"], env=environment, stdout=subprocess.PIPE, text=True)
    daemon.welcome(valkey.url, 5.0)
    said = child.communicate(timeout=30)[0]
    print(said)
    assert "fds 2" in said
    busy, bare, step, bare_step = map(float, re.findall(r"([\d.]+) us", said))
    assert busy < bare
    assert step < bare_step * 5 + 20
