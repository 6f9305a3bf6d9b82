import os
import subprocess
import sys

import pytest

from agent import key
from agent.errors import ConfigError
from roles.key.main import main


def run(*words, stdout):
    subprocess.run([sys.executable, "-m", "agent", "key", *words], stdout=stdout, check=True, timeout=30)


def test_both_keys_through_the_shell(tmp_path):
    """As the usage text says it, with the shell's usual umask."""
    before = os.umask(0o022)
    try:
        for name, words in (
            ("group", ["group"]),
            ("machine", ["machine", "10.0.0.1", "--key", str(tmp_path / "group")]),
        ):
            with open(tmp_path / name, "wb") as file:
                run(*words, stdout=file)
    finally:
        os.umask(before)
    secret = key.read_group_key(tmp_path / "group")
    assert key.read_machine_key(tmp_path / "machine", "10.0.0.1") == (
        "10.0.0.1",
        key.machine_key(secret, "10.0.0.1"),
    )


def test_the_group_key_must_be_one(tmp_path, monkeypatch):
    monkeypatch.delenv("AGENT_KEY", raising=False)
    with pytest.raises(ConfigError, match="No such file"):
        main(["machine", "10.0.0.1", "--key", str(tmp_path / "none")])


def test_an_ip_that_is_none(tmp_path, capsys):
    path = tmp_path / "group"
    path.write_text(key.new_group_key())
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r'"10.0.0.256" is not an IPv4 address'):
        main(["machine", "10.0.0.256", "--key", str(path)])
    assert capsys.readouterr().out == ""
