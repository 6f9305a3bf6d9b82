import json
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest

from agent import globaldb as module
from agent.errors import ConfigError, StoreDown
from agent.globaldb import RECORD_FIELDS, GlobalDb
from agent.grant import Grant
from agent.pool import MAX_UNANSWERED, Pool
from agent.store import COMMON, Store
from agent.task import Task
from agent.user import new_user
from agent.world import World

KEY = "大区1.10.0.0.1.game1"


@pytest.fixture
def db(globaldb_url):
    store = Store(globaldb_url)
    yield GlobalDb(store)
    store.close()


@pytest.fixture
def plain(valkey):
    """On Valkey, with the store behind it."""
    store = Store(valkey.url)
    yield GlobalDb(store)
    store.close()


def world(*names, ip="10.0.0.1", region="大区1", program="game"):
    entries = [{"name": name, "type": program} for name in names]
    return World.from_document({"programs": {program: {"command": ["x"]}}, "world": {region: {ip: entries}}})


def test_a_world_comes_back_as_it_was_written(db):
    assert db.read_world() == World()
    first = world("game1", "game2")
    assert db.write_world(first, db.read_world()) is db.store.has_transactions()
    assert db.read_world() == first and not db.read_world().problems
    second = world("game3", ip="10.0.0.2", region="大区2", program="gate")
    db.write_world(second, db.read_world())
    assert db.read_world() == second
    assert db.store.hgetall("world:大区1") == {} and db.read_ips() == {"10.0.0.2"}
    db.write_world(World(), db.read_world())
    assert db.read_world() == World()


def test_an_unchanged_world_is_the_very_same_object(db):
    db.write_world(world("game1"), db.read_world())
    assert db.read_world() is db.read_world()
    before = db.read_machine("10.0.0.1")
    assert db.read_machine("10.0.0.1") is before
    db.write_world(world("game1", "game2"), db.read_world())
    assert db.read_machine("10.0.0.1") is not before


def test_a_daemon_reads_its_own_machine_only(db):
    two = World.from_document(
        {
            "programs": {"game": {"command": ["x"]}},
            "world": {r: {ip: [{"name": "g", "type": "game"}] for ip in ips} for r, ips in
                      {"a": ["10.0.0.1", "10.0.0.2"], "b": ["10.0.0.1"], "c": ["10.0.0.3"]}.items()},
        }
    )  # fmt: skip
    db.write_world(two, db.read_world())
    part = db.read_machine("10.0.0.1")
    assert [process.key for process in part.processes()] == ["a.10.0.0.1.g", "b.10.0.0.1.g"]
    assert part.programs and set(part.regions) == {"a", "b"}
    assert db.read_machine("10.9.9.9").ips() == set() and db.read_ips() == {
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
    }


def test_a_daemon_reads_its_machine_in_one_exchange_and_misses_no_region_that_came_or_went(db, monkeypatch):
    exchanges = []
    pipeline = db.store.pipeline
    monkeypatch.setattr(
        db.store, "pipeline", lambda commands: exchanges.append(1) or pipeline(list(commands))
    )

    def regions_read():
        exchanges.clear()
        return set(db.read_machine("10.0.0.1").regions), len(exchanges)

    def write(*regions):
        there = {region: {"10.0.0.1": [{"name": "g", "type": "game"}]} for region in regions}
        document = {"programs": {"game": {"command": ["x"]}}, "world": there}
        db.write_world(World.from_document(document), db.read_world())

    write("a")
    assert regions_read() == ({"a"}, 2)
    assert regions_read() == ({"a"}, 1)
    write("a", "b")
    assert regions_read() == ({"a", "b"}, 2)
    write("b")
    assert regions_read() == ({"b"}, 1)


def test_what_was_edited_by_hand_and_broken_is_replaced_by_an_import(db):
    db.write_world(world("game1"), db.read_world())
    db.store.hset("world:大区1", "10.0.0.2", "[not json")
    db.store.hset("world:大区1", "not an ip", "[]")
    db.store.hset("world", "b d", "{}")
    db.store.hset("world:b d", "10.0.0.1", "[]")
    db.store.hset("program", "old", "{")
    broken = db.read_world()
    assert len(broken.problems) == 5 and broken.process(KEY)
    db.write_world(world("game1"), broken)
    assert (
        not db.read_world().problems
        and db.store.hgetall("world:b d") == {}
        and db.store.hlen("world:大区1") == 1
    )


def test_no_reader_ever_sees_a_process_without_its_program(plain, monkeypatch):
    """Where nothing is atomic: after each single command the world can be used."""
    monkeypatch.setattr(Store, "has_transactions", lambda self: False)
    monkeypatch.setattr(Store, "atomically", _one_by_one(plain))
    worlds = [
        World(),
        world("game1"),
        world("game1", "game2", program="gate"),
        world("x", region="大区2"),
        World(),
    ]
    for old, new in pairwise(worlds):
        assert plain.read_world() == old
        plain.write_world(new, plain.read_world())
        assert plain.read_world() == new


def _one_by_one(db):
    def atomically(store, commands):
        for command in list(commands):
            store.command(*command)
            seen = GlobalDb(store).read_world()
            assert not seen.problems, (command, seen.problems)

    return atomically


def test_an_import_that_breaks_off_is_completed_by_a_repetition(plain, monkeypatch):
    monkeypatch.setattr(Store, "has_transactions", lambda self: False)
    plain.write_world(world("game1"), plain.read_world())
    target = world("game7", "game8", ip="10.0.0.7", region="大区7", program="gate")
    commands = list(plain._write_commands(target, plain.read_world()))
    assert len(commands) > 3
    for done in range(len(commands)):
        plain.write_world(world("game1"), plain.read_world())
        for command in list(plain._write_commands(target, plain.read_world()))[:done]:
            plain.store.command(*command)
        plain.write_world(target, plain.read_world())
        assert plain.read_world() == target


def test_records_are_written_and_read_by_field(db):
    db.write_records({KEY: {"pid": 7, "wanted": "up"}, "b.10.0.0.2.x": {"pid": 8}})
    db.write_records({KEY: {"info": '{"online":1}'}})
    assert db.read_records([KEY, "none"], ("wanted", "pid", "info")) == [
        ("up", "7", '{"online":1}'),
        (None, None, None),
    ]
    assert len(db.read_records([KEY])[0]) == len(RECORD_FIELDS)


def test_startcounts_are_raised_to_their_targets_once(db):
    for targets in ({KEY: 3, "b.10.0.0.2.x": 1}, {KEY: 3}, {KEY: 2}):
        db.raise_startcounts(targets)
    assert db.read_startcounts([KEY, "b.10.0.0.2.x", "none"]) == {KEY: 3, "b.10.0.0.2.x": 1, "none": 0}


def test_a_startcount_that_is_no_number_is_replaced(db):
    db.store.hset(f"process:{KEY}", "startcount", "rubbish")
    assert db.read_startcounts([KEY]) == {KEY: 0}
    db.raise_startcounts({KEY: 2})
    assert db.read_startcounts([KEY]) == {KEY: 2}


def test_a_start_is_counted_once_though_the_reply_was_lost(proxy, monkeypatch):
    db = GlobalDb(Store(proxy.url, timeout_s=1))
    pipeline = Store.pipeline

    def only_increments_lose_their_reply(store, commands):
        todo = list(commands)
        proxy.spoil = "swallow" if todo and todo[0][0] == "HINCRBY" else ""
        return pipeline(store, todo)

    for target in (1, 2, 3):
        monkeypatch.setattr(Store, "pipeline", only_increments_lose_their_reply)
        with pytest.raises(StoreDown):
            db.raise_startcounts({KEY: target})
        monkeypatch.setattr(Store, "pipeline", pipeline)
        proxy.spoil = ""
        db.raise_startcounts({KEY: target})
        assert db.read_startcounts([KEY]) == {KEY: target}


def test_the_index_keeps_the_time_of_the_first_entry(db):
    db.add_to_index([KEY, "b.10.0.0.2.x"], 100)
    db.add_to_index([KEY, "c.10.0.0.3.x"], 200)
    assert db.read_index() == {KEY: "100", "b.10.0.0.2.x": "100", "c.10.0.0.3.x": "200"}
    db.write_records({KEY: {"pid": 7}})
    db.forget_record(KEY)
    assert KEY not in db.read_index() and db.store.hgetall(f"process:{KEY}") == {}


def test_machines(db):
    db.write_machine("10.0.0.1", '{"load":1}', 1.5)
    assert db.read_machines(["10.0.0.1", "10.0.0.2"]) == {
        "10.0.0.1": ('{"load":1}', "1.5"),
        "10.0.0.2": (None, None),
    }


def test_users_are_kept_without_their_password(db):
    user = new_user("li.wei", "correct horse", ["start on 大区1:*"])
    db.write_user(user)
    assert db.read_user("li.wei") == user and db.read_user("nobody") is None and db.read_user("a b") is None
    assert "correct" not in db.store.hget("user", "li.wei")
    assert db.read_user("li.wei").grants == (Grant.parse("start on 大区1:*"),)
    db.store.hset("user", "broken", "{}")
    users, problems = db.read_users()
    assert users == [user] and len(problems) == 1 and "broken" in problems[0]
    with pytest.raises(ConfigError, match="damaged"):
        db.read_user("broken")
    db.remove_user("li.wei")
    assert db.read_user("li.wei") is None


def test_the_audit_is_bounded(db, monkeypatch):
    monkeypatch.setattr(module, "AUDIT_LINES", 10)
    monkeypatch.setattr(module, "AUDIT_SLACK", 3)
    for i in range(13):
        db.append_audit({"n": i})
    assert db.store.llen("audit") == 13
    db.append_audit({"n": 13}, {"n": "大区"})
    assert db.store.llen("audit") == 10
    db.store.rpush("audit", "by hand")
    assert db.read_audit(3) == [{"n": 13}, {"n": "大区"}, {"text": "by hand"}] and db.read_audit(0) == []


def test_events_are_kept_by_process_and_told_in_the_order_of_their_time(db):
    other = "大区1.10.0.0.1.game2"
    db.append_events(
        {KEY: [json.dumps([1.5, "boot", None]), json.dumps([3, "大", {"a": [1]}])], other: ['[2, "x", 0]']}
    )
    assert db.read_events([KEY, other], 50) == [
        [KEY, 1.5, "boot", None], [other, 2.0, "x", 0], [KEY, 3.0, "大", {"a": [1]}]
    ]  # fmt: skip
    assert db.read_events([KEY, "大区1.10.0.0.1.none"], 1) == [[KEY, 3.0, "大", {"a": [1]}]]
    assert db.read_events([], 50) == []
    db.forget_record(KEY)
    assert db.read_events([KEY, other], 50) == [[other, 2.0, "x", 0]]


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "5", "[1, 2]", '["1", "x", 0]', '[null, "x", 0]', '[1, 2, 0]', '[NaN, "x", 0]', '[-1, "x", 0]',
     '[1e300, "x", 0]', "[1" + "0" * 400 + ', "x", 0]', "[" * 5000, '{"a": 1, "b": 2, "c": 3}'],
)  # fmt: skip
def test_what_is_no_event_is_passed_over(plain, text):
    plain.store.rpush(f"events:{KEY}", text)
    plain.append_events({KEY: ['[1, "x", 0]']})
    assert plain.read_events([KEY], 50) == [[KEY, 1.0, "x", 0]]


def test_the_newest_thousand_events_of_each_process_are_kept(db):
    for at in range(0, 1200, 100):
        db.append_events({KEY: [f'[{i}, "x", 0]' for i in range(at, at + 100)]})
        assert db.store.llen(f"events:{KEY}") <= module.KEPT_EVENTS + module.EVENTS_SLACK
    db.append_events({KEY: ['[9999, "last", 0]'] * 70})
    assert db.store.llen(f"events:{KEY}") == 1000
    kept = db.read_events([KEY], 5000)
    assert len(kept) == 1000 and kept[0][1] == 270.0 and kept[-1][1:3] == [9999.0, "last"]


def test_tasks_are_kept_by_process(db):
    task = Task("a1", "drain", KEY, "ada", begun_at=1.5, notice="维护", phase="waiting")
    db.write_task(task)
    db.write_task(Task("b2", "restart", "b.10.0.0.2.x", "ada"))
    db.write_task(replace(task, players=3))
    assert db.read_tasks() == {
        KEY: replace(task, players=3),
        "b.10.0.0.2.x": Task("b2", "restart", "b.10.0.0.2.x", "ada"),
    }
    db.store.hset("task", "c.10.0.0.3.y", "rubbish")
    db.store.hset("task", "d.10.0.0.4.z", task.json())  # of another process
    assert set(db.read_tasks()) == {KEY, "b.10.0.0.2.x"}
    db.forget_task("b.10.0.0.2.x"), db.forget_record(KEY)
    assert db.read_tasks() == {} and len(db.store.hgetall("task")) == 2


def test_nothing_is_asked_that_ssdb_answers_wrongly(plain, monkeypatch):
    """Every command that the data contract ever sends, looked at one by one."""
    seen, real = [], Pool.pack
    monkeypatch.setattr(Store, "has_transactions", lambda self: False)
    monkeypatch.setattr(
        Pool, "pack", lambda self, commands: seen.append(list(map(tuple, commands))) or real(self, commands)
    )
    monkeypatch.setattr(module, "AUDIT_LINES", 2)
    monkeypatch.setattr(module, "AUDIT_SLACK", 0)
    plain.write_world(world(*(f"g{i}" for i in range(50))), plain.read_world())
    plain.write_world(World(), plain.read_world())
    (
        plain.read_machine("10.0.0.1"),
        plain.read_ips(),
        plain.read_index(),
        plain.read_users(),
        plain.read_user("a"),
    )
    plain.write_records({f"r.10.0.0.1.g{i}": {"pid": 1, "wanted": "up"} for i in range(1200)})
    plain.read_records([f"r.10.0.0.1.g{i}" for i in range(1200)])
    plain.add_to_index([KEY], 1), plain.raise_startcounts({KEY: 2}), plain.forget_record(KEY)
    plain.write_machine("10.0.0.1", "{}", 1), plain.read_machines(["10.0.0.1"])
    plain.write_user(new_user("a", "12345678")), plain.remove_user("a")
    plain.append_audit({}, {}, {}, {}), plain.read_audit(1)
    monkeypatch.setattr(module, "KEPT_EVENTS", 2)
    plain.append_events({KEY: ["[1, 2, 3]"] * 1200}), plain.read_events([KEY], 1)
    plain.write_task(Task("a", "drain", KEY, "u")), plain.read_tasks(), plain.forget_task(KEY)
    assert max(map(len, seen)) <= MAX_UNANSWERED // 2
    for command in (command for chunk in seen for command in chunk):
        assert command[0] in COMMON, command
        assert command[0] not in ("HSET",) or len(command) == 4, command
        assert command[0] not in ("DEL", "EXPIRE", "TTL"), command
        assert command[0] not in ("SET",) or len(command) == 3, command
        assert command[0] not in ("LPOP", "HLEN", "HGETALL", "HKEYS", "LLEN") or len(command) == 2, command
        assert len(command) <= 2 + 2 * MAX_UNANSWERED, command


def test_everything_survives_a_server_with_wrong_types(plain, valkey):
    with closing(valkey.client()) as client:
        client.hset("user", "x", json.dumps([1]))
        client.hset("program", "x", "7")
    assert plain.read_users()[0] == [] and len(plain.read_world().problems) == 1
