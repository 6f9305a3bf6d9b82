import json
import os
from contextlib import closing

import pytest

from agent.errors import AgentError, ConfigError
from agent.globaldb import GlobalDb
from agent.grant import VERBS
from agent.store import Store
from agent.world import World
from roles.admin import grammar
from roles.user.main import __doc__ as HELP
from roles.user.main import main


@pytest.fixture(autouse=True)
def agent(globaldb_url, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGENT_GLOBALDB", globaldb_url)
    monkeypatch.setenv("AGENT_PASSWORD", "correct horse")


@pytest.fixture
def db(globaldb_url):
    with closing(Store(globaldb_url)) as store:
        yield GlobalDb(store)


def test_a_users_life(db, capsys):
    assert main(["add", "li.wei", "--grant", "start,stop on 大区1:*", "--grant", "list on *"]) == 0
    first = db.read_user("li.wei")
    assert [str(grant) for grant in first.grants] == ["start,stop on 大区1:*", "list on *"]
    assert main(["passwd", "li.wei"]) == 0
    assert db.read_user("li.wei").verifier != first.verifier and db.read_user("li.wei").grants == first.grants
    assert main(["grant", "li.wei", "kill on *", "list on *"]) == 0
    assert main(["revoke", "li.wei", "stop,start on 大区1:*"]) == 0
    assert [str(grant) for grant in db.read_user("li.wei").grants] == ["list on *", "kill on *"]
    assert main(["grant", "li.wei", "kill on *"]) == 0
    assert "had that already" in capsys.readouterr().out
    assert main(["remove", "li.wei"]) == 0
    assert db.read_user("li.wei") is None
    assert [line["what"] for line in db.read_audit(10)] == [
        "user add li.wei", "user passwd li.wei", "user grant li.wei", "user revoke li.wei", "user remove li.wei",
    ]  # fmt: skip


def test_without_a_grant_it_is_said_that_nothing_is_allowed(capsys):
    main(["add", "guest"])
    assert "has no grants and can only log in" in capsys.readouterr().out


def test_an_existing_name_is_not_taken_over(db):
    main(["add", "li"])
    before = db.read_user("li")
    with pytest.raises(AgentError, match="exists already"):
        main(["add", "li", "--grant", "* on *"])
    assert db.read_user("li") == before


@pytest.mark.parametrize(
    "words", [["passwd", "nobody"], ["grant", "nobody", "list on *"], ["revoke", "nobody", "list on *"]]
)
def test_a_user_who_is_not_there(words):
    with pytest.raises(AgentError, match='no user "nobody"'):
        main(words)


def test_removing_nobody_is_an_error():
    with pytest.raises(AgentError, match='no user "nobody"'):
        main(["remove", "nobody"])


def test_the_list_shows_grants_and_never_a_verifier(db, capsys):
    main(["list"])
    assert "no users" in capsys.readouterr().out
    main(["add", "li", "--grant", "list on *"])
    main(["add", "guest"])
    capsys.readouterr()
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "list on *" in out and "can log in only" in out
    stored = json.loads(db.store.hget("user", "li"))
    assert not any(stored[part] in out for part in ("salt", "stored_key", "server_key"))


def test_a_damaged_entry_is_named_can_be_removed_and_made_again(db, capsys):
    db.store.hset("user", "li", "{\x1b")
    assert main(["list"]) == 1
    assert 'user "li": its entry in globaldb is damaged' in capsys.readouterr().err
    with pytest.raises(AgentError, match="exists already"):
        main(["add", "li"])
    assert main(["remove", "li"]) == 0 and main(["add", "li"]) == 0


def test_every_wrong_grant_is_told_and_nobody_is_made(db):
    with pytest.raises(ConfigError) as caught:
        main(["add", "li", "--grant", "strat on *", "--grant", "list on nowhere"])
    assert '"start"' in str(caught.value) and "nowhere" in str(caught.value) and db.read_user("li") is None


def test_grants_are_looked_at_before_anybody_types_a_password(monkeypatch):
    monkeypatch.delenv("AGENT_PASSWORD")
    with pytest.raises(ConfigError, match='grant "x"'):
        main(["add", "li", "--grant", "x"])


def test_revoking_what_was_never_granted_changes_nothing(db):
    main(["add", "li", "--grant", "start,stop on *"])
    with pytest.raises(
        AgentError, match='no grant "stop on \\*" as such, nothing was changed; may: start,stop on \\*'
    ):
        main(["revoke", "li", "stop on *"])
    assert [str(grant) for grant in db.read_user("li").grants] == ["start,stop on *"]


def test_the_password_comes_from_a_private_file(db, tmp_path, monkeypatch):
    monkeypatch.delenv("AGENT_PASSWORD")
    path = tmp_path / "pw"
    path.write_text("from a file\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        main(["add", "li", "--password-file", str(path)])
    path.chmod(0o600)
    assert main(["add", "li", "--password-file", str(path)]) == 0


def test_a_short_password_makes_nobody(db, monkeypatch):
    monkeypatch.setenv("AGENT_PASSWORD", "short")
    with pytest.raises(ConfigError, match="8 are the least"):
        main(["add", "li"])
    assert db.read_user("li") is None


def test_a_password_is_no_argument(db):
    """docopt takes it for a shortened --password-file."""
    with pytest.raises(ConfigError, match="No such file"):
        main(["add", "li", "--password", "correct horse"])
    assert db.read_user("li") is None


@pytest.mark.parametrize(
    ("selection", "warned"),
    [
        ("*", ""),
        ("大区1:*", ""),
        ("空区:*", ""),
        ("*:192.168.1.10", ""),
        ("大区1:192.168.1.10.game*", ""),
        ("大区9:*", 'nothing in the world is "大区9:*" (did you mean "大区1"?)'),
        ("大区1:192.168.1.99", 'nothing in the world is "大区1:192.168.1.99"'),
        ("大区1:*,*:192.168.1.10.gmae*", 'nothing in the world is "*:192.168.1.10.gmae*"'),
    ],
)
@pytest.mark.parametrize("verb", ["add", "grant"])
def test_a_grant_on_what_the_world_does_not_have_is_given_with_a_warning(db, capsys, verb, selection, warned):
    programs = {"gameserver": {"command": ["/bin/true"]}}
    machines = {"大区1": {"192.168.1.10": [{"type": "gameserver", "name": "game1"}]}, "空区": {}}
    db.write_world(World.from_document({"programs": programs, "world": machines}), World())
    if verb == "add":
        assert main(["add", "li", "--grant", f"list on {selection}"]) == 0
    else:
        assert main(["add", "li"]) == 0 and main(["grant", "li", f"list on {selection}"]) == 0
    assert len(db.read_user("li").grants) == 1
    said = capsys.readouterr().err
    assert warned in said and bool(warned) == bool(said)


def test_help_names_the_verbs_that_a_command_asks_for_and_says_which_are_reserved():
    verbs, reserved = (
        " ".join(HELP.split()).split("Verbs: ")[1].split(". Reserved for commands to come, ")[:2]
    )
    asked = set(VERBS) & set(grammar.VERBS)
    assert set(verbs.split()) == asked
    assert set(reserved.split(": ")[1].split(". ")[0].split()) == set(VERBS) - asked
