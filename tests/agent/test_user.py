import json

import pytest
import scramp

from agent.errors import ConfigError
from agent.user import User, make_verifier, new_user


def login(user, password):
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    verifier = user.verifier
    client = scramp.ScramClient(["SCRAM-SHA-256"], user.name, password)
    server = mechanism.make_server(
        lambda name: (verifier.salt, verifier.stored_key, verifier.server_key, verifier.iterations)
    )
    server.set_client_first(client.get_client_first())
    client.set_server_first(server.get_server_first())
    server.set_client_final(client.get_client_final())
    client.set_server_final(server.get_server_final())


def test_the_password_logs_in_after_a_round_trip_through_json():
    user = new_user("li.wei", "correct horse", ["start,stop on 大区1:*", "list on *"])
    again = User.from_json("li.wei", user.json())
    assert again == user
    login(again, "correct horse")
    with pytest.raises(scramp.ScramException):
        login(again, "correct horsf")


def test_the_password_is_nowhere_and_the_salt_is_new_each_time():
    assert "correct horse" not in new_user("a", "correct horse").json()
    assert make_verifier("correct horse").salt != make_verifier("correct horse").salt


@pytest.mark.parametrize("password", ["", "1234567", "12345678\n", "1234\x005678", " 12345678", "12345678 "])
def test_passwords_that_are_none(password):
    with pytest.raises(ConfigError, match="the password"):
        make_verifier(password)


def test_a_password_in_chinese():
    login(new_user("a", "密码密码密码密码"), "密码密码密码密码")


def test_a_wrong_name_or_grant_is_said():
    with pytest.raises(ConfigError, match='user name "a b" has a space'):
        new_user("a b", "12345678")
    with pytest.raises(ConfigError, match='did you mean "start"'):
        new_user("a", "12345678", ["strat on *"])


def damaged():
    good = json.loads(new_user("a", "12345678").json())
    yield "", "{", "[]", "{}", "null", "[" * 100_000
    for field, value in (
        ("salt", "!"),
        ("salt", ""),
        ("stored_key", "AAAA"),
        ("iterations", "4096"),
        ("iterations", 1),
        ("iterations", 10**9),
        ("iterations", True),
        ("grants", "list on *"),
        ("grants", [1]),
    ):
        yield (json.dumps({**good, field: value}),)


@pytest.mark.parametrize("text", [text for texts in damaged() for text in texts])
def test_a_damaged_entry_is_refused_and_not_shown(text):
    with pytest.raises(ConfigError, match="damaged") as caught:
        User.from_json("a", text)
    assert text[:20] not in str(caught.value) or not text
