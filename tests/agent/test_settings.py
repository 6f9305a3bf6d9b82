import pytest

from agent import settings
from agent.errors import ConfigError, UsageError

USAGE = """Router: one per group.

Usage:
  agent router [options] [--grant GRANT]...

Options:
  --listen ADDR   Where daemons reach it. [default: 0.0.0.0:8888]
  --key FILE      The group's key,
                  made by agent key group. [default: /etc/agent/group.key]
  --grant GRANT   May be repeated.
  --any-address   A switch.
  --timeout S     A number. [default: 120]
  --config FILE   TOML file.
  -h --help       This text.
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """`load(argv, environ, toml)`"""

    def run(argv=(), environ=(), toml=None):
        path = tmp_path / "agent.toml"
        if toml is not None:
            path.write_text(toml)
        monkeypatch.setattr(settings, "DEFAULT_FILE", path)
        return settings.load(USAGE, list(argv), "router", dict(environ))

    return run


def test_flags_win_over_the_environment_over_the_file_over_the_default(load):
    toml = 'listen = "top"\n[router]\nlisten = "table"\n'
    environ = {"AGENT_LISTEN": "environment"}
    for argv, env, file, expected in (
        (["--listen", "flag"], environ, toml, ("flag", "--listen")),
        ([], environ, toml, ("environment", "AGENT_LISTEN")),
        ([], {}, toml, ("table", "listen")),
        ([], {}, 'listen = "top"', ("top", "listen")),
        ([], {}, "", ("0.0.0.0:8888", "--listen")),
    ):
        found = load(argv, env, file)
        assert found["--listen"] == expected[0]
        assert found.source("--listen").endswith(expected[1])


def test_a_default_below_the_first_line_of_its_text_is_found(load):
    assert load()["--key"] == "/etc/agent/group.key"


def test_an_option_without_a_value_anywhere_is_none_and_a_switch_is_false(load):
    found = load()
    assert (found["--grant"], found["--any-address"]) == ([], False)


@pytest.mark.parametrize(("word", "value"), [("1", True), ("yes", True), ("off", False), ("FALSE", False)])
def test_a_switch_is_a_word_in_the_environment(load, word, value):
    assert load(environ={"AGENT_ANY_ADDRESS": word})["--any-address"] is value


def test_a_switch_that_is_neither_yes_nor_no_is_wrong_usage(load):
    with pytest.raises(UsageError, match="AGENT_ANY_ADDRESS: 'maybe' is neither yes nor no"):
        load(environ={"AGENT_ANY_ADDRESS": "maybe"})


def test_a_list_in_the_file_is_a_repeated_option_and_one_text_is_one(load):
    assert load(toml='[router]\ngrant = ["a", "b"]')["--grant"] == ["a", "b"]
    assert load(environ={"AGENT_GRANT": "a"})["--grant"] == ["a"]


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("[router]\nlisen = 'x'", r"\[router\] has no option lisen; did you mean listen\?"),
        ("[rooter]\nlisten = 'x'", r"there is no role \[rooter\]; roles are router"),
        ("listen = [1, 2]", r"listen: \[1, 2\] is neither text nor a number"),
        ("listen = ", "agent.toml: Invalid value"),
        ("[router]\nlisten = {a = 1}", "neither text nor a number"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_file_and_key(load, toml, complaint):
    with pytest.raises(ConfigError, match=complaint) as error:
        load(toml=toml)
    assert "agent.toml" in str(error.value)


def test_a_file_that_was_asked_for_must_be_there(load, tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        load(["--config", str(tmp_path / "none.toml")])
    with pytest.raises(ConfigError, match="Is a directory"):
        load(["--config", str(tmp_path)])


@pytest.mark.parametrize("text", ["x", "", "0", "1e9", "nan", "inf"])
def test_a_number_out_of_range_names_where_it_came_from(load, text):
    found = load(environ={"AGENT_TIMEOUT": text} if text else {}, argv=() if text else ["--timeout", ""])
    with pytest.raises(UsageError, match=r"AGENT_TIMEOUT|--timeout"):
        found.number("--timeout", 0.1, 1000)


def test_the_help_shows_every_default(load, capsys):
    with pytest.raises(SystemExit):
        load(["--help"])
    shown = capsys.readouterr().out
    assert (
        "reach it. (default: 0.0.0.0:8888)" in shown and "key group. (default: /etc/agent/group.key)" in shown
    )


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["word"], "no place for the word word\nUsage:"),
        (["--lissten", "x"], r'no place for the option --lissten \(did you mean "--listen"\?\)'),
        (["--listen"], "--listen requires argument"),
        (["--any-address", "--any-address"], "something is missing, too much, or given twice"),
    ],
)
def test_a_wrong_command_line_is_explained_without_the_parsers_own_words(load, argv, complaint):
    with pytest.raises(UsageError, match=complaint) as error:
        load(argv)
    assert "agent router --help" in str(error.value)
    assert not any(word in str(error.value) for word in ("Warning", "Argument(", "Option(", "None"))
