import pytest

from agent.errors import ConfigError, UsageError
from roles.admin import login


def test_options_go_before_the_environment(tmp_path):
    file = tmp_path / "password"
    file.write_text("from the file\n")
    file.chmod(0o600)
    found = login.find("ada", str(file), {"USER": "root", "AGENT_PASSWORD": "from the environment"})
    assert found == ("ada", "from the file", False)


def test_the_environment_goes_before_asking():
    assert login.find(None, None, {"USER": "root", "AGENT_PASSWORD": "x y"}) == ("root", "x y", False)


def test_a_person_may_give_another_name_than_his_own():
    asked = []
    found = login.find(
        None, None, {"USER": "root", "AGENT_PASSWORD": "x"}, ask=lambda text: asked.append(text) or " ada "
    )
    assert found.user == "ada" and asked == ["user [root]: "]


def test_a_script_without_a_password_is_told_how_to_give_one(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match="--password-file FILE, or set AGENT_PASSWORD"):
        login.find("ada", None, {})


def test_a_script_without_a_name_is_told_how_to_give_one():
    with pytest.raises(UsageError, match="--user NAME"):
        login.find(None, None, {"AGENT_PASSWORD": "x"})


def test_a_file_that_others_can_read_is_refused_with_the_cure(tmp_path):
    file = tmp_path / "password"
    file.write_text("x\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"chmod 600 {file}"):
        login.find("ada", str(file), {})


def test_a_name_that_cannot_be_one_is_refused_before_it_is_sent():
    with pytest.raises(UsageError, match="user name"):
        login.find("a b", None, {"AGENT_PASSWORD": "x"})
