"""What applications declare and what operators type may be anything: it fits, or it is told what does not."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import declaration, gm
from agent.declaration import read_declarations
from agent.errors import ConfigError, UsageError
from agent.gm import Answer, bind, exit_code, spoken, unspoken

LONG = 201 * "x"
DEEP = json.loads("[" * 900 + "]" * 900)


def declared(*arguments, **more):
    return read_declarations([{"name": "kick", **more, "arguments": list(arguments)}]).find("kick")


KICK = declared(
    {"name": "player", "type": "int", "help": "player id"},
    {"name": "reason", "default": "no reason given"},
    {"name": "ban", "type": "bool", "default": False},
    {"name": "share", "type": "float", "default": 0.5},
    {"name": "more", "type": "json", "default": None},
    help="throw a player out",
)
SECRET = declared(
    {"name": "level", "type": "int"}, {"name": "password", "secret": True}, {"name": "note", "default": ""}
)


# ---- declarations


def test_what_is_declared_can_be_told_and_read_again():
    (document,) = read_declarations([KICK.document()]).documents()
    assert document == KICK.document() and read_declarations([document]).find("kick") == KICK
    assert KICK.usage() == "kick PLAYER:int [REASON:str] [BAN:bool] [SHARE:float] [MORE:json]"
    assert (KICK.danger, KICK.answer) == ("write", "") and not KICK.arguments[0].secret
    assert SECRET.document()["arguments"][1] == {"name": "password", "type": "str", "secret": True}


def test_the_digest_is_that_of_the_commands_and_of_nothing_else():
    one, same = read_declarations([KICK.document()]), read_declarations([{**KICK.document()}])
    assert one.digest == same.digest != read_declarations([{**KICK.document(), "danger": "red"}]).digest
    assert declaration.NONE_DECLARED.digest == "" != read_declarations([]).digest


def many(count, **more):
    return [{"name": f"a{number}", **more} for number in range(count)]


@pytest.mark.parametrize(
    "raw",
    [
        [],
        many(declaration.MAX_COMMANDS),
        [{"name": "c", "arguments": many(declaration.MAX_ARGUMENTS)}],
        [{"name": "c" * 64, "help": "x" * 200, "answer": "y" * 200}],
        [{"name": "c", "arguments": [{"name": "a", "default": "x" * (declaration.MAX_DEFAULT_CHARS - 2)}]}],
        [{"name": "c", "arguments": [{"name": "a", "type": "int", "default": None}]}],
        [{"name": "c", "arguments": [{"name": "a", "type": "int", "default": 2**63 - 1}]}],
        [{"name": "c", "arguments": [{"name": "a", "type": "int", "default": -(2**63)}]}],
        [{"name": "c", "arguments": [{"name": "help"}]}],
    ],
)
def test_what_is_within_its_limits_is_taken(raw):
    assert len(read_declarations(raw).commands) == len(raw)


def argument(**fields):
    return [{"name": "c", "arguments": [{"name": "a"}, {"name": "b", **fields}]}]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({}, "commands: {} is an object, not a list"),
        (None, "commands: null is null, not a list"),
        (many(201), "commands: 201 are too many, 200 are allowed"),
        (["x"], 'commands[0]: "x" is a string, not an object'),
        ([{}], "commands[0].name: null is not a name"),
        ([{"name": "1a"}], "commands[0].name"),
        ([{"name": "c" * 65}], "commands[0].name"),
        ([{"name": "大"}], "commands[0].name"),
        ([{"name": ["c"]}], "commands[0].name"),
        ([{"name": "help"}], 'commands[0].name: "help" is a word of the agent\'s own'),
        ([{"name": "c"}, {"name": "c"}], 'commands[1].name: "c" is there twice'),
        ([{"name": "c", "hlep": ""}], 'commands[0]: no field "hlep" (did you mean "help"?)'),
        ([{"name": "c", "danger": "blue"}], 'commands[0] (c).danger: "blue" is none of read, write, red'),
        ([{"name": "c", "danger": []}], "commands[0] (c).danger"),
        ([{"name": "c", "help": LONG}], "commands[0] (c).help"),
        ([{"name": "c", "help": "a\nb"}], "commands[0] (c).help"),
        ([{"name": "c", "help": "\x1b[2J"}], "commands[0] (c).help"),
        ([{"name": "c", "help": "\ud800"}], "commands[0] (c).help"),
        ([{"name": "c", "answer": 5}], "commands[0] (c).answer"),
        ([{"name": "c", "arguments": {}}], "commands[0] (c).arguments: not a list of at most 32"),
        ([{"name": "c", "arguments": many(33)}], "commands[0] (c).arguments: not a list of at most 32"),
        (argument(name="a"), "commands[0] (c).arguments: a name is there twice in a, a"),
        (argument(name="-a"), "commands[0] (c).arguments[1].name"),
        (argument(requierd=True), 'commands[0] (c).arguments[1]: no field "requierd"'),
        (argument(type="long"), 'commands[0] (c).arguments[1].type: "long" is none of str, int'),
        (argument(type=[]), "commands[0] (c).arguments[1].type: [] is none of"),
        (argument(type={}), "commands[0] (c).arguments[1].type: {} is none of"),
        (argument(type=None), "commands[0] (c).arguments[1].type: null is none of"),
        (argument(help=LONG), "commands[0] (c).arguments[1].help"),
        (argument(secret=1), "commands[0] (c).arguments[1].secret: 1 is not true or false"),
        (argument(default=5), "commands[0] (c).arguments[1].default: 5 is a number, not a string"),
        (argument(type="int", default=True), "commands[0] (c).arguments[1].default"),
        (argument(type="int", default=2**63), "commands[0] (c).arguments[1].default"),
        (argument(type="int", default=1.0), "commands[0] (c).arguments[1].default"),
        (argument(type="float", default="1"), "commands[0] (c).arguments[1].default"),
        (argument(type="float", default=math.nan), "commands[0] (c).arguments[1].default"),
        (argument(type="float", default=10**400), "commands[0] (c).arguments[1].default"),
        (argument(type="bool", default=0), "commands[0] (c).arguments[1].default"),
        (argument(default="x" * 1000), "commands[0] (c).arguments[1].default: longer than 1000 characters"),
        (argument(type="json", default=DEEP), "commands[0] (c).arguments[1].default: longer than 1000"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_told_with_its_place(raw, told):
    with pytest.raises(ConfigError) as error:
        read_declarations(raw)
    assert told in str(error.value)


def test_every_problem_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        read_declarations([{"name": "1"}, {"name": "c"}, {"name": "d", "danger": 5}])
    assert [line[:11] for line in str(error.value).splitlines()] == ["commands[0]", "commands[2]"]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["name", "kick", "int", "read"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "help", "danger", "arguments", "type", "default", "x"]), inner),
    max_leaves=12,
)  # fmt: skip


@given(junk)
@settings(max_examples=150, deadline=None)
def test_whatever_is_declared_is_taken_or_told_to_be_wrong(raw):
    try:
        found = read_declarations(raw)
    except ConfigError:
        return
    assert read_declarations(found.documents()) == found


def test_a_command_that_is_none_is_told_with_the_nearest_or_with_all():
    commands = read_declarations([{"name": "kick"}, {"name": "broadcast"}])
    for name, hint in (("kcik", 'did you mean "kick"'), ("xyz", "there are: kick, broadcast")):
        with pytest.raises(UsageError, match=f'no GM command "{name}" .{hint}'):
            commands.find(name)
    with pytest.raises(UsageError, match="it has declared none"):
        declaration.NONE_DECLARED.find("kick")


# ---- words -> arguments

WHOLE = {"player": 7, "reason": "no reason given", "ban": False, "share": 0.5, "more": None}


@pytest.mark.parametrize(
    ("words", "given_", "changed"),
    [
        (["7"], {}, {}),
        (["+7"], {}, {}),
        (["-7"], {}, {"player": -7}),
        (["7", "dirty play"], {}, {"reason": "dirty play"}),
        (["7", ""], {}, {"reason": ""}),
        (["--player", "7"], {}, {}),
        (["--player=7"], {}, {}),
        (["--reason", "x", "7"], {}, {"reason": "x"}),
        (["--reason=a=b", "7"], {}, {"reason": "a=b"}),
        (["--reason=", "7"], {}, {"reason": ""}),
        (["--reason", "--ban", "7"], {}, {"reason": "--ban"}),
        (["7", "--ban"], {}, {"ban": True}),
        (["--ban", "7", "x"], {}, {"ban": True, "reason": "x"}),
        (["7", "--no-ban"], {}, {"ban": False}),
        (["7", "--ban=off"], {}, {"ban": False}),
        (["7", "x", "YES"], {}, {"reason": "x", "ban": True}),
        (["7", "x", "no", "1e3"], {}, {"reason": "x", "share": 1000.0}),
        (["7", "--", "--ban"], {}, {"reason": "--ban"}),
        (["7", "--more", '{"a": [1, null]}'], {}, {"more": {"a": [1, None]}}),
        ([], {"player": 7}, {}),
        (["x"], {"player": 7}, {"reason": "x"}),
        ([], {"player": 7, "share": 3, "more": [1]}, {"share": 3.0, "more": [1]}),
        ([str(2**63 - 1)], {}, {"player": 2**63 - 1}),
    ],
)
def test_words_find_their_arguments(words, given_, changed):
    bound = bind(KICK, words, given_)
    assert bound == {**WHOLE, **changed} and list(bound) == list(WHOLE)
    assert all(type(bound[name]) is type(value) for name, value in {**WHOLE, **changed}.items())


@pytest.mark.parametrize(
    ("words", "given_", "told"),
    [
        ([], {}, "player missing"),
        (["x"], {}, 'player: "x" is not a whole number'),
        (["1_0"], {}, "player"),
        (["１"], {}, "player"),
        (["1.0"], {}, "player"),
        ([str(2**63)], {}, "is not a whole number of 64 bits"),
        (["9" * 5000], {}, "player"),
        (["7", "a", "maybe"], {}, 'ban: "maybe" is not true or false'),
        (["7", "a", "no", "nan"], {}, 'share: "nan" is not a number'),
        (["7", "a", "no", "1e999"], {}, "share"),
        (["7", "--more", "{"], {}, "more"),
        (["7", "--more", "NaN"], {}, "more"),
        (["7", "--more", "[" * 5000], {}, "more"),
        (["7", "dirty", "play"], {}, 'ban: "play"'),
        (
            ["7", "a", "no", "1", "null", "x"],
            {},
            'too many words from "x" on (a text with blanks wants quotes)',
        ),
        (["--player"], {}, "--player wants a value"),
        (["--plyaer", "7"], {}, 'no argument "plyaer" (did you mean "player"?)'),
        (["--player", "7", "--player=8"], {}, "player is given twice"),
        (["7", "--ban", "--no-ban"], {}, "ban is given twice"),
        (["7", "--no-reason"], {}, 'no argument "no-reason"'),
        (["--player=7"], {"player": 7}, "player is given twice"),
        ([7], {}, "its words are not all strings"),
        ([None], {}, "its words are not all strings"),
        ([], {"player": "7"}, 'player: "7" is not a whole number of 64 bits'),
        ([], {"player": True}, "player"),
        ([], {"player": DEEP}, "player"),
        ([], {"player": 7, "share": 10**400}, "share"),
        ([], {"player": 7, "share": math.inf}, "share"),
        ([], {"player": 7, "ban": 1}, "ban"),
        ([], {"player": 7, "reason": 1}, "reason: 1 is a number, not a string"),
        ([], {"player": 7, "nothing": 1}, 'no argument "nothing"'),
    ],
)
def test_words_that_do_not_fit_are_told_with_the_usage(words, given_, told):
    with pytest.raises(UsageError) as error:
        bind(KICK, words, given_)
    assert told in str(error.value) and str(error.value).startswith("kick: ")
    assert str(error.value).endswith(f"usage: {KICK.usage()}")


@pytest.mark.parametrize(
    ("words", "given_"),
    [
        (["1", "hunter2", "", "hunter2"], {}),
        (["hunter2", "1"], {}),
        (["1", "--hunter2"], {}),
        (["1", "--password", "hunter2", "--password", "hunter2"], {}),
        (["--level=1", "--level", "hunter2", "hunter2"], {}),
        ([], {"level": 1, "password": ["hunter2"]}),
    ],
)
def test_a_secret_is_in_no_error_text_wherever_it_was_typed(words, given_):
    with pytest.raises(UsageError) as error:
        bind(SECRET, words, given_)
    assert "hunter2" not in str(error.value)


def test_the_audit_has_every_argument_by_its_name_and_no_secret():
    arguments = bind(SECRET, ["5", "hunter2", "a b"], {})
    assert spoken(SECRET, arguments) == 'kick --level 5 --password *** --note "a b"'
    assert (
        spoken(KICK, WHOLE)
        == 'kick --player 7 --reason "no reason given" --ban false --share 0.5 --more null'
    )


def test_what_no_declaration_tells_may_all_be_secret():
    assert unspoken("kick", ["hunter2"], {}) == unspoken("kick", [], {"a": "hunter2"}) == "kick ***"
    assert unspoken("kick", [], {}) == "kick"


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([], ""),
        (["", ""], ""),
        (["", "kick --a 1"], "kick --a 1"),
        (["kick --a 1", "kick --a 1"], "kick --a 1"),
        (["kick --a 1", 'kick --a "1"'], "kick --a 1"),
        (["kick --a ***"] * 2, "kick --a ***"),
        (["kick --a 1 --b ***", "kick --b *** --a 1"], "kick ***"),
        (["kick --a hunter2", "kick --password ***"], "kick ***"),
    ],
)
def test_what_is_a_secret_to_one_of_several_is_told_by_none(told, kept):
    assert gm.agreed(told, "kick") == kept


# ---- verdicts


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        (["answered", "answered"], 0),
        (["refused", "answered"], 1),
        (["absent", "timed_out", "forbidden"], 1),
        (["unreachable"], 1),
        (["invalid"], 2),
        (["invalid", "answered"], 1),
        (["invalid", "forbidden"], 1),
        (["timed_out", "answered", "forbidden"], 5),
        (["unknown"], 5),
        (["forbidden", "answered"], 4),
        (["forbidden"], 4),
        (["a newer one", "answered"], 5),
        (["a newer one", "refused"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_verdict(verdicts, code):
    assert exit_code(Answer(f"t{number}", verdict) for number, verdict in enumerate(verdicts)) == code


def test_only_an_answer_is_good():
    assert [verdict for verdict in gm.VERDICTS if Answer("t", verdict).good] == ["answered"]
