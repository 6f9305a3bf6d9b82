"""What the shell keeps of what was typed: no secret of a GM command ever reaches the file."""

import pytest
from prompt_toolkit.history import FileHistory

from roles.admin import grammar
from roles.admin.repl import LateHistory

MASKED = {"gm": "login", "spoken": 'login --user "ada" --password ***'}


@pytest.fixture
def history(tmp_path):
    return LateHistory(FileHistory(str(tmp_path / "history")))


def ran(history, text, document):
    history.ran(text, grammar.parse(text), document)


def kept(history):
    return list(history._kept.load_history_strings())


@pytest.mark.parametrize("text", ["list world", "stop 10.0.0.1 game1", "gmail", "help gm", "plan stop x"])
def test_other_commands_are_kept_as_they_are_typed(history, text):
    history.append_string(text)
    assert kept(history) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "gm game1 login ada hunter2",
        "  gm game1 login ada hunter2",
        "gm\tgame1 login ada hunter2",
        "'gm' game1 login ada hunter2",
        'g"m" game1 login ada hunter2',
        "\\gm game1 login ada hunter2",
        'gm game1 login ada "hunter2',
    ],
)
def test_a_gm_command_is_not_kept_before_it_ran_however_it_is_typed(history, text):
    history.append_string(text)
    assert kept(history) == [] and history.get_strings() == [text], "the arrow keys find it all the same"


def test_one_with_a_secret_is_kept_as_the_audit_has_it(history):
    ran(history, "gm --any 大区1:game1 login ada hunter2", MASKED)
    assert kept(history) == ['gm --any 大区1:game1 login --user "ada" --password ***']


def test_one_without_a_secret_is_kept_as_it_was_typed(history):
    ran(
        history,
        "gm game1 kick 7 'dirty play'",
        {"gm": "kick", "spoken": 'kick --player 7 --reason "dirty play"'},
    )
    ran(history, "gm help game1", {"groups": []})
    assert sorted(kept(history)) == ["gm game1 kick 7 'dirty play'", "gm help game1"]


@pytest.mark.parametrize(
    "document", [{"gm": "login", "spoken": "login ***"}, {"gm": "login", "spoken": ""}, {"gm": "login"}]
)
def test_one_whose_declaration_nobody_knows_is_kept_without_its_words(history, document):
    ran(history, "gm game1 login ada hunter2", document)
    assert "hunter2" not in str(kept(history))


@pytest.mark.parametrize(
    "text",
    ['gm game1 "login" ada hunter2', "gm game1\tlogin ada hunter2", "gm  game1  l\\ogin ada hunter2"],
)
def test_however_the_command_is_typed_its_secrets_are_not_kept(history, text):
    ran(history, text, MASKED)
    assert kept(history) == ['gm game1 login --user "ada" --password ***']


def test_a_target_that_is_called_like_the_command_hides_nothing(history):
    ran(history, "gm login login ada hunter2", MASKED)
    assert "hunter2" not in str(kept(history)) and "***" in str(kept(history))
