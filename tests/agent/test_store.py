import datetime
import ipaddress
import itertools
import socket
import threading
import time
from contextlib import closing, suppress

import gevent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent import pool
from agent.errors import AgentError, StoreDown, StoreRefused
from agent.store import COMMON, Store
from tests.globaldb_servers import PASSWORD, QUOTED, free_port, redis_binary, running, valkey_binary
from tests.waiting import until


@pytest.fixture
def store(globaldb_url):
    with closing(Store(globaldb_url)) as store:
        yield store


def test_the_common_commands_do_what_they_say(store):
    store.ping()
    store.hset("h", "大区", "值")
    store.hmset("h", {"a": 1, "b": 2.5})
    assert store.hgetall("h") == {"大区": "值", "a": "1", "b": "2.5"} and store.hlen("h") == 3
    assert store.hget("h", "a") == "1" and store.hget("h", "x") is None and store.hget("none", "x") is None
    assert store.hmget("h", ["b", "x", "a"]) == ["2.5", None, "1"] and sorted(store.hkeys("h")) == [
        "a",
        "b",
        "大区",
    ]
    assert store.hexists("h", "a") and not store.hexists("h", "x")
    assert store.hincrby("h", "a", 4) == 5
    store.hdel("h", "a", "x")
    assert not store.hexists("h", "a")
    store.delete_hash("h")
    assert store.hgetall("h") == {}
    store.set("s", "v")
    assert store.get("s") == "v" and not store.setnx("s", "w") and store.setnx("t", "w")
    assert store.expire("s", 100) and 0 < store.ttl("s") <= 100 and store.ttl("t") < 0
    store.delete("s")
    assert store.get("s") is None
    assert store.rpush("l", "a") == 1 and store.rpush("l", "b") == 2 and store.llen("l") == 2
    assert store.lrange("l", -1, -1) == ["b"] and store.lpop("l") == "a" and store.lpop("none") is None


def test_more_fields_than_one_command_may_have(store):
    store.hmset("h", {f"f{i}": i for i in range(1201)})
    assert store.hlen("h") == 1201
    store.delete_hash("h")
    assert store.hlen("h") == 0


def test_a_pipeline_answers_in_order_however_long_it_is(store):
    store.pipeline(("HSET", "h", f"f{i}", i) for i in range(1203))
    assert store.pipeline(("HGET", "h", f"f{i}") for i in range(1203)) == [str(i) for i in range(1203)]
    assert store.pipeline([]) == []


def test_many_hashes_come_as_tuples_and_the_same_question_again_sees_new_values(store):
    store.pipeline(("HMSET", f"p{i}", "pid", i, "name", f"游戏{i}") for i in range(700))
    keys, fields = [f"p{i}" for i in range(701)], ("name", "none", "pid")
    expected = [(f"游戏{i}", None, str(i)) for i in range(700)] + [(None, None, None)]
    assert store.hmget_many(keys, fields) == expected
    store.hset("p0", "pid", "new")
    assert store.hmget_many(keys, fields)[0] == ("游戏0", None, "new")
    assert store.hmget_many([], fields) == []


def test_a_transaction_is_done_or_at_least_done_in_order(store):
    assert store.atomically([("HSET", "h", "a", 1), ("HINCRBY", "h", "a", 2)])[-1] == 3
    assert store.atomically([]) == []


def test_a_failing_transaction_leaves_no_trace_and_no_open_transaction(valkey):
    store = Store(valkey.url)
    with pytest.raises(StoreRefused):
        store.atomically([("HSET", "h", "a", 1), ("NONSENSE",)])
    assert store.hgetall("h") == {}
    assert store.has_transactions()


def test_what_a_server_does_not_have_is_done_without(common_server):
    store = Store(f"redis://common:{QUOTED}@127.0.0.1:{common_server.port}")
    assert not store.has_transactions() and store.clock() is None and store.clock() is None
    for refused in (
        ("TIME",),
        ("HELLO", "2"),
        ("CLIENT", "SETNAME", "x"),
        ("SELECT", "0"),
        ("MULTI",),
        ("KEYS", "*"),
        ("LTRIM", "l", "0", "1"),
        ("EVAL", "return 1", "0"),
        ("INFO",),
    ):
        with pytest.raises(StoreRefused):
            store.command(*refused)


def test_the_clock_of_a_server_that_has_one(valkey):
    store = Store(valkey.url)
    with closing(valkey.client()) as client:
        seconds, _ = client.time()
    assert abs(store.clock() - seconds) < 5


def test_a_refusal_in_a_pipeline_leaves_the_connection_in_step(store):
    store.set("text", "x")
    with pytest.raises(StoreRefused):
        store.pipeline([("HGET", "text", "a"), *([("HSET", "h", "a", 1)] * 600)])
    assert store.hget("h", "a") == "1"


def test_nothing_listens():
    port = free_port()
    with pytest.raises(StoreDown) as caught:
        Store(f"redis://:secret@127.0.0.1:{port}").ping()
    assert str(caught.value).startswith(
        f"globaldb redis://127.0.0.1:{port}: Connection refused (is it running?"
    )
    assert "secret" not in str(caught.value)


def test_an_unknown_host():
    with pytest.raises(StoreDown, match=r"nowhere\.invalid"):
        Store("redis://nowhere.invalid", timeout_s=2).ping()


def test_the_wrong_password_is_a_refusal_that_does_not_repeat_it(tmp_path):
    with running(valkey_binary(), tmp_path) as server:
        with closing(server.client()) as client:
            client.config_set("requirepass", PASSWORD)
        for url in (server.url, f"redis://:wrongwrong@127.0.0.1:{server.port}"):
            with pytest.raises(StoreRefused, match="password is wrong or missing") as caught:
                Store(url).ping()
            assert "wrongwrong" not in str(caught.value)
            with pytest.raises(StoreRefused, match="password is wrong or missing"):
                Store(url).has_transactions()
        Store(f"redis://:{QUOTED}@127.0.0.1:{server.port}").ping()


def test_a_restart_of_the_server_costs_the_next_caller_nothing(tmp_path):
    with running(valkey_binary(), tmp_path) as server:
        store = Store(server.url)
        store.ping()
        server.stop()
        with pytest.raises(StoreDown):
            store.ping()
        server.start()
        store.ping()
        server.stop()
        server.start()
        store.ping()


def test_a_lost_reply_is_said_and_nothing_is_sent_again(proxy, valkey):
    store = Store(proxy.url)
    store.ping()
    proxy.spoil = "swallow"
    with pytest.raises(StoreDown):
        store.hincrby("h", "n", 1)
    proxy.spoil = ""
    assert store.hget("h", "n") == "1"


@pytest.fixture
def asked_again_at_once(monkeypatch):
    monkeypatch.setattr(pool, "HUNG_S", 0.0)


def test_after_one_time_out_the_next_are_told_at_once_and_then_it_is_asked_again(proxy, monkeypatch):
    monkeypatch.setattr(pool, "HUNG_S", 0.8)
    store = Store(proxy.url, timeout_s=0.5)
    store.ping()
    proxy.spoil = "halve"
    with pytest.raises(StoreDown):
        store.ping()
    began, asked = time.monotonic(), proxy.connections
    for _ in range(5):
        with pytest.raises(StoreDown, match=r"no answer within 0.5 s"):
            store.ping()
    assert time.monotonic() - began < 0.5 and proxy.connections == asked
    proxy.spoil = ""
    until(lambda: outcome(store.ping) is None, 5)


def test_half_a_reply_never_answers_the_next_question(proxy, valkey, asked_again_at_once):
    with closing(Store(valkey.url)) as direct:
        direct.hset("h", "a", "x" * 1000)
        direct.hset("h", "b", "right")
    store = Store(proxy.url, timeout_s=0.3)
    store.ping()
    proxy.spoil = "halve"
    with pytest.raises(StoreDown, match=r"no answer within 0.3 s"):
        store.hget("h", "a")
    proxy.spoil = ""
    assert store.hget("h", "b") == "right" and proxy.connections == 2


def test_what_was_given_up_is_not_delivered_later():
    """Closing resets the connection, so the kernel does not go on delivering for minutes after we gave up."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        store = Store(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        job = gevent.spawn(outcome, lambda: store.set("k", "x" * 50_000_000))
        peer, _ = listener.accept()
        assert isinstance(job.get(), StoreDown)
        delivered = 0
        with peer, suppress(ConnectionResetError):
            while data := peer.recv(1 << 20):
                delivered += len(data)
        assert delivered < 200_000


def outcome(call):
    try:
        return call()
    except AgentError as error:
        return error


class Late:
    """Answers a connection's first request only when a second one comes on it, and wrongly for that one."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = []
        self._is_first = True
        gevent.spawn(self._serve)

    def _serve(self):
        while True:
            peer, _ = self._listener.accept()
            gevent.spawn(self._talk, peer, self._is_first)
            self._is_first = False

    def _talk(self, peer, is_first):
        answers = iter([b"", b"$5\r\nwrong\r\n"] if is_first else [b"$5\r\nright\r\n"])
        while data := peer.recv(1000):
            self.requests.append(data)
            peer.sendall(next(answers))


def test_a_late_reply_never_answers_the_next_question(asked_again_at_once):
    late = Late()
    store = Store(late.url, timeout_s=0.2)
    assert isinstance(outcome(lambda: store.hget("h", "a")), StoreDown)
    assert store.hget("h", "b") == "right"


def test_nothing_is_sent_but_what_was_asked():
    """No HELLO, no CLIENT SETINFO, no SELECT: SSDB has none of them."""
    late = Late()
    outcome(lambda: Store(late.url, timeout_s=0.2).hget("h", "a"))
    assert late.requests == [b"*3\r\n$4\r\nHGET\r\n$1\r\nh\r\n$1\r\na\r\n"]


class Ready:
    """A connection whose replies are all there already, so that reading them never waits."""

    def __init__(self):
        self._parser = self

    def send_packed_command(self, _blobs, check_health):
        pass

    def read_many(self, count):
        return ["reply"] * count


def test_replies_that_are_there_already_leave_others_their_turn():
    turns = []
    other = gevent.spawn(lambda: [(turns.append(1), gevent.sleep(0)) for _ in range(1000)])
    Store()._pool._converse(Ready(), [(b"", 1)] * 50, str)
    assert len(turns) >= 49
    other.kill()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02", b"*-7\r\n", b"$x\r\n"]
)
def test_something_else_listens_there(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            peer, _ = listener.accept()
            peer.recv(1000)
            peer.sendall(answer)
            peer.close()

        gevent.spawn(serve)
        with pytest.raises(StoreDown, match=f"redis://127.0.0.1:{port}: "):
            Store(f"redis://127.0.0.1:{port}", timeout_s=1).hget("h", "a")


def test_tls_with_an_authority_of_ones_own(tmp_path):
    name, key_file, certificate_file = "127.0.0.1", tmp_path / "key.pem", tmp_path / "cert.pem"
    _make_certificate(name, key_file, certificate_file)
    port = free_port()
    lines = (
        f"tls-port {port}",
        f"tls-cert-file {certificate_file}",
        f"tls-key-file {key_file}",
        "tls-auth-clients no",
    )
    with running(redis_binary(), tmp_path, *lines):
        store = Store(f"rediss://127.0.0.1:{port}?ca={certificate_file}")
        store.pipeline(("HSET", "h", f"f{i}", "值" * 100) for i in range(1200))
        assert store.hlen("h") == 1200
        store.close()
        with pytest.raises(StoreDown, match="certificate"):
            Store(f"rediss://127.0.0.1:{port}").ping()


def _make_certificate(ip, key_file, certificate_file):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(form, serialization.PrivateFormat.PKCS8, plain))
    certificate_file.write_bytes(certificate.public_bytes(form))


def test_a_time_out_of_the_callers_own_throws_the_connection_away(proxy, valkey):
    store = Store(proxy.url, timeout_s=10)
    store.hset("h", "b", "right")
    proxy.spoil = "halve"
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        store.hget("h", "b")
    proxy.spoil = ""
    assert store.hget("h", "b") == "right"


def test_many_greenlets_at_once_each_get_their_own_answer(valkey):
    store = Store(valkey.url)
    store.hmset("h", {f"f{i}": i for i in range(300)})
    jobs = [gevent.spawn(store.hget, "h", f"f{i}") for i in range(300)]
    gevent.joinall(jobs, raise_error=True)
    assert [job.value for job in jobs] == [str(i) for i in range(300)]


def test_a_large_read_lets_others_run_in_between(valkey):
    store = Store(valkey.url)
    turns = itertools.count()
    others = gevent.spawn(lambda: [(next(turns), gevent.sleep(0)) for _ in itertools.count()])
    gevent.sleep(0)
    before = next(turns)
    store.hmget_many([f"p{i}" for i in range(20_000)], ("a",))
    others.kill()
    assert next(turns) - before > 20


def test_busy_connections_are_waited_for_and_then_said(proxy, asked_again_at_once):
    store = Store(proxy.url, timeout_s=0.4)
    proxy.spoil = "halve"
    jobs = [gevent.spawn(outcome, store.ping) for _ in range(12)]
    assert all(isinstance(job.get(), StoreDown) for job in jobs)
    assert any("connections were busy" in str(job.get()) for job in jobs)
    proxy.spoil = ""
    store.ping()


def test_it_works_in_threads_as_well(valkey):
    store, seen = Store(valkey.url), []
    threads = [threading.Thread(target=lambda: seen.append(store.rpush("l", "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 9))


def test_what_is_not_utf8_in_globaldb_can_still_be_read(valkey):
    with closing(valkey.client()) as client:
        client.hset("h", "a", b"\xff!")
    assert Store(valkey.url).hget("h", "a") == "�!"


def test_half_a_character_is_refused_before_anything_is_sent(valkey):
    store = Store(valkey.url)
    with pytest.raises(StoreRefused, match="surrogate"):
        store.pipeline([("SET", "a", "1"), ("SET", "b", "\ud800")])
    assert store.get("a") is None


def test_every_command_of_the_store_is_a_common_one():
    own = {name.upper() for name in vars(Store) if not name.startswith("_")}
    others = {
        "PIPELINE",
        "COMMAND",
        "ATOMICALLY",
        "CLOCK",
        "CLOSE",
        "HAS_TRANSACTIONS",
        "HMGET_MANY",
        "DELETE_HASH",
    }
    assert own - others - {"DELETE"} <= COMMON


def test_a_connection_on_which_something_came_unasked_is_not_used_again(valkey):
    store = Store(valkey.url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        stranger, _ = server.accept()
        with client, stranger:
            store.ping()
            (idle,) = store._pool._idle
            idle._sock, real = client, idle._sock
            real.close()
            stranger.sendall(b"+PONG\r\n")
            until(lambda: client.recv(1, socket.MSG_PEEK))
            store.ping()
            assert idle not in store._pool._idle
