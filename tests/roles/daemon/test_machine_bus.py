"""GM commands on the machine of their targets: what was not sent can be sent, what was sent is never sent again."""

from dataclasses import replace

import gevent
import pytest
import ujson
from gevent.event import Event

from agent import gm, messages, wire
from agent.codec import encode
from agent.errors import Refused
from agent.gm import Answer
from agent.messages import CallMachineGm, ExecuteGm, GmAnswer
from roles.daemon import handlers, machine_bus
from roles.daemon.application import Application
from tests.roles.daemon.applying import Game, refused
from tests.roles.daemon.standing import FAR, IP, key, world

WAIT_S = 5.0
G1, G2, G3 = key("game1"), key("game2"), key("game3")


@pytest.fixture
def machine(standing):
    """game1 and game2 have joined, game3 has not."""
    standing.configure(world(ten=["game1", "game2", "game3"], eleven=["far1"]))
    standing.user("ada", "* on *")
    standing.user("kim", f"gm:kick on *:{IP}.game1")
    standing.user("nil", "list on *")
    standing.state.refresh_configuration()
    standing.games = [Game(standing.state.applications, each, "run") for each in (G1, G2)]
    yield standing
    for game in standing.games:
        game.lose()


def call(machine, command="kick", targets=(G1,), id_="i1", words=("7",), wait_s=WAIT_S, **more):
    fields = {"user": "ada", "words": list(words), **more}
    called = machine_bus.call(machine.state, CallMachineGm(list(targets), command, id_, **fields), wait_s)
    return {answer.target: answer for answer in called.answers}, called.spoken


def one(machine, *words, **more):
    answers, _spoken = call(machine, *words, **more)
    (answer,) = answers.values()
    return answer


def ran(game):
    return [asked for asked in game.asked if isinstance(asked, ExecuteGm)]


# ---- the eight verdicts


def test_an_answer_is_the_applications_own(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = GmAnswer({"online": [1, None, "大"]})
    answers, spoken = call(machine, words=["7", "--reason", "x"])
    assert answers == {G1: Answer(G1, "answered", {"online": [1, None, "大"]}, "")}
    assert spoken == 'kick --player 7 --reason "x"'
    (asked,) = game.asked
    assert replace(asked, id="") == ExecuteGm("", "kick", {"player": 7, "reason": "x"}, "ada", False)


@pytest.mark.parametrize(
    ("answer", "verdict", "text"),
    [
        (refused("not in a battle"), "refused", "not in a battle"),
        (refused("x" * 9000), "refused", "xxx"),
        (refused("no such player", "bad_request"), "invalid", "no such player"),
        (refused("?", "forgotten"), "unknown", "does not know any more what became of it"),
        (refused("?", "internal"), "unknown", "it failed in the application: ?"),
        (refused("?", "made up"), "unknown", "it failed in the application: ?"),
        (ValueError("a bug"), "unknown", "it failed in the application"),
        (refused("?", "unreachable"), "absent", "it has just lost its link to the daemon; nothing was sent"),
        (lambda asked: gevent.sleep(9), "timed_out", "the application did not answer within"),
    ],
)
def test_what_is_no_answer_is_told_for_what_it_is(machine, answer, verdict, text):
    machine.games[0].answers[ExecuteGm] = answer
    found = one(machine, wait_s=0.6)
    assert (found.verdict, found.answer) == (verdict, None) and text in found.text and len(found.text) <= 600


def test_a_link_that_is_lost_before_the_answer_leaves_it_unknown(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = lambda asked: game.lose()
    found = one(machine)
    assert found.verdict == "unknown" and "it may have run" in found.text


@pytest.mark.parametrize(
    ("more", "verdict", "text"),
    [
        ({"targets": [G3]}, "absent", "it is STOPPED and has not joined its daemon"),
        ({"targets": [key("game9")]}, "absent", f"it is not configured on {IP}"),
        ({"targets": [key("far1", FAR)]}, "absent", f"it is not configured on {IP}"),
        ({"command": "kcik"}, "invalid", 'did you mean "kick"'),
        ({"words": ["x"]}, "invalid", "usage: kick PLAYER:int [REASON:str]"),
        ({"words": []}, "invalid", "player missing"),
        ({"words": [], "arguments": {"player": "7"}}, "invalid", "player"),
        ({"words": ["7", "x" * 600_000]}, "invalid", "its arguments are longer than"),
        ({"user": "nil"}, "forbidden", "user nil may not gm:kick there"),
        ({"user": "kim", "command": "look", "words": []}, "forbidden", "user kim may not gm:look there"),
        ({"user": "kim", "targets": [G2]}, "forbidden", "user kim may not gm:kick there"),
    ],
)
def test_what_cannot_be_sent_is_not(machine, more, verdict, text):
    found = one(machine, **more)
    assert found.verdict == verdict and text in found.text
    assert not any(ran(game) for game in machine.games)


def test_each_target_has_its_own_verdict_and_none_spoils_another(machine):
    machine.games[0].answers[ExecuteGm] = GmAnswer("\ud800")
    answers, spoken = call(machine, targets=[G1, G2, G3, "rubbish", 5, None], user="ada")
    assert {each: answer.verdict for each, answer in answers.items()} == {
        G1: "answered", G2: "answered", G3: "absent", "rubbish": "absent",
    }  # fmt: skip
    assert answers[G1].answer == "?" and answers[G2].answer == {"ran": "kick"}
    assert spoken.startswith("kick --player 7")


def test_rights_are_looked_up_again_here(machine):
    assert one(machine, user="kim").verdict == "answered"
    machine.user("kim", "list on *")
    assert one(machine, user="kim", id_="i2").verdict == "forbidden"
    with pytest.raises(Refused, match="user nobody has been removed"):
        call(machine, user="nobody")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ("x" * (gm.MAX_ANSWER_BYTES - 2), True),
        ("x" * gm.MAX_ANSWER_BYTES, False),
        ([float("nan"), "\udfff", 2**70], True),
    ],
)
def test_an_answer_that_is_too_long_is_dropped_and_said_to_be(machine, answer, shown):
    machine.games[0].answers[ExecuteGm] = GmAnswer(answer)
    found = one(machine)
    assert found.verdict == "answered" and (found.answer is not None) is shown
    assert shown or "is longer than 65536 and was dropped" in found.text
    encode(messages.GmVerdicts([list(found)]))


def test_what_json_cannot_carry_spoils_no_other_answer(machine, monkeypatch):
    """A peer that writes half a surrogate pair as JSON does, which our own links never send."""
    execute = Application.execute

    def odd(self, request, wait_s):
        return GmAnswer("\ud800") if self.key == G1 else execute(self, request, wait_s)

    monkeypatch.setattr(Application, "execute", odd)
    answers, _ = call(machine, targets=[G1, G2])
    assert (answers[G1].answer, answers[G2].answer) == ("?", {"ran": "kick"})


# ---- red


def test_a_red_command_that_is_not_confirmed_runs_nowhere(machine):
    tame = {"name": "wipe", "danger": "write"}
    machine.games.append(Game(machine.state.applications, G3, "run", [tame]))
    with pytest.raises(Refused, match=rf"wipe is red \({G1} and 1 more\); confirm it") as no:
        call(machine, "wipe", [G1, G2, G3], words=[])
    assert no.value.code == "unconfirmed" and not any(ran(game) for game in machine.games)
    answers, _ = call(machine, "wipe", [G1, G2, G3], words=[], sure=True)
    assert {answer.verdict for answer in answers.values()} == {"answered"}


def test_a_plan_runs_nothing_and_tells_how_dangerous_it_is(machine):
    answers, spoken = call(machine, "wipe", [G1, G3], words=[], plan=True)
    assert {each: (answer.verdict, answer.answer) for each, answer in answers.items()} == {
        G1: ("answered", "red"), G3: ("absent", None),
    }  # fmt: skip
    assert not any(ran(game) for game in machine.games) and spoken == "wipe"
    assert one(machine, "wipe", words=[], sure=True).verdict == "answered", "a plan takes no id"


# ---- at most once


def test_an_id_that_is_repeated_runs_once_and_gets_the_same_answer(machine):
    count = []
    machine.games[0].answers[ExecuteGm] = lambda asked: count.append(1) or GmAnswer(len(count))
    assert [one(machine).answer for _ in range(3)] == [1, 1, 1]
    assert one(machine, again=True).answer == 1 and len(ran(machine.games[0])) == 1
    assert one(machine, id_="i2").answer == 2


def test_an_id_is_one_targets_own(machine):
    call(machine, targets=[G1])
    call(machine, targets=[G1, G2])
    assert [len(ran(game)) for game in machine.games] == [1, 1]


def test_who_repeats_it_while_it_is_under_way_waits_for_the_same_answer(machine):
    go = Event()
    machine.games[0].answers[ExecuteGm] = lambda asked: go.wait() and GmAnswer("done")
    calls = [gevent.spawn(one, machine) for _ in range(3)]
    gevent.sleep(0.05)
    late = one(machine, wait_s=0.05)
    assert late.verdict == "timed_out" and "it is still under way" in late.text
    go.set()
    assert [each.get().answer for each in calls] == ["done"] * 3 and len(ran(machine.games[0])) == 1


def test_a_reason_is_repeated_too(machine):
    machine.games[0].answers[ExecuteGm] = refused("no")
    assert [one(machine).verdict for _ in range(2)] == ["refused"] * 2 and len(ran(machine.games[0])) == 1


@pytest.mark.parametrize("answer", [refused("x", "unreachable"), refused("x", "bad_request")])
def test_what_did_not_run_may_be_sent_again(machine, answer):
    game = machine.games[0]
    game.answers[ExecuteGm] = answer
    assert one(machine).verdict in ("absent", "invalid")
    game.answers[ExecuteGm] = GmAnswer("now")
    assert one(machine).answer == "now" and [asked.again for asked in ran(game)] == [False, False]


def test_what_is_in_doubt_is_only_asked_about_and_then_known(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = lambda asked: gevent.sleep(9)
    assert one(machine, wait_s=0.1).verdict == "timed_out"
    game.answers[ExecuteGm] = lambda asked: GmAnswer("it had run") if asked.again else refused("twice!")
    assert one(machine).answer == "it had run"
    assert one(machine).answer == "it had run" and [asked.again for asked in ran(game)] == [False, True]


def test_what_the_run_before_never_answered_stays_unknown(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = lambda asked: game.lose()
    assert one(machine).verdict == "unknown"
    machine.games[0] = new = Game(machine.state.applications, G1, "another run")
    for again in (True, False):
        found = one(machine, again=again)
        assert found.verdict == "unknown" and "the run before this one" in found.text
    assert not ran(new)


def test_the_same_run_with_a_new_link_is_asked_what_became_of_it(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = lambda asked: game.lose()
    assert one(machine).verdict == "unknown"
    machine.games[0] = new = Game(machine.state.applications, G1, "run")
    new.answers[ExecuteGm] = lambda asked: GmAnswer("ran") if asked.again else refused("twice!")
    assert one(machine, again=True).answer == "ran"


def test_asking_again_for_what_was_never_sent_runs_nothing(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = lambda asked: (
        _raise(refused("?", "forgotten")) if asked.again else GmAnswer("ran")
    )
    found = one(machine, again=True)
    assert found.verdict == "unknown" and [asked.again for asked in ran(game)] == [True]


def _raise(error):
    raise error


def test_a_long_answer_is_asked_for_again_and_not_run_again(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = GmAnswer("x" * 9000)
    assert len(one(machine).answer) == len(one(machine, again=True).answer) == 9000
    assert [asked.again for asked in ran(game)] == [False, True]


# ---- on the wire


def test_verdicts_travel_in_lots_that_fit_a_frame(machine):
    answers = [Answer(f"t{number}", "answered", "x" * 60_000) for number in range(40)]
    lots = [*machine_bus.batches(answers)]
    assert [Answer(*row) for lot in lots for row in lot] == answers and len(lots) > 3
    assert all(len(ujson.dumps(lot)) < 600_000 for lot in lots)
    assert [*machine_bus.batches([])] == [] and [*machine_bus.batches(answers[:1])] == [[list(answers[0])]]
    assert len([*machine_bus.batches([Answer("t", "refused", None, "x" * 300_000)] * 3)]) == 3


def test_a_machine_sends_what_does_not_fit_its_reply_ahead_of_it(machine, monkeypatch):
    monkeypatch.setattr(machine_bus, "BATCH_BYTES", 1000)
    for game in machine.games:
        game.answers[ExecuteGm] = GmAnswer("x" * 900)
    peer = machine.peer(FAR, "daemon")
    order = CallMachineGm([G1, G2, G3], "kick", "i1", "ada", ["7"])
    reply = handlers.call_machine_gm(machine.state, peer, order)
    ahead = peer.link.heard()
    assert [type(notice) for notice in ahead] == [messages.GmAnswered] * len(ahead)
    assert {notice.id for notice in ahead} == {f"i1 {IP}"}
    rows = [row for notice in ahead for row in notice.verdicts] + reply.verdicts
    assert sorted(row[0] for row in rows) == [G1, G2, G3] and reply.spoken.startswith("kick")
    assert max(len(encode(notice)) for notice in ahead) < wire.MAX_FRAME_BYTES


def test_a_call_for_nobody_is_no_mistake(machine):
    assert handlers.call_machine_gm(
        machine.state, machine.peer(FAR, "daemon"), CallMachineGm([], "kick", "i", "ada")
    ) == (messages.GmVerdicts([], ""))


def test_an_id_is_good_for_one_users_call_of_one_command_with_these_words(machine):
    game = machine.games[0]
    game.answers[ExecuteGm] = GmAnswer("done")
    first, _spoken = call(machine, words=["7"])
    assert first[G1].verdict == "answered" and len(game.asked) == 1
    other, _spoken = call(machine, words=["8"])
    assert other[G1].verdict == "invalid" and "other arguments" in other[G1].text and len(game.asked) == 1
    again, _spoken = call(machine, words=["7"])
    assert again == first and len(game.asked) == 1
    look, _spoken = call(machine, command="look", words=[])
    assert look[G1].verdict == "answered" and len(game.asked) == 2
    assert len({asked.id for asked in game.asked}) == 2
