"""A command from the daemon that was asked to the daemons that execute, with daemons beyond that lie."""

import subprocess

import pytest

from agent import messages
from agent.errors import AgentError, Refused
from agent.messages import OperateGroup, OperateMachine
from agent.outcome import FAILED, OK, REFUSED, UNKNOWN, Outcome
from roles.daemon import handlers, operation
from tests.roles.daemon.standing import FAR, IP, key, world


class RouterLink:
    """Answers in the place of the daemons beyond the router."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def call(self, message, _timeout_s, dst):
        self.asked.append((dst.decode(), message))
        return self.answer(dst.decode(), message)


class Dialer:
    trouble = "router: link lost"

    def __init__(self, link):
        self.link = link


@pytest.fixture
def group(standing):
    """Two machines; this one's processes have their keepers."""
    standing.configure(world(ten=["game1", "game2"], eleven=["game3", "game4"]))
    standing.user("ada", "* on *")
    standing.user("vic", "list on *")
    standing.state.refresh_configuration()
    return standing


def beyond(group, answer):
    link = RouterLink(answer)
    group.state.presence.dialer = Dialer(link)
    group.state.presence._machines = {FAR: {}}
    return link


def outcomes(group, verb, machine, name="*", user="ada", **more):
    peer = group.peer(user)
    asked = OperateGroup(verb, "*", machine, name, **{"wide": True, **more})
    return {row[0]: Outcome(*row) for row in operation.operate_group(group.state, peer, asked).outcomes}


def good(_ip, order):
    return messages.Outcomes([[target, "ok", "", 7] for target in order.targets])


def test_a_wide_command_has_one_verdict_per_target(group):
    link = beyond(group, good)
    found = outcomes(group, "start", "all")
    assert {target: outcome.result for target, outcome in found.items()} == {
        key("game1"): OK, key("game2"): OK, key("game3", FAR): OK, key("game4", FAR): OK,
    }  # fmt: skip
    ((ip, order),) = link.asked
    assert (ip, order.user, order.verb) == (FAR, "ada", "start")


@pytest.mark.parametrize(
    "lie",
    [
        lambda order: [["大区1.192.168.1.12.game9", "ok", "", 1], [key("game1"), "ok", "", 1]],
        lambda order: [[IP, "ok", "", 1], ["", "ok", "", 1], ["\n", "ok", "", 1]],
        lambda order: [],
        lambda order: "ok",
        lambda order: [["x"], 5, None],
        lambda order: [[key("game3", FAR), "ok", "", float("inf")], [key("game4", FAR), "ok", "", 1]],
        lambda order: [[key("game3", FAR), "ok", "", {}], [key("game4", FAR), "ok", "", 1]],
    ],
    ids=["of others", "of us", "nothing", "text", "rubbish", "endless pid", "odd pid"],
)
def test_a_daemon_that_answers_in_anothers_name_or_not_at_all_is_unknown_and_spoils_nothing_else(group, lie):
    beyond(group, lambda _ip, order: messages.Outcomes(lie(order)))
    found = outcomes(group, "start", "all")
    assert {target: outcome.result for target, outcome in found.items()} == {
        key("game1"): OK, key("game2"): OK, key("game3", FAR): UNKNOWN, key("game4", FAR): UNKNOWN,
    }  # fmt: skip
    assert found[key("game1")].pid > 1


def test_progress_of_another_machines_processes_is_not_believed(group):
    heard, said = [], []
    with group.state.listening("c1", heard.append, lambda target, words: said.append((target, words))):
        for target in (key("game3", FAR), key("game1"), "nonsense"):
            peer = group.peer(FAR, "daemon")
            handlers.target_finished(group.state, peer, messages.TargetFinished("c1", [target, "ok", "", 1]))
            handlers.target_progressed(
                group.state, peer, messages.TargetProgressed("c1", target, "saving 1/2")
            )
    handlers.target_progressed(group.state, peer, messages.TargetProgressed("c1", key("game3", FAR), "late"))
    assert [outcome.target for outcome in heard] == [key("game3", FAR)]
    assert said == [(key("game3", FAR), "saving 1/2")]


def test_a_viewer_stops_nothing_and_that_is_in_the_audit(group):
    link = beyond(group, good)
    for verb in ("start", "stop", "restart"):
        with pytest.raises(Refused, match=f"user vic may not {verb} any of these 4 processes") as refused:
            outcomes(group, verb, "all", user="vic")
        assert refused.value.code == "forbidden"
    assert not link.asked
    assert [line["verdict"][:8] for line in group.state.audit._lines] == ["refused:"] * 3


def test_a_viewer_kills_nothing_here(group):
    outcomes(group, "start", IP, "game1")
    keeper = group.state.keepers[key("game1")]
    pid = keeper.pid
    found = outcomes(group, "kill", IP, user="vic", pid=pid)
    assert {outcome.result for outcome in found.values()} == {REFUSED} and keeper.pid == pid


def test_the_daemon_that_executes_checks_again(group):
    for user, code in (("vic", REFUSED), ("nobody", None)):
        order = OperateMachine("start", [key("game1")], user, "x at y")
        if code is None:
            with pytest.raises(Refused, match="has been removed"):
                operation.operate_machine(group.state, order, 5)
        else:
            (outcome,) = operation.operate_machine(group.state, order, 5)
            assert outcome.result == code
    assert not group.state.keepers[key("game1")].pid


@pytest.mark.parametrize(
    "target", [key("game3", FAR), "x", "", 5, None, ["a"], {"a": 1}, "../../etc/passwd", "\ud800"]
)
def test_an_order_for_what_is_not_here_does_nothing(group, target):
    (outcome,) = operation.operate_machine(group.state, OperateMachine("start", [target], "ada", "x"), 5)
    assert outcome.result == FAILED and "is not configured on" in outcome.detail


@pytest.mark.parametrize("verb", ["", "STOP", "exec", "kill all", "__init__"])
def test_a_verb_that_is_none_is_refused_at_both_ends(group, verb):
    with pytest.raises(Refused, match="no verb"):
        outcomes(group, verb, "all")
    with pytest.raises(Refused, match="knows no verb"):
        operation.operate_machine(group.state, OperateMachine(verb, [key("game1")], "ada", "x"), 5)


@pytest.mark.parametrize("pid", [0, 1, -1, 2**31, 10**30])
def test_a_pid_that_can_be_none_is_refused(group, pid):
    with pytest.raises(Refused, match="kill wants the pid"):
        outcomes(group, "kill", IP, pid=pid)


def test_a_pid_that_we_do_not_manage_is_not_killed(group):
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        with pytest.raises(Refused, match=f"pid {stranger.pid} is not a process that the agent manages"):
            outcomes(group, "kill", IP, pid=stranger.pid)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_plan_does_nothing_whatever_the_verb(group):
    link = beyond(group, good)
    outcomes(group, "start", IP, "game1")
    keeper = group.state.keepers[key("game1")]
    group.record(key("game1"), pid=keeper.pid, state="RUNNING", wanted="up")
    link.asked.clear()
    pid = keeper.pid
    for verb in operation.VERBS:
        more = {"pid": pid} if verb == "kill" else {}
        found = outcomes(group, verb, IP, plan=True, **more)
        assert all(outcome.result in (OK, "already") for outcome in found.values()), verb
        if verb == "kill":
            assert [*found] == [key("game1")] and found[key("game1")].detail.startswith("would kill it")
    assert keeper.pid == pid and keeper.state == "RUNNING" and not link.asked
    with pytest.raises(Refused, match="reports pid 99999"):
        outcomes(group, "kill", IP, plan=True, pid=99999)


def test_more_than_one_machine_wants_a_confirmation(group):
    link = beyond(group, good)
    with pytest.raises(Refused, match="4 processes on 2 machines: confirm it"):
        outcomes(group, "start", "all", wide=False)
    assert not link.asked and not group.state.keepers[key("game1")].pid


def test_without_a_router_nothing_was_sent_and_that_is_said(group):
    found = outcomes(group, "start", FAR)
    assert {outcome.result for outcome in found.values()} == {FAILED}
    assert all("nothing was sent to" in outcome.detail for outcome in found.values())


@pytest.mark.parametrize(
    "asked",
    [
        {"machine": "a,,b"},
        {"machine": ""},
        {"machine": "*", "name": "\ud800"},
        {"machine": "no.such"},
        {"machine": "\n\x1b[2J"},
        {"machine": "*" + "a*" * 2000},
        {"machine": "[" * 500},
    ],
)
def test_odd_patterns_are_refused_and_every_one_is_in_the_audit(group, asked):
    before = len(group.state.audit._lines)
    with pytest.raises(AgentError):
        outcomes(group, "stop", **asked)
    assert len(group.state.audit._lines) == before + 1


@pytest.mark.parametrize(
    ("machine", "name", "said"),
    [
        (IP, "game1,gmae2", f'no process gmae2 on {IP} (did you mean "game2"?)'),
        (f"{IP},192.168.1.19", "game1", 'no machine 192.168.1.19 (did you mean "192.168.1.1'),
        (f"{IP},{FAR}", "game1", f"no process game1 on {FAR}"),
        ("*", "game1,nothing,nil", "no process nothing; no process nil: nothing was done"),
        (f"{FAR}", "gmae3", f'no process gmae3 on {FAR} (did you mean "game3"?): nothing was done'),
        ("192.168.1.19", "game1", "no machine 192.168.1.19 (did you mean"),
        (IP, "x*", f"no process x* on {IP}: nothing was done"),
        ("*", "gmae1", 'no process gmae1 (did you mean "game1"?)'),
    ],
)
@pytest.mark.parametrize("plan", [False, True])
def test_one_word_that_matches_nothing_and_nothing_is_done(group, machine, name, said, plan):
    link = beyond(group, good)
    with pytest.raises(Refused) as refused:
        outcomes(group, "start", machine, name, plan=plan)
    assert refused.value.code == "unknown_target" and said in str(refused.value)
    assert not link.asked and not group.state.keepers[key("game1")].pid
    assert [line["verdict"][:9] for line in group.state.audit._lines] == ([] if plan else ["not done:"])


def test_globs_beside_words_that_match_may_match_nothing(group):
    beyond(group, good)
    assert [*outcomes(group, "start", IP, "game1,x*")] == [key("game1")]


def test_a_region_that_is_none_is_named(group):
    with pytest.raises(Refused, match=r'no region 大区9 \(did you mean "大区1"\?\): nothing was done'):
        operation.operate_group(group.state, group.peer(), OperateGroup("stop", "大区1,大区9", "*", "game1"))


def test_what_a_user_may_not_see_is_for_him_not_there(group):
    group.user("eve", f"restart on *:{IP}")
    group.user("nil")
    for target in ("game3", "nothing"):
        with pytest.raises(Refused) as refused:
            outcomes(group, "restart", FAR, target, user="eve")
        assert refused.value.code == "unknown_target"
        assert str(refused.value).startswith(f"no machine {FAR}") and "game1" not in str(refused.value)
        with pytest.raises(Refused, match="user nil may not restart anything"):
            outcomes(group, "restart", FAR, target, user="nil")


def test_one_process_is_named_where_it_is_forbidden(group):
    with pytest.raises(Refused, match=f"user vic may not stop {key('game1')}$"):
        outcomes(group, "stop", IP, "game1", user="vic")


@pytest.mark.parametrize(
    ("region", "machine", "name", "words"),
    [
        ("*", "*", "*", "all"),
        ("*", "*", "game1", "all game1"),
        ("大区1", "*", "*", "大区1"),
        ("大区1", "*", "x", "大区1 all x"),
        ("*", IP, "*", IP),
    ],
)
def test_the_audit_has_the_command_as_it_is_typed(group, region, machine, name, words):
    beyond(group, good)
    try:
        operation.operate_group(
            group.state, group.peer(), OperateGroup("stop", region, machine, name, wide=True)
        )
    except Refused:
        assert name == "x"
    assert group.state.audit._lines[-1]["what"] == f"stop {words}"


# ---- drain, restart when empty, cancel, stop by force


@pytest.mark.parametrize(
    ("verb", "options", "grants", "allowed"),
    [
        ("drain", {}, "stop on *", True),
        ("drain", {}, "restart on *", False),
        ("drain", {"notice": "x"}, "stop on *", False),
        ("drain", {"notice": "x"}, "stop,gm:broadcast on *", True),
        ("drain", {"notice": "x"}, "stop,gm on *", True),
        ("restart-when-empty", {}, "restart on *", True),
        ("restart-when-empty", {}, "stop on *", False),
        ("cancel", {}, "stop on *", True),
        ("cancel", {}, "list on *", False),
        ("force-stop", {}, "stop on *", False),
        ("force-stop", {}, "kill on *", False),
        ("force-stop", {}, "stop,kill on *", True),
    ],
)
def test_a_verb_takes_all_of_its_rights_at_both_ends(group, verb, options, grants, allowed):
    group.user("kim", grants, "list on *")
    order = OperateMachine(verb, [key("game1")], "kim", "x", options=options)
    (outcome,) = operation.operate_machine(group.state, order, 5)
    assert (outcome.result != REFUSED) is allowed
    if allowed:
        assert outcomes(group, verb, IP, "game1", user="kim", options=options)
        return
    with pytest.raises(Refused) as no:
        outcomes(group, verb, IP, "game1", user="kim", options=options)
    assert no.value.code == "forbidden"


def test_a_stop_by_force_is_confirmed_first_and_a_plan_of_it_is_not(group):
    with pytest.raises(Refused, match="confirm it") as no:
        outcomes(group, "force-stop", IP, "game1", wide=False)
    assert no.value.code == "unconfirmed"
    assert outcomes(group, "force-stop", IP, "game1", wide=False, plan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"deadline_s": -1.0}, {"deadline_s": float("nan")}, {"deadline_s": 1e9}, {"deadline_s": "5"},
        {"deadline_s": True}, {"deadline_s": None}, {"notice": 5}, {"notice": "x" * 501}, {"notice": "\ud800"},
    ],
)  # fmt: skip
def test_odd_options_are_refused_at_both_ends(group, options):
    with pytest.raises(Refused) as no:
        outcomes(group, "drain", IP, "game1", options=options)
    assert no.value.code == "bad_request"
    with pytest.raises(Refused):
        operation.operate_machine(
            group.state, OperateMachine("drain", [key("game1")], "ada", "x", options=options), 5
        )


def test_a_drain_is_in_the_audit_with_its_options_as_it_is_typed(group):
    outcomes(group, "drain", IP, "game1", options={"deadline_s": 90.0, "notice": "维护 now"})
    line = group.state.audit._lines[-1]
    assert line["what"] == f'drain {IP} game1 --deadline 90.0 --notice "维护 now"'


def test_words_of_how_far_it_is_go_to_who_asked(group):
    peer = group.peer()

    def answer(_ip, order):
        far = messages.TargetProgressed(order.command, key("game3", FAR), "saving 1/2")
        handlers.target_progressed(group.state, group.peer(FAR, "daemon"), far)
        return good(_ip, order)

    beyond(group, answer)
    asked = OperateGroup("stop", "*", FAR, "game3", command="c1", wide=True)
    operation.operate_group(group.state, peer, asked)
    told = [notice for notice in peer.link.heard() if isinstance(notice, messages.TargetProgressed)]
    assert [(notice.target, notice.text) for notice in told] == [(key("game3", FAR), "saving 1/2")]
