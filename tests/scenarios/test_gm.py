"""GM commands from any daemon to applications on any machine: one verdict for each, at most once, rights, the audit."""

import json
from collections.abc import Iterator

import gevent
import pytest

from agent.errors import Refused
from agent.messages import WatchEvents
from tests.scenarios.games import FIRST, SECOND, call, game, key, playing, status
from tests.scenarios.group import Admin, Group, program
from tests.waiting import until

GAMES = {key("game1"), key("game2"), key("game1", SECOND)}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    programs = {"game": game(), "chat": game()}
    with playing(
        tmp_path_factory.mktemp("group"),
        programs,
        {FIRST: ["game1", "game2", "chat1"], SECOND: ["game1", "chat2"]},
    ) as group:
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(FIRST)
    yield admin
    admin.close()


def test_a_type_over_all_machines_and_a_name_and_a_whole_key(admin: Admin) -> None:
    assert call(admin, "game", "status").keys() == GAMES
    assert call(admin, "chat2", "status").keys() == {key("chat2", SECOND)}
    assert call(admin, key("game2"), "status").keys() == {key("game2")}
    assert call(admin, f"大区1:{SECOND}.*", "status").keys() == {key("game1", SECOND), key("chat2", SECOND)}
    assert call(admin, "game2,chat", "status").keys() == {key("game2"), key("chat1"), key("chat2", SECOND)}


def test_words_and_types_arrive_as_declared(admin: Admin) -> None:
    answers = call(
        admin, "chat2", "give", "7", '剑 "长"', "--count=-3", "--silent", "--extra", '{"a": [1, null]}'
    )
    assert answers == {
        key("chat2", SECOND): ["answered", {"player": 7, "item": '剑 "长"', "count": -3, "rate": 1.0, "silent": True,
                                            "extra": {"a": [1, None]}}, ""]
    }  # fmt: skip
    answers = call(admin, "chat2", "give", arguments={"player": 2**62, "item": "x", "rate": 0.25})
    assert answers[key("chat2", SECOND)][1]["player"] == 2**62


def test_every_target_has_its_own_verdict(group: Group, admin: Admin) -> None:
    assert call(admin, "chat1", "kick", "1")[key("chat1")] == ["refused", None, "no player 1"]
    verdict, _answer, text = call(admin, "chat1", "kick", "nobody")[key("chat1")]
    assert verdict == "invalid" and "kick PLAYER:int [REASON:str]" in text
    assert call(admin, "chat1", "explode")[key("chat1")][0] == "invalid"
    with pytest.raises(Refused, match="no process or type nobody"):
        call(admin, "nobody", "status")


def test_one_of_many_and_a_repeat_finds_the_same_one(admin: Admin) -> None:
    before = {place: answer[1]["executed"] for place, answer in call(admin, "game", "status").items()}
    first = call(admin, "game", "broadcast", "hello", any=True, id="any-1")
    again = call(admin, "game", "broadcast", "hello", any=True, id="any-1")
    assert len(first) == 1 and first == again
    after = {place: answer[1]["executed"] for place, answer in call(admin, "game", "status").items()}
    assert sum(after.values()) == sum(before.values()) + 1


def test_an_id_is_never_run_twice(group: Group, admin: Admin) -> None:
    before = status(admin, "game2")["executed"]
    first = call(admin, "game2", "broadcast", "once", id="once-1")
    assert call(admin, "game2", "broadcast", "once", id="once-1") == first
    elsewhere = group.admin(SECOND)
    assert call(elsewhere, "game2", "broadcast", "once", id="once-1") == first
    assert status(admin, "game2")["executed"] == before + 1
    verdict, _answer, text = call(admin, "game2", "broadcast", "x", id="never-sent", again=True)[key("game2")]
    assert verdict == "unknown" and "does not know any more" in text
    assert status(admin, "game2")["executed"] == before + 1


def test_who_repeats_while_it_runs_waits_for_the_same_answer(admin: Admin) -> None:
    before = status(admin, "chat1")["executed"]
    calls = [gevent.spawn(call, admin, "chat1", "slow", "0.7", id="slow-1") for _ in range(3)]
    gevent.joinall(calls, raise_error=True)
    assert [each.value for each in calls] == [{key("chat1"): ["answered", {"slept": 0.7}, ""]}] * 3
    assert status(admin, "chat1")["executed"] == before + 1


def test_a_red_one_and_a_wide_one_ask_first_and_nothing_has_run(admin: Admin) -> None:
    before = call(admin, "game", "status")
    with pytest.raises(Refused, match="unlock is red") as refused:
        call(admin, "chat1", "unlock", "open sesame", wide=False, sure=False)
    assert refused.value.code == "unconfirmed"
    with pytest.raises(Refused, match="3 processes on 2 machines, red on 3") as refused:
        call(admin, "game", "unlock", "open sesame", wide=False, sure=False)
    assert refused.value.code == "unconfirmed"
    with pytest.raises(Refused, match="broadcast: 3 processes on 2 machines; confirm"):
        call(admin, "game", "broadcast", "x", wide=False, sure=False)
    assert call(admin, "game", "status", wide=False, sure=False) == before, "reading asks nobody"


def test_a_time_out_says_where(admin: Admin) -> None:
    verdict, _answer, text = call(admin, "chat1", "slow", "6", timeout=3.0)[key("chat1")]
    assert verdict == "timed_out" and "application did not answer within" in text
    verdict, _answer, text = call(admin, "chat2", "slow", "6", timeout=4.0)[key("chat2", SECOND)]
    assert verdict == "timed_out" and "application did not answer within" in text


def test_rights_are_per_command_and_selection(group: Group) -> None:
    group.add_user("broadcaster", "gm:broadcast on 大区1:*", f"gm:kick on *:{SECOND}.chat*")
    user = group.admin(FIRST, "broadcaster")
    assert {answer[0] for answer in call(user, "game", "broadcast", "x").values()} == {"answered"}
    group.add_user("half", "list on *", "gm:status on *:*.game1")
    answers = call(group.admin(FIRST, "half"), f"{FIRST}.game*", "status")
    assert {place: answer[0] for place, answer in answers.items()} == {
        key("game1"): "answered",
        key("game2"): "forbidden",
    }
    with pytest.raises(Refused, match="may not gm:status"):
        call(user, "game", "status")
    answers = call(user, "chat", "kick", "1")
    assert answers == {key("chat2", SECOND): ["refused", None, "no player 1"]}, (
        "what he may not see is not there"
    )
    group.run("user", "revoke", "broadcaster", "gm:broadcast on 大区1:*")
    with pytest.raises(Refused, match="may not gm:broadcast"):
        call(user, "game", "broadcast", "x")


def test_the_audit_has_arguments_and_no_secrets(group: Group, admin: Admin) -> None:
    call(admin, "chat1", "unlock", "open sesame")
    call(admin, "chat1", "unlock", "--password=not this one")
    call(admin, "chat1", "kick", "77", "--reason", "testing the audit")
    call(admin, "chat1", "unlock", "two words", "that do not fit")

    def lines() -> list[str]:
        return [line["what"] for line in group.audit() if line["what"].startswith("gm chat1")][-4:]

    wanted = ["gm chat1 unlock --password ***", "gm chat1 unlock --password ***",
              'gm chat1 kick --player 77 --reason "testing the audit"', "gm chat1 unlock ***"]  # fmt: skip
    until(lambda: lines() == wanted, what="the audit")
    text = json.dumps(group.audit())
    assert "sesame" not in text and "not this one" not in text and "do not fit" not in text


def test_what_has_not_joined_is_told_apart(group: Group, admin: Admin) -> None:
    stopped = admin.operate("stop", FIRST, "chat1")[key("chat1")]
    assert (stopped.result, stopped.detail) == ("ok", "saved, then code 0")
    answers = call(admin, "chat", "status")
    assert answers[key("chat1")][0] == "absent" and "STOPPED" in answers[key("chat1")][2]
    assert answers[key("chat2", SECOND)][0] == "answered"
    assert admin.operate("start", FIRST, "chat1")[key("chat1")].result == "ok"


def test_from_the_shell_of_a_script(group: Group) -> None:
    done = group.admin_command(SECOND, "gm game2 kick 1003 --reason 'dirty play'", more=["--json"])
    assert done.returncode == 0, done
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert verdict == {"target": key("game2"), "region": "大区1", "ip": FIRST, "name": "game2", "verdict": "answered",
                       "answer": {"kicked": 1003, "reason": "dirty play"}, "text": ""}  # fmt: skip
    assert group.admin_command(SECOND, "gm game2 kick 1003").returncode == 1
    assert group.admin_command(SECOND, "gm game2 kick").returncode == 2
    assert group.admin_command(SECOND, "gm game broadcast x").returncode == 2, "wide, and nobody to ask"
    helped = group.admin_command(SECOND, "gm help chat kick").stdout
    assert "kick PLAYER [REASON]" in helped and "no reason given" in helped


def test_events_are_kept_and_told_live_to_who_may(group: Group) -> None:
    group.add_user("onlooker", "list on *", f"events on *:{SECOND}.chat2")
    watcher, onlooker, gm = group.admin(FIRST), group.admin(FIRST, "onlooker"), group.admin(SECOND)
    watcher.call(WatchEvents())
    onlooker.call(WatchEvents())
    left = [key("chat2", SECOND), "player_left", {"player": 1001}]
    assert call(gm, "chat2", "kick", "1001")[key("chat2", SECOND)][0] == "answered"
    assert call(gm, "game1", "kick", "1001").keys() == {key("game1"), key("game1", SECOND)}

    def seen(admin: Admin) -> list:
        return sorted([row[0], *row[2:]] for row in admin.events if row[2] == "player_left")

    until(lambda: len(seen(watcher)) == 3 and seen(onlooker) == [left], 15, "events, live")
    until(lambda: "player_left" in group.admin_command(FIRST, "events chat2").stdout, 15, "events, kept")
    refused = group.admin_command(FIRST, "events game1", user="onlooker")
    assert refused.returncode == 4 and "may not see events" in refused.stderr


def test_a_zero_sdk_process_has_nothing_to_call(
    group: Group, admin: Admin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = json.loads(group.run("world", "export").stdout)
    document["programs"]["plain"] = program("steady")
    document["world"]["大区1"][FIRST].append({"type": "plain", "name": "plain1"})
    group.configure(document)
    assert admin.operate("start", FIRST, "plain1")[key("plain1")].result == "ok"
    assert call(admin, "plain1", "status")[key("plain1")][0] == "absent"
