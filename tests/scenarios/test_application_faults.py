"""Applications that die, hang, flood and lie, and a daemon that dies under them: all others go on, told the truth."""

import os
import signal
import time
from collections.abc import Iterator

import gevent
import pytest

from agent import messages, wire
from agent.errors import LinkLost
from tests.scenarios.games import FIRST, SECOND, call, game, joined, key, playing, start, status
from tests.scenarios.group import Admin, Group, alive, program
from tests.scenarios.puppet import Puppet
from tests.waiting import until

PLACES = {FIRST: ["game1", "game2"], SECOND: ["game3"]}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with playing(
        tmp_path_factory.mktemp("group"), {"game": game(), "puppet": program("steady")}, PLACES
    ) as group:
        document = {
            "programs": {"game": game(), "puppet": program("steady")},
            "world": {"大区1": {
                ip: [*({"type": "game", "name": name} for name in names), {"type": "puppet", "name": "puppet1"}]
                for ip, names in PLACES.items()
            }},
        }  # fmt: skip
        group.configure(document)
        yield group


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(FIRST)
    start(group, PLACES)
    admin.operate("start", "*", "puppet1")
    yield admin
    admin.close()


@pytest.fixture
def puppet(group: Group, admin: Admin) -> Iterator[Puppet]:
    puppet = Puppet(group.pids(key("puppet1"))[0])
    yield puppet
    puppet.close()


# ---- who may join


def test_only_the_token_of_this_run_of_this_process_is_taken(
    group: Group, admin: Admin, puppet: Puppet
) -> None:
    reply = puppet.join()
    assert isinstance(reply, messages.Joined) and reply.globaldb == group.globaldb.url
    (pid,) = group.pids(key("puppet1"))
    other = Puppet(group.pids(key("game1"))[0])
    refused = [
        Puppet(pid, token=other.words["token"]),
        Puppet(pid, key=key("game1")),
        Puppet(pid, incarnation=other.words["incarnation"]),
        Puppet(pid, token=""),
        Puppet(pid, key="\ud800.1", token="\ud800"),
        Puppet(pid, key=key("puppet1", SECOND)),
    ]
    for stranger in refused:
        reply = stranger.join()
        assert isinstance(reply, messages.Error) and reply.code in ("forbidden", "unknown_target"), (
            stranger.words
        )
        assert stranger.hangs_up()
    restarted = admin.operate("restart", FIRST, "puppet1")[key("puppet1")]
    old = Puppet(restarted.pid, **puppet.words)
    assert old.join().code == "forbidden", "that run is over"
    assert old.hangs_up()


def test_only_joining_is_a_first_word(puppet: Puppet) -> None:
    puppet.connect()
    puppet.sock.sendall(wire.pack(wire.REQUEST, 1, b"", b"", b'["session.hello", {}]'))
    assert puppet.hangs_up()


def test_a_newer_link_takes_the_place_of_the_older_one(puppet: Puppet, admin: Admin, group: Group) -> None:
    puppet.join()
    newer = Puppet(group.pids(key("puppet1"))[0])
    assert isinstance(newer.join(), messages.Joined)
    assert puppet.hangs_up()
    newer.declare("x")
    calling = gevent.spawn(call, admin, f"{FIRST}.puppet1", "x")
    frame, _request = newer.next()
    newer.answer(frame, messages.GmAnswer("the newer one"))
    assert calling.get(timeout=15)[key("puppet1")][:2] == ["answered", "the newer one"]
    newer.close()


# ---- what they may say


def test_a_wrong_declaration_is_told_with_its_place_and_the_link_stays(puppet: Puppet) -> None:
    puppet.join()
    arguments = [{"name": "x", "type": "y"}]
    wrong = messages.DeclareApplication(commands=[{"name": "a"}, {"name": "b", "arguments": arguments}])
    reply = puppet.ask(wrong)
    assert reply.code == "bad_request" and 'commands[1] (b).arguments[0].type: "y" is none of' in reply.text
    assert isinstance(puppet.declare("x"), messages.ApplicationDeclared)


@pytest.mark.parametrize(
    "data",
    [
        wire.PREFIX.pack(2 * 1024 * 1024, wire.REQUEST, 1, 0, 0),
        wire.PREFIX.pack(3, wire.REQUEST, 1, 0, 0),
        wire.pack(9, 1, b"", b"", b"{}"),
        wire.pack(wire.REQUEST, 1, b"", key("game1").encode(), b'["link.ping", {}]'),
        wire.pack(wire.REQUEST, 1, SECOND.encode(), b"", b'["link.ping", {}]'),
        b"\x00\x00\x00" + b"\xff" * 64,
    ],
)
def test_who_breaks_the_protocol_loses_his_link_and_nothing_else(
    puppet: Puppet, admin: Admin, data: bytes
) -> None:
    puppet.join()
    puppet.sock.sendall(data)
    assert puppet.hangs_up()
    assert status(admin, "game1")["players"] <= 3


def test_an_application_may_ask_for_nothing_of_an_operator(puppet: Puppet) -> None:
    puppet.join()
    for message in (
        messages.OperateGroup("stop", "*", "*", "*", wide=True),
        messages.CallGm("*", "*", "game", "crash", "id", wide=True, sure=True),
        messages.OperateMachine("stop", [key("game1")], "ada", "x"),
        messages.ReadAudit(),
        messages.WatchEvents(),
        messages.DescribeProcess(key("game1"), "ada"),
    ):
        assert puppet.ask(message).code == "forbidden", message


def test_a_flood_of_events_is_dropped_and_counted_and_nobody_waits(
    group: Group, puppet: Puppet, admin: Admin
) -> None:
    watcher = group.admin(SECOND)
    watcher.call(messages.WatchEvents(name="puppet1"))
    puppet.join()
    body = messages.EventRaised("noise", "x" * 200)
    flooding = gevent.spawn(lambda: [puppet.send(wire.NOTICE, 0, body) for _ in range(20_000)])
    slowest = 0.0
    while not flooding.ready():
        began = time.monotonic()
        status(admin, "game1")
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5.0, "others are served meanwhile"

    def dropped() -> int:
        puppet.send(wire.NOTICE, 0, messages.EventRaised("last"))
        return sum(row[3]["count"] for row in watcher.events if row[2] == "events_dropped")

    until(lambda: dropped() > 15_000, 20, "it is told how many were dropped")
    told = sum(row[2] == "noise" for row in watcher.events)
    assert 100 <= told < 4_000, "the burst, and what is allowed in the seconds that it took"
    with group.globaldb.client() as client:
        until(lambda: client.llen(f"events:{key('puppet1')}") > 100, 15, "kept")
        assert client.llen(f"events:{key('puppet1')}") <= 1064


def test_answers_that_are_lies_or_megabytes_hurt_nobody(puppet: Puppet, admin: Admin) -> None:
    puppet.join()
    puppet.declare("x")

    def answered(reply: object) -> list:
        calling = gevent.spawn(call, admin, f"{FIRST}.puppet1", "x")
        frame, _request = puppet.next()
        puppet.answer(frame, reply)
        return calling.get(timeout=20)[key("puppet1")]

    verdict, answer, text = answered(messages.GmAnswer("y" * 200_000))
    assert (verdict, answer) == ("answered", None) and "longer than 65536" in text
    assert answered(messages.Error("refused", "no\nway\x1b[2J")) == ["refused", None, r"no\nway\x1b[2J"]
    assert answered(messages.Error("internal", "boom"))[0] == "unknown"
    assert answered(messages.EntryState("what?"))[0] == "unknown", "another reply than the one asked for"
    assert answered(messages.GmAnswer({"deep": [[[]]]}))[0] == "answered"


# ---- who dies, and when


def test_an_application_that_never_answers_costs_its_caller_and_nobody_else(
    puppet: Puppet, admin: Admin
) -> None:
    puppet.join()
    puppet.declare("x")
    calling = gevent.spawn(call, admin, f"{FIRST}.puppet1", "x", timeout=4.0)
    assert status(admin, "game1")["players"] <= 3
    verdict, _answer, text = calling.get(timeout=15)[key("puppet1")]
    assert verdict == "timed_out" and "may have run" in text


def test_who_has_saved_and_ended_before_the_daemon_could_read_it_is_believed(
    group: Group, puppet: Puppet, admin: Admin
) -> None:
    """Its word lies in the link, and its end is noticed by another way: the daemon stands still meanwhile."""
    (pid,) = group.pids(key("puppet1"))
    puppet.join()
    puppet.declare("x", saves=True)
    stopping = gevent.spawn(admin.operate, "stop", FIRST, "puppet1")
    frame, request = puppet.next()
    assert isinstance(request, messages.SaveProcess)
    group.daemon(FIRST).freeze()
    puppet.answer(frame, messages.ProcessSaved("all of it"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), what="it is gone")
    group.daemon(FIRST).thaw()
    outcome = stopping.get(timeout=20)[key("puppet1")]
    assert (outcome.result, outcome.detail) == ("ok", "saved, then signal KILL")


def test_an_application_that_dies_half_way_leaves_the_outcome_in_doubt(group: Group, admin: Admin) -> None:
    calling = gevent.spawn(call, admin, "game2", "slow", "20")
    until(lambda: status(admin, "game2")["executed"] >= 1, what="it runs")
    (pid,) = group.pids(key("game2"))
    admin.operate("kill", FIRST, pid=pid)
    verdict, _answer, text = calling.get(timeout=15)[key("game2")]
    assert verdict == "unknown" and "link to the daemon was lost" in text
    start(group, PLACES)
    again = call(admin, "game2", "crash")
    assert again[key("game2")][0] == "unknown"


def test_a_repeat_after_the_death_of_that_run_runs_nothing(group: Group, admin: Admin) -> None:
    calling = gevent.spawn(call, admin, "game2", "slow", "20", id="doubt-1")
    until(lambda: status(admin, "game2")["executed"] >= 1, what="it runs")
    admin.operate("kill", FIRST, pid=group.pids(key("game2"))[0])
    assert calling.get(timeout=15)[key("game2")][0] == "unknown"
    start(group, PLACES)
    verdict, _answer, text = call(admin, "game2", "slow", "20", id="doubt-1")[key("game2")]
    assert verdict == "unknown" and "run before this one" in text
    assert status(admin, "game2")["executed"] == 0


@pytest.mark.parametrize("hop", [FIRST, SECOND])
def test_a_daemon_killed_in_a_call_leaves_it_in_doubt_and_the_application_answers_once(
    group: Group, hop: str
) -> None:
    """Asked at 127.0.0.2 for game3 on 127.0.0.3: one of the two is killed while the game works at it."""
    admin, id_ = group.admin(FIRST), f"killed-{hop}"
    start(group, PLACES)
    before = status(admin, "game3")["executed"]
    (pid,) = group.pids(key("game3", SECOND))
    calling = gevent.spawn(call, admin, "game3", "slow", "2", id=id_)
    until(lambda: status(group.admin(SECOND), "game3")["executed"] == before + 1, what="it runs")
    group.daemon(hop).kill()
    if hop == FIRST:
        with pytest.raises(LinkLost, match="outcome unknown"):
            calling.get(timeout=20)
    else:
        verdict, _answer, text = calling.get(timeout=20)[key("game3", SECOND)]
        assert verdict == "unknown" and "lost its link to the router" in text
    group.start_daemon(hop)
    assert alive(pid), "the game noticed nothing"
    fresh = group.admin(FIRST)
    until(lambda: joined(fresh) >= {key("game1"), key("game3", SECOND)}, 20, "joined again")
    answer = call(fresh, "game3", "slow", "2", id=id_)[key("game3", SECOND)]
    assert answer == ["answered", {"slept": 2.0}, ""], "what became of it: the application knows"
    assert status(fresh, "game3")["executed"] == before + 1


def test_machines_that_cannot_be_reached_are_told_apart(group: Group) -> None:
    admin = group.admin(FIRST)
    start(group, PLACES)
    group.daemon(SECOND).kill()
    until(lambda: not admin.sees_online([SECOND]), 20, "offline")
    answers = call(admin, "game", "status")
    assert {place: answer[0] for place, answer in answers.items()} == {
        key("game1"): "answered",
        key("game2"): "answered",
        key("game3", SECOND): "unreachable",
    }
    group.start_daemon(SECOND)


def test_games_write_their_records_while_every_daemon_is_dead(group: Group, admin: Admin) -> None:
    for ip in (FIRST, SECOND):
        group.daemon(ip).kill()
    before = group.record(key("game1"))["lastupdate"]
    until(lambda: group.record(key("game1"))["lastupdate"] != before, 15, "its record is refreshed")
    for ip in (FIRST, SECOND):
        group.start_daemon(ip)
    again = group.admin(FIRST)
    until(lambda: again.verdicts()[key("game1")] == "RUNNING", 15, "RUNNING")
