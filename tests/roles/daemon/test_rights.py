import pytest

from agent.errors import Refused
from agent.globaldb import GlobalDb
from agent.grant import parse_grants
from agent.handshake import Identity
from agent.messages import Hello
from agent.process import Process
from agent.store import Store
from roles.daemon import rights as rights_module
from roles.daemon.rights import Rights, may

HOME, ELSEWHERE = "127.0.0.5:40000", "127.0.0.6:40000"


def hello(name="ada", role="admin"):
    return Hello(1, role, name, "")


def fail(rights, times, name="ada", address=HOME):
    for _ in range(times):
        rights.failed("admin", name, address)


def welcome(rights, name="ada", address=HOME):
    rights.greet(hello(name), address)
    rights.admit(Identity("admin", name, "", 0), address)


def locked_out(rights, name="ada", address=HOME):
    try:
        rights.greet(hello(name), address)
    except Refused as refused:
        return refused.code == "too_many"
    return False


# ---- what may be done


def test_a_right_taken_away_is_gone_at_once_and_so_is_a_removed_user(standing):
    standing.user("ada", "stop on *")
    rights = standing.state.rights
    assert [str(grant) for grant in rights.grants("ada")] == ["stop on *"]
    standing.user("ada", "list on *")
    assert [str(grant) for grant in rights.grants("ada")] == ["list on *"]
    standing.globaldb.remove_user("ada")
    with pytest.raises(Refused, match="user ada has been removed") as refused:
        rights.grants("ada")
    assert refused.value.code == "forbidden"


def test_while_globaldb_is_away_the_rights_last_read_hold_and_nobody_else_has_any(frail):
    frail.user("ada", "stop on *")
    frail.user("eve", "* on *")
    rights = frail.state.rights
    rights.grants("ada")
    frail.server.stop()
    assert [str(grant) for grant in rights.grants("ada")] == ["stop on *"]
    with pytest.raises(Refused) as refused:
        rights.grants("eve")
    assert refused.value.code == "unavailable"
    frail.server.start()
    frail.globaldb.remove_user("ada")
    with pytest.raises(Refused, match="removed"):
        rights.grants("ada")
    frail.server.stop()
    with pytest.raises(Refused):
        rights.grants("ada")


@pytest.mark.parametrize("text", ["", "{}", "null", '{"grants": ["* on *"]}', "\x00", "[" * 5000])
def test_a_damaged_user_has_no_rights_and_is_told_apart_from_a_removed_one(standing, text):
    standing.globaldb.store.hset("user", "ada", text)
    with pytest.raises(Refused, match="is damaged") as refused:
        standing.state.rights.grants("ada")
    assert refused.value.code == "unavailable"


def test_what_concerns_no_machine_needs_a_grant_over_everything(standing):
    standing.user("ada", "audit on *")
    standing.user("bob", "audit on 大区1:*", "who on *")
    standing.state.rights.demand("ada", "audit")
    with pytest.raises(Refused, match="needs the grant `audit on \\*`"):
        standing.state.rights.demand("bob", "audit")


def test_a_process_outside_the_selection_may_not_be_touched():
    grants = parse_grants(["start,stop on 大区1:192.168.1.10"])
    here, there = (Process("大区1", f"192.168.1.1{n}", "game1", "game") for n in (0, 1))
    assert may(grants, "stop", here) and not may(grants, "kill", here) and not may(grants, "stop", there)


# ---- the gate


def test_only_admins_are_greeted(standing):
    for role in ("daemon", "router", "app", "", "admin "):
        with pytest.raises(Refused, match="has the wrong port"):
            standing.state.rights.greet(hello(role=role), HOME)


def test_an_unknown_user_is_challenged_like_a_known_one_by_every_daemon_and_every_time(standing):
    standing.user("ada")
    other = Rights(GlobalDb(Store(standing.server.url)))
    known = standing.state.rights.verifier("admin", "ada")
    assert known.stored_key and known == other.verifier("admin", "ada")
    for name in ("nobody", "bad name", "x" * 1000, "\ud800", "", "a\nb"):
        first, again, elsewhere = (
            r.verifier("admin", name) for r in (standing.state.rights, standing.state.rights, other)
        )
        assert first.salt == again.salt == elsewhere.salt
        assert (len(first.salt), first.iterations) == (len(known.salt), known.iterations)
        assert first.stored_key != again.stored_key
    salts = {standing.state.rights.verifier("admin", name).salt for name in ("a", "b", "c", "ada")}
    assert len(salts) == 4


def test_names_that_strangers_make_up_are_not_kept(standing):
    for number in range(200):
        standing.state.rights.verifier("admin", f"stranger{number}")
    assert standing.state.rights._known == {}


def test_while_users_cannot_be_read_a_stranger_learns_no_address(frail, caplog):
    frail.server.stop()
    with pytest.raises(Refused) as refused:
        frail.state.rights.verifier("admin", "ada")
    assert "redis://" not in str(refused.value) and str(frail.server.port) not in str(refused.value)
    assert str(frail.server.port) in caplog.text


def test_a_damaged_user_looks_to_a_stranger_like_trouble_and_the_log_has_the_cure(standing, caplog):
    standing.globaldb.store.hset("user", "ada", "{}")
    with pytest.raises(Refused, match="users cannot be read just now"):
        standing.state.rights.verifier("admin", "ada")
    assert "agent user remove and add it again" in caplog.text


def test_so_many_wrong_passwords_lock_the_address_and_not_the_others(standing):
    rights = standing.state.rights
    for number in range(1000):
        if not locked_out(rights, f"user{number}"):
            fail(rights, 1, f"user{number}")
    assert len(rights._by_user._failures) == rights_module.ADDRESS_TRIES
    assert locked_out(rights, "ada") and not locked_out(rights, "ada", ELSEWHERE)


def test_one_user_cannot_be_guessed_at_from_many_addresses_at_once(standing):
    rights = standing.state.rights
    welcome(rights, "ada", ELSEWHERE)
    tries = 0
    for number in range(50):
        address = f"127.0.9.{number}:1"
        while not locked_out(rights, "ada", address):
            fail(rights, 1, "ada", address)
            tries += 1
    assert tries == rights_module.USER_TRIES
    assert not locked_out(rights, "ada", ELSEWHERE), "where ada has logged in before she still may"
    assert not locked_out(rights, "bob", "127.0.9.60:1")


def test_a_cron_job_with_a_wrong_password_does_not_lock_out_its_hosts_operators(standing):
    rights = standing.state.rights
    welcome(rights, "ada")
    fail(rights, 50, "cron")
    assert locked_out(rights, "cron") and locked_out(rights, "new") and not locked_out(rights, "ada")
    fail(rights, rights_module.ADDRESS_TRIES, "ada")
    assert locked_out(rights, "ada"), "her own mistakes still count"


def test_a_login_gives_the_users_tries_there_back(standing):
    rights = standing.state.rights
    fail(rights, rights_module.ADDRESS_TRIES - 1)
    welcome(rights)
    fail(rights, rights_module.ADDRESS_TRIES - 1)
    assert not locked_out(rights)


def test_who_has_logged_in_from_where_is_kept_for_a_bounded_number(standing, monkeypatch):
    monkeypatch.setattr(rights_module, "WELCOME", 10)
    for number in range(100):
        welcome(standing.state.rights, f"user{number}", f"127.1.1.{number}:1")
    assert len(standing.state.rights._welcome) == 10


def test_a_strangers_name_cannot_forge_a_line_of_the_log(standing, caplog):
    standing.state.rights.failed("admin", "eve\n2026-01-01 login of root: fine" + "x" * 5000, HOME)
    (record,) = caplog.records
    assert "\n" not in record.getMessage() and len(record.getMessage()) < 200
