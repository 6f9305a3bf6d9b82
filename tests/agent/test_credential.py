import io
import os
import sys

import pytest

from agent.credential import password_problem, read_password
from agent.errors import ConfigError


def test_the_file_comes_before_the_environment_and_loses_its_newline(tmp_path):
    path = tmp_path / "pw"
    path.write_bytes(b"from the file\r\n")
    path.chmod(0o600)
    assert read_password(str(path), {"AGENT_PASSWORD": "x"}) == "from the file"
    assert read_password(None, {"AGENT_PASSWORD": "from outside"}) == "from outside"


def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "pw"
    path.write_text("secret word")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"others can read it .mode 0644.; type: chmod 600"):
        read_password(str(path), {})


def test_a_pipe_and_stdin_are_read_whatever_their_mode(monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe\n")
    os.close(writer)
    os.fchmod(reader, 0o644)
    assert read_password(f"/dev/fd/{reader}", {}) == "through a pipe"
    os.close(reader)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"by stdin\n")))
    assert read_password("-", {}) == "by stdin"


def test_nothing_given_and_nobody_to_ask(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="--password-file FILE"):
        read_password(None, {})
    with pytest.raises(ConfigError, match="AGENT_PASSWORD is empty"):
        read_password(None, {"AGENT_PASSWORD": ""})


def test_typed_twice_and_differently(monkeypatch):
    answers = iter(["one password", "another one"])
    monkeypatch.setattr(sys, "stdin", _Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    with pytest.raises(ConfigError, match="differ"):
        read_password(None, {}, twice=True)


def test_short_passwords_are_a_problem():
    assert "8 are the least" in password_problem("1234567") and password_problem("12345678") == ""


class _Terminal(io.StringIO):
    def isatty(self):
        return True
