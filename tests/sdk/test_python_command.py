"""Python: commands from functions, and what is wrong with those that break the rules."""

from typing import Any, Optional

import pytest

from sdk.python import agentsdk
from sdk.python.agentsdk.command import Command, from_function


@pytest.fixture
def app() -> agentsdk.Application:
    return agentsdk.Application(None)


def test_a_function_becomes_a_row(app: agentsdk.Application) -> None:
    @app.command(danger="red", answer="{kicked}", secrets=("pin",), arguments={"player": "player id"})
    def kick(player: int, pin: str, rate: float = 2, all: bool = False, more: dict | None = None) -> dict:
        """throw a player out

        This is for programmers.
        """
        return {}

    assert kick(1, "x") == {}
    assert app._engine.desk.commands["kick"].row() == {
        "name": "kick",
        "help": "throw a player out",
        "danger": "red",
        "answer": "{kicked}",
        "arguments": [
            {"name": "player", "type": "int", "help": "player id"},
            {"name": "pin", "type": "str", "secret": True},
            {"name": "rate", "type": "float", "default": 2},
            {"name": "all", "type": "bool", "default": False},
            {"name": "more", "type": "json", "default": None},
        ],
    }


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (str, "str"),
        (dict[str, int], "json"),
        (list, "json"),
        (Any, "json"),
        (int | None, "int"),
        (Optional[float], "float"),  # noqa: UP045
        (int | str, "json"),
        (object, "json"),
    ],
)
def test_hints_are_types(hint: Any, kind: str) -> None:
    assert hinted(hint).arguments["a"].kind == kind


def hinted(hint: Any) -> Command:
    def f(a): ...

    f.__annotations__["a"] = hint
    return from_function(f)


def test_an_argument_without_a_hint_is_text() -> None:
    def f(a, b=""): ...

    assert [argument.kind for argument in from_function(f).arguments.values()] == ["str", "str"]


def wrong_default(a: int = "1"): ...  # type: ignore[assignment]
def long_default(a: str = "x" * 1000): ...
def no_json(a: dict = {1: {2}}): ...  # noqa: B006
def true_for_int(a: int = True): ...
def too_big(a: int = 2**63): ...
def not_a_number(a: float = float("nan")): ...
def many(*all: str): ...
def any_name(**all: str): ...
def by_place(a: str, /): ...
def _hidden(a: str): ...
def strange(a: set): ...
def bad_argument(_a: str): ...
def help(): ...
def 踢(): ...


def long_help():
    """{}"""


long_help.__doc__ = "x" * 201
THIRTY_THREE = {}
exec(f"def crowded({', '.join(f'a{n}: str' for n in range(33))}): ...", THIRTY_THREE)


@pytest.mark.parametrize(
    "function",
    [
        wrong_default,
        long_default,
        no_json,
        true_for_int,
        too_big,
        not_a_number,
        many,
        any_name,
        by_place,
        _hidden,
        strange,
        bad_argument,
        help,
        踢,
        long_help,
        THIRTY_THREE["crowded"],
    ],
    ids=lambda f: f.__name__,
)
def test_what_breaks_the_rules_is_an_error_where_it_stands(app: agentsdk.Application, function: Any) -> None:
    with pytest.raises(ValueError):
        app.command(function)
    assert not app._engine.desk.commands


@pytest.mark.parametrize(
    "words",
    [
        {"danger": "deadly"},
        {"name": "give item"},
        {"name": "x" * 65},
        {"name": "a\n"},
        {"answer": "two\nlines"},
        {"secrets": ("password",)},
        {"arguments": {"b": "?"}},
        {"arguments": {"a": "x" * 201}},
    ],
    ids=str,
)
def test_so_are_wrong_words_of_the_decorator(app: agentsdk.Application, words: dict[str, Any]) -> None:
    with pytest.raises(ValueError):

        @app.command(**words)
        def fine(a: str): ...


def test_a_name_is_taken_once(app: agentsdk.Application) -> None:
    app.command(lambda: None, name="a")
    with pytest.raises(ValueError, match="twice"):
        app.command(lambda: None, name="a")


def test_there_are_at_most_200_commands(app: agentsdk.Application) -> None:
    for n in range(200):
        app.command(lambda: None, name=f"a{n}")
    with pytest.raises(ValueError, match="200"):
        app.command(lambda: None, name="b")


def test_a_declaration_must_fit_into_a_frame(app: agentsdk.Application) -> None:
    crowded: dict[str, Any] = {}
    exec(f"def f({', '.join(f'a{n}: str = long' for n in range(32))}): ...", {"long": "x" * 900}, crowded)
    with pytest.raises(ValueError, match="all commands"):
        for n in range(40):
            app.command(crowded["f"], name=f"a{n}")
    assert len(app._engine.desk.commands) > 30


def test_a_coroutine_needs_asyncio(app: agentsdk.Application) -> None:
    async def later(): ...

    for declare in (app.command, app.on_save, app.on_entry):
        with pytest.raises(ValueError, match="asyncio"):
            declare(later)


def test_words_are_what_was_declared() -> None:
    def f(a: int, b: float = 1.0, c: Any = None): ...

    command = from_function(f)
    words = command.words({"a": 1, "b": 2, "c": [None]})
    assert words == {"a": 1, "b": 2.0, "c": [None]} and isinstance(words["b"], float)
    for given in ({}, {"a": "1"}, {"a": True}, {"a": 1.5}, {"a": 1, "b": None}, {"a": 1, "d": 1}):
        with pytest.raises(ValueError):
            command.words(given)


def test_what_is_none_by_default_may_be_none() -> None:
    def f(a: Optional[int] = None): ...  # noqa: UP045

    command = from_function(f)
    assert command.row()["arguments"] == [{"name": "a", "type": "int", "default": None}]
    assert command.words({"a": None}) == {"a": None}
    with pytest.raises(ValueError):
        command.words({"a": "1"})


def test_an_unknown_host_is_an_error_and_so_is_the_wrong_one(app: agentsdk.Application) -> None:
    with pytest.raises(ValueError, match="host"):
        agentsdk.join(host="twisted")
    with pytest.raises(ValueError, match="poll"):
        app.poll()
    with pytest.raises(ValueError, match="asyncio"):
        app.attach()


def test_outside_of_an_agent_everything_may_be_called_and_does_nothing() -> None:
    for host in ("thread", "poll", "asyncio"):
        app = agentsdk.Application(None, host=host)
        assert not app.joined and not app.event("a") and not app.progress(1, 2)
        app.beat()
        app.on_save(lambda: None)
        app.close()
    agentsdk.Application(None, host="poll").poll()
