"""Who is admitted, who takes whose place, and what everybody is told; over a real globaldb."""

import gevent
import pytest

from agent import codec, messages
from agent.errors import Refused
from agent.globaldb import GlobalDb
from agent.handshake import Identity
from agent.messages import Hello
from agent.store import Store
from agent.world import World
from roles.router import state as state_module
from roles.router.state import RouterState
from roles.router.verifier import Verifiers
from tests.globaldb_servers import running, valkey_binary
from tests.roles.router.test_relay import Pipe
from tests.waiting import until

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"


def configure(globaldb, *ips):
    document = {"programs": {"game": {"command": ["x"]}},
                "world": {"大区1": {ip: [{"name": "g", "type": "game"}] for ip in ips}}}  # fmt: skip
    globaldb.write_world(World.from_document(document), globaldb.read_world())


@pytest.fixture
def router(valkey, tmp_path):
    globaldb = GlobalDb(Store(valkey.url))
    configure(globaldb, A, B)
    made = RouterState(globaldb, Verifiers(b"s" * 32, tmp_path))
    made.read_world()
    made.pipes = []
    yield made
    for pipe in made.pipes:
        pipe.end()


def join(router, ip, incarnation=1, address=""):
    address = address or f"{ip}:5000"
    router.admit(Identity("daemon", ip, "1", incarnation), address)
    pipe = Pipe(ip)
    pipe.peer.incarnation, pipe.peer.address = incarnation, address
    router.pipes.append(pipe)
    router.enter(pipe)
    return pipe


def refusal(router, ip, incarnation=1, address=""):
    with pytest.raises(Refused) as refused:
        join(router, ip, incarnation, address)
    return str(refused.value)


def test_only_daemons_are_greeted(router):
    for role in ("admin", "router", "", "Daemon"):
        with pytest.raises(Refused, match="the router serves daemons only"):
            router.greet(Hello(1, role, A, ""), f"{A}:1")


def test_a_machine_that_is_not_in_the_world_fits_no_key_until_it_is(router, monkeypatch):
    known = router.verifier("daemon", A)
    stranger = router.verifier("daemon", C)
    assert router.verifier("daemon", A) == known
    assert router.verifier("daemon", C).stored_key != stranger.stored_key
    configure(router._globaldb, A, B, C)
    monkeypatch.setattr(state_module, "FRESH_S", 0.0)
    assert router.verifier("daemon", C) == router.verifier("daemon", C)


def test_strangers_do_not_make_us_read_the_world_as_often_as_they_like(router, monkeypatch):
    reads = []
    read = router._globaldb.read_ips
    monkeypatch.setattr(router._globaldb, "read_ips", lambda: reads.append("") or read())
    for number in range(200):
        router.verifier("daemon", f"10.9.9.{number}")
        router.verifier("daemon", "no ip at all \x00")
    assert len(reads) <= 1


def test_a_daemon_must_come_from_its_own_ip(router):
    text = refusal(router, A, address="10.0.0.77:5000")
    assert "from 10.0.0.77, not from 10.0.0.1" in text and "--any-address" in text
    router._check_address = False
    join(router, A, address="10.0.0.77:5000")


def test_the_newest_wins_and_the_old_one_is_heard_no_more(router):
    old = join(router, A, 1)
    new = join(router, A, 2)
    assert router.links == {A: new} and old._retired
    until(lambda: any(isinstance(codec.decode(f.body)[0], messages.Goodbye) for f in old.written()))
    router.leave(old, "replaced")
    assert router.links == {A: new}


def test_of_two_admitted_at_the_same_time_the_newer_stays_whoever_comes_in_last(router):
    new = join(router, A, 2)
    old = Pipe(A)
    old.peer.incarnation, old.peer.address = 1, f"{A}:6000"
    router.pipes.append(old)
    router.enter(old)  # its admission was before the newer one was here
    assert router.links == {A: new} and old._retired and not new._retired


def test_a_replaced_daemon_that_comes_back_is_reported_as_a_second_one(router, caplog):
    join(router, A, 2, f"{A}:1")
    assert f"a newer daemon for {A} is connected" in refusal(router, A, 1, f"{A}:2")
    assert router.presence()[A]["rival"] == f"{A}:2"
    assert "TWO DAEMONS" in caplog.text


def test_wrong_keys_lock_an_address_out_for_a_while(router):
    for _ in range(state_module.TRIES):
        router.greet(Hello(1, "daemon", A, ""), "10.0.0.9:1")
        router.failed("daemon", A, "10.0.0.9:1")
    with pytest.raises(Refused, match="too many failed logins"):
        router.greet(Hello(1, "daemon", A, ""), "10.0.0.9:2")
    router.greet(Hello(1, "daemon", A, ""), f"{A}:1")


def test_everybody_is_told_who_came_and_went_in_one_notice(router):
    first, second = join(router, A), join(router, B)
    announcing = gevent.spawn(router.announce)
    until(lambda: len(first.written()) == 1)
    router.leave(second, "gone")
    router.pipes.remove(second)
    until(lambda: len(first.written()) == 2)
    announcing.kill()
    second.end()
    told = [codec.decode(frame.body)[0] for frame in first.written()]
    assert [(set(each.joined), each.left) for each in told] == [({A, B}, []), (set(), [B])]


def test_a_machine_taken_out_of_the_world_is_let_go(router, monkeypatch):
    monkeypatch.setattr(state_module, "WORLD_S", 0.02)
    gone, stays = join(router, B), join(router, A)
    following = gevent.spawn(router.follow_world)
    configure(router._globaldb, A)
    until(lambda: gone._retired)
    until(lambda: any("no longer in the world" in str(codec.decode(f.body)[0]) for f in gone.written()))
    assert not stays._retired and not following.dead
    following.kill()


def test_an_emptied_world_is_taken_for_a_mistake(router, caplog):
    join(router, A)
    router._globaldb.store.delete_hash("world")
    router.read_world()
    assert router._ips == {A, B} and "was it emptied by mistake?" in caplog.text


def test_a_full_disk_does_not_stop_the_router(router, monkeypatch, caplog):
    monkeypatch.setattr(state_module, "WORLD_S", 0.01)
    tries = []

    def full():
        tries.append("")
        raise OSError(28, "No space left on device: writing verifiers")

    monkeypatch.setattr(router._verifiers, "save", full)
    following = gevent.spawn(router.follow_world)
    until(lambda: len(tries) > 5)
    assert not following.dead
    following.kill()
    assert caplog.text.count("No space left on device") == 1


def test_globaldb_may_go_away_and_the_known_machines_stay_known(tmp_path, caplog):
    with running(valkey_binary(), tmp_path / "globaldb", "appendonly yes") as server:
        globaldb = GlobalDb(Store(server.url))
        configure(globaldb, A)
        router = RouterState(globaldb, Verifiers(b"s" * 32, tmp_path))
        router.wait_for_world()
        server.stop()
        assert not router._try_world() and not router._try_world()
        assert router._configured(A) and not router._configured(B)
        server.start()
        assert router._try_world()
    assert caplog.text.count("going on with 1 known machines") == 1


def test_the_routers_table_says_who_may_ask_what():
    from roles.router.handlers import TABLE

    rows = {codec.NAME_OF[row.message]: set(row.ask) for row in TABLE.rows.values()}
    assert rows == {
        "presence.read": {"daemon"},
        "link.ping": {"router", "daemon", "admin", "app"},
        "link.goodbye": {"router", "daemon", "admin", "app"},
    }
