import pytest

from agent import messages
from agent.dispatch import SHARED, Table
from agent.errors import Refused


def answer(state, peer, message):
    """The answer to everything."""
    return messages.Presence({})


def test_who_may_not_ask_is_refused_before_the_handler():
    table = Table(SHARED)
    table.on(messages.ReadPresence, ask=("daemon",))(answer)
    assert table.find(messages.ReadPresence(), "daemon") is answer
    with pytest.raises(Refused, match="not for a peer of role admin") as refused:
        table.find(messages.ReadPresence(), "admin")
    assert refused.value.code == "forbidden"


def test_a_message_without_a_row_is_refused():
    with pytest.raises(Refused, match="not for this role"):
        Table().find(messages.ReadPresence(), "daemon")


def test_a_second_row_for_a_message_fails():
    table = Table(SHARED)
    with pytest.raises(ValueError, match=r"link.ping has two handlers"):
        table.on(messages.Ping, ask=("admin",))(answer)


def test_the_table_prints_name_askers_and_purpose():
    table = Table()
    table.on(messages.ReadPresence, ask=("daemon", "admin"))(answer)
    assert str(table).split() == ["presence.read", "admin,daemon", "The", "answer", "to", "everything."]


def test_seeding_copies_and_never_writes_back():
    table = Table(SHARED)
    table.on(messages.ReadPresence, ask=("daemon",))(answer)
    assert messages.ReadPresence not in SHARED.rows
