"""A GM command from the daemon that was asked to those of its targets, with daemons beyond that lie or are silent."""

import gevent
import pytest

from agent import messages
from agent.declaration import NONE_DECLARED, read_declarations
from agent.errors import AgentError, LinkLost, NoReply, Refused, UsageError
from agent.messages import CallGm, CallMachineGm, DescribeGm, ExecuteGm, GmAnswer, GmVerdicts
from roles.daemon import bus, handlers
from roles.daemon import state as daemon_state
from tests.roles.daemon.applying import Game, refused
from tests.roles.daemon.standing import FAR, IP, key, world
from tests.roles.daemon.test_operation import Dialer, RouterLink

G1, G2 = key("game1"), key("game2")
F3, F4 = key("game3", FAR), key("game4", FAR)


@pytest.fixture
def group(standing):
    """game1 and game2 here and joined; game3 and game4 on a machine beyond a router that nobody has seen yet."""
    standing.configure(world(ten=["game1", "game2"], eleven=["game3", "game4"]))
    standing.user("ada", "* on *")
    standing.user("kim", f"gm:kick on *:{IP},大区1:{FAR}.game3", "list on *")
    standing.user("vic", "list on *")
    standing.user("nil")
    standing.state.refresh_configuration()
    standing.games = [Game(standing.state.applications, each, "run") for each in (G1, G2)]
    yield standing
    for game in standing.games:
        game.lose()


def beyond(group, answer):
    """`answer(order)` is what the daemon of FAR says."""
    link = RouterLink(lambda ip, asked: answer(asked))
    group.state.presence.dialer = Dialer(link)
    group.state.presence._machines = {FAR: {}}
    return link


def good(order):
    if order.plan:
        return GmVerdicts([[each, "answered", "write", ""] for each in order.targets], "kick --player 7")
    return GmVerdicts([[each, "answered", {"far": True}, ""] for each in order.targets], "kick --player 7")


def call(
    group, name="game1", command="kick", words=("7",), user="ada", machine="*", region="*", id_="i1", **more
):
    """Target -> row, in the order in which they came; and what was told ahead of the reply."""
    peer = group.peer(user)
    asked = CallGm(region, machine, name, command, id_, list(words), **{"wide": True, "sure": True, **more})
    reply = handlers.call_gm(group.state, peer, asked)
    ahead = [row for notice in peer.link.heard() for row in notice.verdicts]
    group.spoken = reply.spoken
    return {row[0]: tuple(row) for row in [*ahead, *reply.verdicts]}


def verdicts(group, *words, **more):
    return {target: row[1] for target, row in call(group, *words, **more).items()}


def ran(group):
    return [asked.command for game in group.games for asked in game.asked if isinstance(asked, ExecuteGm)]


def lines(group):
    return [(line["what"], line["verdict"]) for line in group.state.audit._lines]


def test_one_here_and_one_there_have_their_verdicts(group):
    link = beyond(group, good)
    assert call(group, "game1,game3") == {
        G1: (G1, "answered", {"ran": "kick"}, ""),
        F3: (F3, "answered", {"far": True}, ""),
    }
    ((ip, order),) = link.asked
    assert (ip, order) == (FAR, CallMachineGm([F3], "kick", "i1", "ada", ["7"], sure=True))
    assert group.spoken == 'kick --player 7 --reason ""'


def test_verdicts_of_one_machine_come_with_the_reply_and_those_of_several_ahead_of_it(group):
    beyond(group, good)
    peer = group.peer()
    for name, ahead, with_reply in (("game1,game2", [], [G1, G2]), ("*", [G1, G2, F3, F4], [])):
        reply = handlers.call_gm(
            group.state, peer, CallGm("*", "*", name, "kick", f"id {name}", ["7"], wide=True, sure=True)
        )
        heard = peer.link.heard()
        assert sorted(row[0] for notice in heard for row in notice.verdicts) == sorted(ahead)
        assert sorted(row[0] for row in reply.verdicts) == sorted(with_reply)
        assert {notice.id for notice in heard} <= {f"id {name}"}


def test_a_type_is_as_good_as_a_name(group):
    beyond(group, good)
    assert set(verdicts(group, "game", machine=IP)) == {G1, G2}
    assert set(verdicts(group, "game", id_="i2")) == {G1, G2, F3, F4}


# ---- what comes back from beyond


@pytest.mark.parametrize(
    ("answer", "verdict", "text"),
    [
        (LinkLost("link lost"), "unknown", "link lost"),
        (NoReply("no reply from it"), "timed_out", f"the daemon of {FAR}: no reply from it"),
        (Refused("forbidden", "not you"), "forbidden", "not you"),
        (Refused("timed_out", "router 10.0.0.9 waited"), "timed_out", "router 10.0.0.9 waited"),
        (Refused("internal", "see its log"), "unknown", "see its log"),
        (Refused("unreachable", "no link to it"), "unreachable", "no link to it"),
        (Refused("overloaded", "its link is full"), "unreachable", "its link is full"),
        (Refused("unknown_target", "no such machine"), "unreachable", "no such machine"),
        (Refused("bad_request", "unknown message: is it older?"), "unreachable", "is it older?"),
    ],
)
def test_what_became_of_a_machine_is_the_verdict_of_its_targets_alone(group, answer, verdict, text):
    def say(_order):
        raise answer

    beyond(group, say)
    found = call(group, "*")
    assert found[G1][1] == found[G2][1] == "answered"
    for target in (F3, F4):
        assert found[target][1] == verdict and text in found[target][3]


@pytest.mark.parametrize(
    "lie",
    [
        [],
        [[G1, "answered", "a lie", ""]],
        [
            ["大区1.192.168.1.12.game9", "answered", 1, ""],
            [FAR, "answered", 1, ""],
            ["\n", "answered", 1, ""],
        ],
        ["rubbish", 5, None, [], [F3], [5, "answered", 1, ""], [F3, "answered", 1]],
    ],
)
def test_a_daemon_that_speaks_for_others_or_not_at_all_leaves_its_own_unknown(group, lie):
    beyond(group, lambda order: GmVerdicts(lie))
    found = call(group, "*")
    assert found[G1] == (G1, "answered", {"ran": "kick"}, "") and set(found) == {G1, G2, F3, F4}
    assert {found[target][1] for target in (F3, F4)} == {"unknown"}
    assert f"the daemon of {FAR} said nothing of it" in found[F3][3]


def test_verdicts_are_read_of_the_processes_of_their_own_machine_only():
    rows = [
        [F3, "answered", 1, ""],
        [G1, "answered", 1, ""],
        [IP, "answered", 1, ""],
        ["x", "answered", 1, ""],
    ]
    assert [answer.target for answer in bus.read_answers(FAR, rows)] == [F3]


def test_verdicts_that_came_ahead_of_a_reply_that_never_came_count(group):
    def say(order):
        speaker = group.peer(FAR, "daemon")
        handlers.gm_answered(
            group.state, speaker, messages.GmAnswered(f"i1 {FAR}", [[F3, "answered", 1, ""]])
        )
        handlers.gm_answered(
            group.state, speaker, messages.GmAnswered(f"i1 {FAR}", [[G1, "answered", "a lie", ""]])
        )
        handlers.gm_answered(group.state, speaker, messages.GmAnswered("another", [[F4, "answered", 1, ""]]))
        raise LinkLost("lost")

    beyond(group, say)
    found = call(group, "game3,game4")
    assert (found[F3][1], found[F4][1]) == ("answered", "unknown") and G1 not in found
    assert not group.state._gm_listeners


def test_without_a_router_nothing_was_sent_and_that_is_said(group):
    found = call(group, "*", wide=True)
    assert found[F3][1] == "unreachable" and f"nothing was sent to {FAR}" in found[F3][3]
    assert found[G1][1] == "answered"


def test_a_verdict_of_a_newer_daemon_is_handed_on_as_it_is(group):
    beyond(group, lambda order: GmVerdicts([[F3, "postponed", None, "later", "more"]]))
    assert call(group, "game3") == {F3: (F3, "postponed", None, "later")}


# ---- who may


def test_what_may_not_be_called_is_forbidden_and_the_rest_is_called(group):
    link = beyond(group, good)
    assert verdicts(group, "*", user="kim") == {
        G1: "answered",
        G2: "answered",
        F3: "answered",
        F4: "forbidden",
    }
    assert link.asked[-1][1].targets == [F3] and link.asked[-1][1].user == "kim"


@pytest.mark.parametrize(
    ("user", "name", "command", "code", "text"),
    [
        ("vic", "game1", "kick", "forbidden", f"user vic may not gm:kick on {G1}"),
        ("vic", "*", "kick", "forbidden", "user vic may not gm:kick on any of these 4 processes"),
        ("kim", "game4", "kick", "forbidden", f"user kim may not gm:kick on {F4}"),
        ("kim", "game1", "wipe", "forbidden", f"user kim may not gm:wipe on {G1}"),
        ("nil", "game1", "kick", "forbidden", "user nil may not gm:kick anything"),
        (
            "ada",
            "gmae1",
            "kick",
            "unknown_target",
            'no process or type gmae1 there (did you mean "game1"?): nothing was done',
        ),
        ("ada", "game1,gmae2", "kick", "unknown_target", "no process or type gmae2 there"),
        ("ada", "x*", "kick", "unknown_target", "no process matches x*: nothing was done"),
    ],
)
def test_what_comes_to_no_target_is_refused_and_in_the_audit(group, user, name, command, code, text):
    link = beyond(group, good)
    with pytest.raises(Refused) as no:
        call(group, name, command, ["hunter2"], user)
    assert no.value.code == code and text in str(no.value)
    assert not link.asked and not ran(group)
    ((what, verdict),) = lines(group)
    assert what == f"gm {'*.*' if name == '*' else name} {command} ***" and verdict.startswith(
        "refused" if code == "forbidden" else "not done"
    )


@pytest.mark.parametrize("id_", ["", "x" * 65, "a\nb", "\x1b", "\ud800"])
def test_an_odd_id_is_refused(group, id_):
    with pytest.raises(Refused, match="wants an id"):
        call(group, id_=id_)
    assert len(lines(group)) == 1


@pytest.mark.parametrize("command", ["", "x" * 65, "x" * 1_000_000])
def test_a_name_that_no_command_can_have_is_refused(group, command):
    with pytest.raises(Refused, match="has a name of 1 to 64 characters"):
        call(group, command=command)
    assert not ran(group)


@pytest.mark.parametrize("asked", [{"name": "a,,b"}, {"name": ""}, {"region": ","}, {"machine": ""}])
def test_odd_patterns_are_refused_and_in_the_audit(group, asked):
    with pytest.raises((Refused, UsageError)) as no:
        call(group, **asked)
    assert isinstance(no.value, AgentError) and len(lines(group)) == 1


# ---- confirmation


def answers(danger):
    return lambda order: GmVerdicts(
        [[each, "answered", danger if order.plan else "ran", ""] for each in order.targets]
    )


@pytest.mark.parametrize(
    ("name", "command", "far", "confirmed", "question"),
    [
        ("game1", "kick", "write", {}, ""),
        ("game1,game2", "kick", "write", {}, ""),
        ("game1", "wipe", "write", {}, f"wipe is red ({G1})"),
        ("game1,game2", "wipe", "write", {"wide": True}, f"wipe is red ({G1} and 1 more)"),
        ("game1", "wipe", "write", {"sure": True}, ""),
        ("*", "kick", "write", {}, "kick: 4 processes on 2 machines;"),
        ("*", "kick", "write", {"wide": True}, ""),
        ("*", "kick", "red", {"wide": True}, "kick: 4 processes on 2 machines, red on 2;"),
        ("*", "kick", "red", {"sure": True}, "kick: 4 processes on 2 machines, red on 2;"),
        ("*", "kick", "red", {"sure": True, "wide": True}, ""),
        ("*", "look", "read", {}, ""),
        ("*", "look", "write", {}, "look: 4 processes on 2 machines;"),
        ("*", "wipe", "read", {"wide": True}, "wipe: 4 processes on 2 machines, red on 2;"),
    ],
)
@pytest.mark.parametrize("user", ["ada"])
def test_nothing_runs_before_it_is_confirmed(group, user, name, command, far, confirmed, question):
    link = beyond(group, answers(far))
    words = ["7"] if command == "kick" else []
    confirmed = {"wide": False, "sure": False, **confirmed}
    if not question:
        assert set(verdicts(group, name, command, words, user, **confirmed).values()) == {"answered"} and ran(
            group
        )
        return
    with pytest.raises(Refused) as no:
        call(group, name, command, words, user, **confirmed)
    assert no.value.code == "unconfirmed" and question in str(no.value)
    assert not ran(group) and all(order.plan for _, order in link.asked) and not lines(group)


def test_a_machine_that_is_not_sure_says_so_for_all_of_them(group):
    """It has joined its game since the plan, for example."""

    def say(order):
        raise Refused("unconfirmed", "kick is red there")

    beyond(group, say)
    with pytest.raises(Refused, match="kick is red there") as no:
        call(group, "game3", sure=False)
    assert no.value.code == "unconfirmed"


# ---- any one of several


def test_any_is_one_and_a_repeat_finds_the_same_one(group):
    link = beyond(group, good)
    first = call(group, "*", any=True)
    assert len(first) == 1
    for _ in range(5):
        assert call(group, "*", any=True) == first
    assert len(ran(group)) + len({order.id for _, order in link.asked}) == 1


def test_any_spreads_over_all_of_them(group):
    beyond(group, good)
    group.state.gm_rate.forget("ada")
    seen = {next(iter(call(group, "*", any=True, id_=f"n{number}"))) for number in range(60)}
    assert seen == {G1, G2, F3, F4}


def test_any_passes_over_what_cannot_be_reached_and_stays_with_whom_it_has_found(group):
    group.games[0].lose()  # no router either: only game2 is left
    for number in range(12):
        assert list(call(group, "*", any=True, id_=f"n{number}")) == [G2]
    group.games[0] = Game(group.state.applications, G1, "run")
    for number in range(12):
        assert list(call(group, "*", any=True, id_=f"n{number}")) == [G2]
    assert len(group.games[1].asked) == 12


def test_any_goes_on_to_nobody_when_it_may_have_run(group):
    for game in group.games:
        game.answers[ExecuteGm] = refused("not now", "internal")
    assert list(verdicts(group, "game1,game2", any=True).values()) == ["unknown"]
    assert len(ran(group)) == 1


def test_any_where_nobody_can_be_reached_says_so(group):
    for game in group.games:
        game.lose()
    ((target, verdict, _answer, text),) = call(group, "game1,game2", any=True).values()
    assert (target, verdict) == ("game1,game2", "absent") and "none of these 2 can be reached" in text
    ((target, verdict, *_),) = call(group, "game1", any=True).values()
    assert (target, verdict) == (G1, "absent")


# ---- at most once, and how often


def test_an_id_that_is_repeated_runs_once(group):
    assert call(group) == call(group) and ran(group) == ["kick"]
    assert call(group, again=True) == call(group) and ran(group) == ["kick"]
    assert lines(group)[2][0].endswith(" (asked again)")


def test_who_is_too_fast_waits_and_nobody_else_does(group, monkeypatch):
    monkeypatch.setattr("roles.daemon.bus.time.monotonic", lambda: 5.0)
    with pytest.raises(Refused, match="user ada sends GM commands too fast") as no:
        for number in range(1000):
            call(group, id_=f"n{number}")
    assert no.value.code == "too_many" and len(ran(group)) == daemon_state.GM_BURST
    assert verdicts(group, user="kim", id_="other") == {G1: "answered"}


# ---- audit


def test_the_audit_has_every_call_with_its_verdicts_and_no_secret(group):
    group.games[1].answers[ExecuteGm] = refused("no")
    call(group, "game1,game2", "login", ["ada", "hunter2"])
    (line,) = group.state.audit._lines
    assert line["what"] == 'gm game1,game2 login --user "ada" --password ***'
    assert line["verdict"] == "1 ok, 1 refused" and sorted(line["targets"]) == [
        [G1, "ok", ""],
        [G2, "refused", "no"],
    ]
    assert (line["user"], line["from"], line["daemon"]) == ("ada", "127.0.0.9:5000", IP)
    assert group.games[0].asked[0].arguments == {"user": "ada", "password": "hunter2"}


def test_what_is_a_secret_to_one_of_the_targets_is_in_no_audit(group):
    group.games[1].lose()
    open_ = {"name": "login", "arguments": [{"name": "a"}, {"name": "b"}]}
    group.games[1] = Game(group.state.applications, G2, "run", [open_])
    assert set(verdicts(group, "game1,game2", "login", ["ada", "hunter2"]).values()) == {"answered"}
    assert lines(group)[0][0] == "gm game1,game2 login ***"


@pytest.mark.parametrize(
    "words", [["hunter2", "x", "y"], ["--hunter2"], ["--passwrod", "hunter2"], ["--user=x"]]
)
def test_what_does_not_fit_is_in_the_audit_without_its_words(group, words):
    assert verdicts(group, "game1", "login", words) == {G1: "invalid"}
    assert "hunter2" not in str(group.state.audit._lines)
    assert lines(group)[0][0] == "gm game1 login ***"


def test_the_audit_has_the_call_as_a_machine_beyond_told_it(group):
    beyond(group, good)
    call(group, "game3", words=["hunter2"], region="大区1", machine=FAR)
    assert lines(group)[0][0] == f"gm 大区1:{FAR}.game3 kick --player 7"


# ---- what can be called


def described(group, user="ada", **patterns):
    return handlers.describe_gm(group.state, group.peer(user), DescribeGm(**patterns))


def test_what_can_be_called_is_asked_of_all_machines(group):
    declared = [{"name": "far", "help": "", "danger": "read", "answer": "", "arguments": []}]
    digest, own = group.games[0].application.declarations.digest, read_declarations(declared).digest
    rows = [
        [F3, "game", own],
        [F4, "game", ""],
        [G1, "game", "a lie"],
        ["rubbish", "", ""],
        "rubbish",
        [],
        [1, 2, 3],
    ]
    link = beyond(
        group, lambda asked: messages.GmCatalogue(rows, {own: declared, digest: declared, "d1": declared})
    )
    found = described(group)
    assert sorted(found.processes) == sorted(
        [[G1, "game", digest], [G2, "game", digest], [F3, "game", own], [F4, "game", ""]]
    )
    assert found.commands.keys() == {digest, own} and found.commands[own] == declared and found.silent == []
    assert [entry["name"] for entry in found.commands[digest]] == [
        "kick",
        "look",
        "wipe",
        "login",
        "broadcast",
    ]
    assert link.asked[0][1] == DescribeGm("*", "*", "*", "ada")


def test_a_machine_that_does_not_answer_is_named(group):
    def say(_asked):
        raise NoReply("x")

    beyond(group, say)
    assert described(group).silent == [FAR]
    group.state.presence.dialer = None
    found = described(group)
    assert found.silent == [FAR] and [row[0] for row in found.processes] == [G1, G2]


def test_who_may_see_nothing_is_told_of_nothing(group):
    assert described(group, "nil").processes == []
    assert {row[0] for row in described(group, "kim").processes} == {G1, G2}
    speaker = group.peer(FAR, "daemon")
    for user, count in (("ada", 2), ("nil", 0)):
        assert len(handlers.describe_gm(group.state, speaker, DescribeGm(user=user)).processes) == count


def test_one_that_has_joined_and_declared_nothing_is_told_apart_from_one_that_has_not(group):
    group.games[1].lose()
    group.state.applications.declare(group.games[0].application, True, True, NONE_DECLARED)
    assert [row[2] for row in described(group, machine=IP).processes] == ["-", ""]


def test_slow_applications_are_called_at_once(group):
    for game in group.games:
        game.answers[ExecuteGm] = lambda asked: gevent.sleep(0.2) or GmAnswer(1)
    with gevent.Timeout(0.39):
        assert set(verdicts(group, "game1,game2").values()) == {"answered"}
