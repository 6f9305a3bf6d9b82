"""The way from the command line to a role, and what every kind of end looks like to the caller."""

import pytest

from agent import __main__ as program
from agent.errors import AgentError, ConfigError


@pytest.fixture
def role(monkeypatch):
    """role(body) makes `globaldb` a role that does `body`."""

    def replace(body):
        monkeypatch.setitem(program.ROLES, "globaldb", (lambda: body, "…"))

    return replace


def ending(error: BaseException):
    def body(argv: list[str]) -> int:
        raise error

    return body


def test_a_role_gets_the_words_after_its_name_and_gives_the_exit_code(role):
    role(lambda argv: len(argv))
    assert program.main(["globaldb", "a", "b", "c"]) == 3


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (AgentError("no such thing"), 1, "agent: no such thing\n"),
        (ConfigError("world.json: odd"), 2, "agent: world.json: odd\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit("Usage: …"), 2, "Usage: …\n"),
        (SystemExit(None), 0, ""),
        (SystemExit(4), 4, ""),
    ],
)
def test_how_a_role_may_end(role, capsys, error, code, text):
    role(ending(error))
    assert program.main(["globaldb"]) == code
    assert capsys.readouterr().err == text


def test_a_bug_is_one_line_and_with_agent_debug_its_traceback(role, capsys, monkeypatch):
    role(ending(ValueError("odd")))
    monkeypatch.delenv("AGENT_DEBUG", raising=False)
    assert program.main(["globaldb"]) == 1
    said = capsys.readouterr().err
    assert said == "agent globaldb: internal error: ValueError: odd; set AGENT_DEBUG=1 for the traceback\n"
    monkeypatch.setenv("AGENT_DEBUG", "1")
    program.main(["globaldb"])
    assert "Traceback" in capsys.readouterr().err


def test_an_unknown_role_is_answered_with_the_list(capsys):
    assert program.main(["glob"]) == 2
    said = capsys.readouterr().err
    assert "unknown role 'glob'" in said
    assert all(name in said for name in program.ROLES)


def test_version_and_licences_from_source(capsys):
    assert program.main(["--version"]) == 0
    assert "runs from source" in capsys.readouterr().out
    assert program.main(["licenses"]) == 0
    assert "gevent" in capsys.readouterr().out
