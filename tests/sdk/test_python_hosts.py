"""Python: hosts and hostile peers. What needs real threads or asyncio runs as a small program of its own: the tests
themselves run under gevent."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent import wire
from sdk.python import agentsdk
from sdk.python.agentsdk import lookup
from sdk.python.agentsdk.identity import Identity
from sdk.python.agentsdk.link import MAX_OUT_BYTES
from tests.globaldb_servers import Server
from tests.sdk.servers import SDK, Game
from tests.sdk.stand_in import Application, Daemon, Listener
from tests.waiting import until

KEY = "大区1.1.game1"
PATIENCE_S = 1.0  # a poll that takes longer has waited for somebody


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


Run = Callable[..., Game]


@pytest.fixture
def run(tmp_path: Path, daemon: Daemon) -> Iterator[Run]:
    """Runs a program with an agent around it: `app` must be made by itself."""
    with ExitStack() as stack:

        def start(text: str, **environment: str) -> Game:
            environment = {
                "PYTHONPATH": str(SDK / "python"),
                "AGENT_DAEMON": daemon.address,
                "AGENT_PROCESS": KEY,
                "AGENT_INCARNATION": "inc",
                "AGENT_TOKEN": "token",
                **environment,
            }
            program = [sys.executable, "-c", textwrap.dedent(text)]
            return stack.enter_context(Game(program, tmp_path, **environment))

        yield start


def execute(app: Application, command: str, **arguments: object):
    return app.ask("gm.execute", id=os.urandom(8).hex(), command=command, arguments=arguments, user="ada")


@contextmanager
def polled(daemon: str = "", globaldb: str = "") -> Iterator[agentsdk.Application]:
    """An application in this process, polled by a greenlet, which no poll may hold up."""
    app = agentsdk.Application(Identity(KEY, daemon, "inc", "token", globaldb, 7), host="poll")
    longest = [0.0]
    ends = threading.Event()

    def loop() -> None:
        while not ends.wait(0.005):
            began = time.monotonic()
            app.poll()
            longest.append(time.monotonic() - began)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield app
    finally:
        ends.set()
        thread.join()
        app.close()
    assert max(longest) < PATIENCE_S


# ---- hosts


def test_handlers_may_be_coroutines_under_asyncio(run: Run, daemon: Daemon) -> None:
    run(
        """
        import asyncio, agentsdk

        async def main():
            app = agentsdk.join(host="asyncio")

            @app.command
            async def wait(seconds: float) -> str:
                await asyncio.sleep(seconds)
                return "waited"

            @app.command
            async def fail(how: str):
                await asyncio.sleep(0)
                if how == "refuse":
                    raise agentsdk.Refused("no")
                if how == "cancel":
                    raise asyncio.CancelledError
                1 / 0

            @app.command
            async def later():
                later = agentsdk.Later()
                asyncio.get_running_loop().call_later(0.01, later.answer, "later")
                return later

            @app.on_save
            async def save():
                for n in (1, 2):
                    app.progress(n, 2)
                    await asyncio.sleep(0.01)
                return "all"

            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    app = daemon.welcome()
    slow = app.request(
        "gm.execute", id="slow", command="wait", arguments={"seconds": 0.5}, user="ada", again=False
    )
    assert [execute(app, "fail", how=how).fields["code"] for how in ("refuse", "cancel", "crash")] == [
        "refused",
        "internal",
        "internal",
    ]
    assert execute(app, "later").fields["answer"] == "later"
    assert app.answer_to(slow).fields["answer"] == "waited"
    assert app.ask("process.save", id="1", reason="stop").fields["text"] == "all"
    assert [message.fields["done"] for message in app.inbox] == [1, 2]


def test_a_loop_may_be_told_before_it_runs(run: Run, daemon: Daemon) -> None:
    run(
        """
        import asyncio, agentsdk
        app = agentsdk.join(host="asyncio")
        app.command(lambda: "here", name="where")
        loop = asyncio.new_event_loop()
        app.attach(loop)
        loop.run_forever()
        """
    )
    assert execute(daemon.welcome(), "where").fields["answer"] == "here"


def test_a_loop_has_one_timer_and_the_sockets_that_are_open(run: Run, daemon: Daemon) -> None:
    run(
        """
        import asyncio, agentsdk

        async def main():
            app = agentsdk.join(host="asyncio")
            loop = asyncio.get_running_loop()

            @app.command
            def watched():
                timers = [timer for timer in loop._scheduled if not timer.cancelled()]
                return [len(timers), len(loop._selector.get_map())]

            await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    for _ in range(3):
        app = daemon.welcome()
        for _ in range(5):
            assert execute(app, "watched").fields["answer"] == [2, 2]  # its own sleep and self-pipe, and ours
        app.close()


def test_a_thread_that_is_busy_with_a_handler_still_reports(run: Run, daemon: Daemon, valkey: Server) -> None:
    """Handlers run in a thread of their own, one after the other; even one that wants to end the process does not."""
    run(
        """
        import threading, time, sys, agentsdk
        app = agentsdk.join(info=lambda: {"players": 0})
        app.command(lambda: time.sleep(1.5) or threading.current_thread().name, name="block")
        app.command(lambda: sys.exit(1), name="leave")
        app.command(lambda: "here", name="where")
        time.sleep(60)
        """
    )
    app = daemon.welcome(valkey.url, 0.1)
    block = app.request("gm.execute", id="1", command="block", arguments={}, user="ada", again=False)
    with valkey.client() as client:
        seen: set[str | None] = set()
        until(lambda: seen.add(client.hget(f"process:{KEY}", "lastupdate")) or len(seen) > 5)
    assert all(message.seq != block for message in app.inbox)
    assert app.answer_to(block).fields["answer"] == "agentsdk-handlers"
    assert execute(app, "leave").fields["code"] == "internal"
    assert execute(app, "where").fields["answer"] == "here"


def test_once_it_has_beaten_a_loop_that_hangs_is_silent(run: Run, daemon: Daemon, valkey: Server) -> None:
    run(
        """
        import time, threading, agentsdk
        app, goes = agentsdk.join(), threading.Event()
        goes.set()
        app.command(lambda: goes.clear(), name="hang")
        app.command(lambda: goes.set(), name="go")
        while True:
            goes.wait()
            app.beat()
            time.sleep(0.01)
        """
    )
    app = daemon.welcome(valkey.url, 0.1)
    with valkey.client() as client:

        def last() -> str | None:
            return client.hget(f"process:{KEY}", "lastupdate")

        first = until(last)
        until(lambda: last() != first)
        execute(app, "hang")
        until(lambda: stands(last))
        still = last()
        execute(app, "go")
        until(lambda: last() != still)


def stands(look: Callable[[], object]) -> bool:
    """Whether it is the same for a second, ten times as long as the rate."""
    first, until_at = look(), time.monotonic() + 1.0
    while time.monotonic() < until_at:
        time.sleep(0.05)
        if look() != first:
            return False
    return True


def test_a_forked_child_says_nothing_on_its_parents_link(run: Run, daemon: Daemon) -> None:
    game = run(
        """
        import os, time, agentsdk
        app = agentsdk.join(host="poll")
        def fork():
            if os.fork() == 0:
                for _ in range(20):
                    app.poll()
                    time.sleep(0.01)
                print("child", app.joined, app.event("from the child"), flush=True)
                os._exit(0)
            return os.wait()[1]
        app.command(fork)
        while True:
            app.poll()
            time.sleep(0.01)
        """
    )
    app = daemon.welcome()
    assert execute(app, "fork").fields["answer"] == 0
    assert execute(app, "fork").fields["answer"] == 0
    assert not app.inbox
    assert game.output() == "child False False\n" * 2


def test_a_sync_save_in_a_polled_loop_is_heard_while_it_goes_on(run: Run, daemon: Daemon) -> None:
    run(
        """
        import time, sys, agentsdk
        app = agentsdk.join(host="poll")
        @app.on_save
        def save():
            app.progress(1, 2, "half")
            sys.stdin.read()
        while True:
            app.poll()
            time.sleep(0.01)
        """.replace("sys.stdin.read()", "time.sleep(1.5)")
    )
    app = daemon.welcome()
    save = app.request("process.save", id="1", reason="stop")
    app.take("save.progressed")
    app.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        app.answer_to(save)
    app.sock.settimeout(15)
    assert app.answer_to(save).name == "process.saved"


def test_it_can_be_installed_and_imported_without_anything_else(tmp_path: Path) -> None:
    shutil.copytree(SDK / "python/agentsdk", tmp_path / "vendored/agentsdk")
    program = "import sys, vendored.agentsdk as a; a.join().event('x'); print('gevent' in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {program}"],
                          cwd=tmp_path, capture_output=True, text=True)  # fmt: skip
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_coroutine_that_nobody_can_await_is_an_error(daemon: Daemon) -> None:
    async def coroutine() -> None: ...

    with polled(daemon.address) as app:
        app.command(lambda: coroutine(), name="hidden")
        assert execute(daemon.welcome(), "hidden").fields["code"] == "internal"


def test_an_info_that_polls_changes_nothing() -> None:
    calls = []
    with Listener() as globaldb:
        app = agentsdk.Application(
            Identity(KEY, incarnation="inc", globaldb=globaldb.url),
            lambda: calls.append(app.poll()),
            host="poll",
        )
        until(lambda: app.poll() or calls)
        assert calls == [None]
        app.close()


# ---- events


def test_an_event_that_breaks_the_rules_is_not_sent(daemon: Daemon) -> None:
    with polled(daemon.address) as app:
        assert not app.event("too early")
        peer = daemon.welcome()
        until(lambda: app.joined)
        for name, data in (
            ("", 1),
            ("x" * 65, 1),
            ("a", "x" * 8191),
            ("a", float("nan")),
            ("a", {1}),
            (7, 1),
        ):
            assert app.event(name, data) is False  # type: ignore[arg-type]
        assert app.event("fits", "x" * 8190)
        assert peer.take("event.raised").fields["name"] == "fits"
        peer.close()
        until(lambda: not app.joined)
        assert not app.event("too late")


def test_a_daemon_that_does_not_read_gets_no_more_events_and_then_is_hung_up_on(daemon: Daemon) -> None:
    with polled(daemon.address) as app:
        app.command(lambda: "x" * 60_000, name="much")
        peer = daemon.welcome()
        out = app._engine.link.out
        until(
            lambda: sum(app.event("a", "x" * 8000) for _ in range(50)) == 0 and len(out) > MAX_OUT_BYTES // 3
        )
        assert app.joined and len(out) <= MAX_OUT_BYTES // 2 + 100
        for n in range(200):
            if app.joined:
                peer.request("gm.execute", id=str(n), command="much", arguments={}, user="ada", again=False)
        until(lambda: not app.joined)
        assert daemon.welcome()


# ---- hostile daemons


def test_a_daemon_that_never_answers_holds_up_nothing(daemon: Daemon) -> None:
    with polled(daemon.address) as app:
        peer = daemon.application()
        peer.take("session.join")
        assert not app.joined and app.poll() is None


def test_a_daemon_that_drips_holds_up_nothing(daemon: Daemon) -> None:
    with polled(daemon.address) as app:
        app.command(lambda: "here", name="where")
        peer = daemon.welcome()
        body = b'["gm.execute",{"id":"1","command":"where","arguments":{},"x":"' + b"x" * 900_000 + b'"}]'
        data = wire.pack(wire.REQUEST, 77, b"", b"", body)
        for at in range(0, len(data), 3000):
            peer.raw(data[at : at + 3000])
        assert peer.answer_to(77).fields["answer"] == "here"


@pytest.mark.parametrize(
    ("address", "trouble"),
    [
        ("nonsense", "host:port"),
        ("127.0.0.1:99999", "host:port"),
        ("127.0.0.1:1", "refused"),
        ("no-such-host.invalid:8889", ""),
    ],
)
def test_a_daemon_that_is_not_there_holds_up_nothing(
    address: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And it is told once."""
    with polled(address) as app:
        assert stands(lambda: app.joined)
    told = [
        record for record in caplog.records if record.name == "agentsdk"
    ]  # others may still be ending their links
    assert len(told) == 1 and not told[0].exc_info
    assert trouble in caplog.text


def test_each_address_of_a_name_is_tried(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (1, daemon.port)]
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *a, **k: found)
    with polled("game.example.com:8889") as app:
        daemon.welcome()
        until(lambda: app.joined)


def test_a_resolver_that_hangs_keeps_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(lookup.socket, "getaddrinfo", lambda *a, flags=0, **k: hang(asked, flags))
    monkeypatch.setattr("sdk.python.agentsdk.stream.CONNECT_S", 0.1)
    with polled("game.example.com:8889"):
        time.sleep(1.5)
    assert len(asked) == 1


def hang(asked: list, flags: int) -> list:
    if flags:
        raise socket.gaierror("not a number")
    asked.append(flags)
    time.sleep(5)
    return []


# ---- globaldb over TLS


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[Listener, ssl.SSLContext, Path]]:
    made = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made)
    with Listener() as listener:
        yield listener, context, made[0]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, signed by itself."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 -addext".split()
    words += ["subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return certificate, key


def test_globaldb_over_tls_is_verified(tls: tuple[Listener, ssl.SSLContext, Path]) -> None:
    listener, context, ca = tls
    url = f"rediss://:secret@{listener.address}"
    with polled(globaldb=f"{url}?ca={ca}"):
        sock = context.wrap_socket(listener.accept(), server_side=True)
        assert sock.recv(1000) == b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"
        sock.sendall(b"+OK\r\n")
        assert b"HMSET" in sock.recv(1000)
        sock.close()
    with polled(globaldb=url), pytest.raises(ssl.SSLError):
        context.wrap_socket(listener.accept(), server_side=True)


def test_a_globaldb_that_does_not_speak_tls_holds_up_nothing(
    tls: tuple[Listener, ssl.SSLContext, Path],
) -> None:
    listener, _, ca = tls
    with polled(globaldb=f"rediss://{listener.address}?ca={ca}"):
        silent = listener.accept()
        assert silent.recv(1)
        time.sleep(0.3)
        silent.sendall(b"-ERR what is this\r\n")
        assert until(lambda: listener.accept())  # it has hung up, and comes again


def test_an_authority_that_is_not_there_holds_up_nothing(daemon: Daemon) -> None:
    with polled(daemon.address, "rediss://127.0.0.1:1?ca=/nowhere.pem") as app:
        daemon.welcome()
        until(lambda: app.joined)
