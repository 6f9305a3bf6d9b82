#!/usr/bin/env python3
"""Runs a teeworlds or DDNet server under the agent: its external console (econ) becomes GM commands.

    daemon ◄── GM commands, entry, record ── econ_bridge.py ──► econ on loopback ──► the server, its child
                                                   ◄── stdout, without our own questions ──┘

    econ_bridge.py [--poll S] [--econ-bind ADDRESS] [--econ-port PORT] SERVER [WORD…]

The server is one that knows nothing of us. It is a child in our session and ends with us; we end with its exit code.
econ's password is new at each start, and stands for a moment in a file that only we may read, never in `ps`.

A question to econ is a window: `echo A`, the commands, `echo B`; what the server says between A and B is the answer.
One window is out at a time. Rules for who changes this:
- Nothing of what operators or players wrote gets into a line unquoted (`quoted`, `one_command`), or twice into one.
- The record is refreshed only for an answer of econ: a server that hangs is silent, whatever we could still say.
- What was sent and not answered is never called refused without saying that it may have run.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

try:
    import agentsdk
except ImportError:  # as it lies in the repository
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk" / "python"))
    import agentsdk

TICK_S = 0.05
HUNG_S = 5.0  # without an answer
RETRY_S = 0.5
LOGIN_S = 10.0  # it has lost its tongue: connect anew
SHUTDOWN_S = 3.0  # what `shutdown` has, before SIGTERM
LOADED_S = 0.3  # a map is loaded in the server's next turn
MAX_TEXT = 400  # bytes of an argument; econ hangs up on lines of about 1,400
MAX_LINES = 200  # of an answer
MAX_HIDDEN = 500  # lines of a window that is kept out of the log
PORTS = (10_000, 32_000)  # below the kernel's own
PR_SET_PDEATHSIG = 1

PLAYER = re.compile(r"id=(\d+) addr=(\S+) (?:client=\S+ )?name='(.*)' (?:score=(-?\d+)|client=)")
SAID_BY = re.compile(r"(?:\[[^\]]*\]\[[^\]]*\]|\S+ \S+ [A-Z] [^ :]+): ")  # teeworlds, DDNet

Steps = Generator["Window", "list[str]", Any]


def quoted(text: str) -> str:
    """One argument of the console. The last word of its line: a backslash before the closing quote keeps the
    console's search for `;` inside of it."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    if len(plain.encode(errors="replace")) > MAX_TEXT:
        raise agentsdk.Refused(f"a text of more than {MAX_TEXT} bytes")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_command(line: str) -> str:
    """As it is, if it is one and leaves the console to us."""
    line = line.strip()
    if not line or not line.isprintable() or ";" in line:
        raise agentsdk.Refused("one command on one line, without ;")
    if len(line.encode(errors="replace")) > MAX_TEXT:
        raise agentsdk.Refused(f"a line of more than {MAX_TEXT} bytes")
    if line.lower().startswith("ec_"):
        raise agentsdk.Refused("the external console's own settings stay as they are")
    return line


class Window(NamedTuple):
    """What is to be asked. `secret`: neither commands nor answer come into the log."""

    lines: list[str]
    secret: bool = False
    after_s: float = 0.0


class Question:
    def __init__(self, window: Window, done: Callable[[list[str]], None], failed: Callable[[str], None]):
        self.window, self.done, self.failed = window, done, failed
        self.not_before = time.monotonic() + window.after_s
        self.answer: list[str] | None = None  # None: it has not begun


class Econ:
    """The console, for as long as the server lives: connects, logs in, asks one window after the other."""

    def __init__(self, place: tuple[str, int], password: str) -> None:
        self.nonce = secrets.token_hex(8)
        self._place, self._password = place, password
        self._sock: socket.socket | None = None
        self._in = False  # logged in
        self._data = b""
        self._since = self._retry_at = 0.0
        self._asked = 0
        self._out: Question | None = None
        self._waiting: deque[Question] = deque()

    @property
    def trouble(self) -> str:
        """Why nothing can be asked now; empty where it can."""
        if not self._in:
            return "the server's console cannot be reached"
        late = time.monotonic() - self._since if self._out else 0.0
        return f"the server has not answered for {late:.0f} s" if late > HUNG_S else ""

    def fileno(self) -> int:
        return self._sock.fileno() if self._sock else -1

    def ask(
        self,
        window: Window,
        done: Callable[[list[str]], None] = lambda lines: None,
        failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`done` gets the lines of the answer, or `failed` the reason why there is none."""
        if self.trouble:
            failed(f"{self.trouble}: nothing was sent")
        else:
            self._waiting.append(Question(window, done, failed))

    def step(self) -> None:
        now = time.monotonic()
        try:
            if self._sock is None:
                if now >= self._retry_at:
                    self._connect(now)
            elif not self._in and now > self._since + LOGIN_S:
                raise OSError("no answer to the password")
            if self._sock is not None:
                self._read()
                self._send(now)
        except OSError as error:
            self.drop(str(error))
        if self.trouble:
            self._refuse_waiting()

    def drop(self, reason: str = "") -> None:
        if self._sock is not None:
            self._sock.close()
            note(f"console lost: {reason}" if reason else "console left")
        self._sock, self._in, self._data = None, False, b""
        self._retry_at = time.monotonic() + RETRY_S
        lost, self._out = self._out, None
        if lost:
            lost.failed("the server's console was lost before it answered: it may have run")
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().failed(f"{self.trouble}: nothing was sent")

    def _connect(self, now: float) -> None:
        self._retry_at = now + RETRY_S
        self._sock = socket.create_connection(self._place, 0.5)
        self._sock.setblocking(False)
        self._since = now

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(65536)
            if not data:
                raise OSError("closed")
        except BlockingIOError:
            return
        *lines, self._data = (self._data + data.replace(b"\0", b"")).split(b"\n")
        for line in lines:
            self._hear(line.decode(errors="replace").strip("\r").replace(self._password, "***"))
            if self._sock is None:
                return

    def _hear(self, line: str) -> None:
        if not self._in:
            self._greet(line)
        elif self._out and line.endswith(f": {self._mark('begin')}"):
            self._out.answer = []
        elif self._out and self._out.answer is not None:
            if line.endswith(f": {self._mark('end')}"):
                asked, self._out = self._out, None
                asked.done(asked.answer or [])
            elif len(asked_lines := self._out.answer) < MAX_LINES:
                asked_lines.append(SAID_BY.sub("", line, count=1))

    def _greet(self, line: str) -> None:
        if line.startswith("Enter password"):
            self._tell([self._password])
        elif line.startswith("Authentication successful"):
            self._in = True
            note("console joined")
        elif line.startswith("Wrong password"):
            raise OSError(line)

    def _send(self, now: float) -> None:
        if self._in and not self._out and self._waiting and now >= self._waiting[0].not_before:
            self._out, self._since = self._waiting.popleft(), now
            self._asked += 1
            begin, end = f"echo {self._mark('begin')}", f"echo {self._mark('end')}"
            self._tell([begin, *self._out.window.lines, end])

    def _mark(self, which: str) -> str:
        """Nobody else can say it: players do not know the nonce."""
        hidden = "secret" if self._out and self._out.window.secret else "open"
        return f"{self.nonce}-{self._asked}-{hidden}-{which}"

    def _tell(self, lines: list[str]) -> None:
        assert self._sock is not None
        self._sock.sendall("".join(line + "\n" for line in lines).encode(errors="replace"))


class Log:
    """The server's output on its way to ours: without our marks, without secret windows, without the password."""

    def __init__(self, nonce: str, password: str) -> None:
        self._nonce, self._password = nonce.encode(), password.encode()
        self._data = b""
        self._hidden = 0  # lines that a window may still hide

    def feed(self, data: bytes) -> bytes:
        *lines, self._data = (self._data + data).split(b"\n")
        return b"".join(line + b"\n" for line in lines if self._shown(line)).replace(self._password, b"***")

    def rest(self) -> bytes:
        return self._data.replace(self._password, b"***")

    def _shown(self, line: bytes) -> bool:
        if self._nonce in line:
            self._hidden = MAX_HIDDEN if b"-secret-begin" in line else 0
            return False
        self._hidden -= self._hidden > 0
        return not self._hidden


class Server:
    """The real one. `code` is what it ended with, None while it lives."""

    def __init__(self, command: list[str], bind: str, port: int) -> None:
        password = secrets.token_hex(12)  # 31 characters are all that it keeps
        self.econ = Econ((bind, port), password)
        self._log = Log(self.econ.nonce, password)
        # where it looks for what -f names: not in absolute paths, and not above its folder
        self._folder = Path(tempfile.mkdtemp(prefix=".econ-", dir="."))  # 0700
        file = self._folder / "econ.cfg"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as config:
            config.write(
                f'ec_port {port}\nec_bindaddr "{bind}"\nec_password "{password}"\nec_output_level 0\n'
            )
        environ = {name: value for name, value in os.environ.items() if name != "AGENT_TOKEN"}
        try:
            self._child = subprocess.Popen(
                [*command, "-f", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environ,
                preexec_fn=end_with_parent,
            )
        except OSError:
            self.forget_password()
            raise
        assert self._child.stdout is not None
        self._output = self._child.stdout
        os.set_blocking(self._output.fileno(), False)

    @property
    def code(self) -> int | None:
        return self._child.poll()

    def terminate(self) -> None:
        self._child.terminate()

    def forget_password(self) -> None:
        """It has read it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def fileno(self) -> int:
        return self._output.fileno() if not self._output.closed else -1

    def copy_output(self) -> None:
        """What is there now; at its end the rest, once."""
        while not self._output.closed:
            data = self._output.read(65536)
            if data is None:
                return
            sys.stdout.buffer.write(self._log.feed(data) if data else self._log.rest())
            sys.stdout.buffer.flush()
            if not data:
                self._output.close()


def note(text: str) -> None:
    """Into the server's log."""
    print(f"econ_bridge: {text}", flush=True)


def end_with_parent() -> None:
    """Also when nobody asks us first (kill -9)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Bridge:
    """The main loop, and what it knows of the server. It joins the agent with econ's first answer."""

    def __init__(self, server: Server, poll_s: float) -> None:
        self.server, self.econ = server, server.econ
        self.app: agentsdk.Application | None = None
        self.seen: dict[str, Any] = {"map": "", "slots": 0, "players": []}
        self.open_password: str | None = None  # what it was before entry was closed
        self._poll_s = poll_s
        self._asking = False
        self._ask_at = 0.0
        self._stop_at: float | None = None
        self._said = self._terminated = False  # shutdown; SIGTERM

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)
        while self.server.code is None:
            sources = [each for each in (self.econ, self.server) if each.fileno() >= 0]
            ready, _, _ = select.select(sources, [], [], TICK_S)
            self.server.copy_output()
            self._poll()
            if self._stop_at is None or self.econ.fileno() >= 0:
                self.econ.step()
            if self.econ in ready:
                self._poll()  # an answer need not wait for the next turn
            self._watch()
            self._end()
        self.econ.drop()
        self.server.copy_output()
        self.server.forget_password()
        if self.app:
            self.app.close()
        return self.server.code

    def _poll(self) -> None:
        if self.app:
            self.app.poll()

    def stop(self, _number: int, _frame: Any) -> None:
        self._stop_at = self._stop_at or time.monotonic()

    def _end(self) -> None:
        """`shutdown`, where that can be said, and SIGTERM where it does not help."""
        if self._stop_at is None or self._terminated:
            return
        late = time.monotonic() > self._stop_at + SHUTDOWN_S
        if late or (not self._said and self.econ.trouble):
            self._terminated = True
            self.server.terminate()
        elif not self._said:
            self._said = True
            self.econ.ask(Window(["shutdown"]))

    def _watch(self) -> None:
        """Looks at it at a fixed rate, one look at a time."""
        if self._asking or self._stop_at is not None or time.monotonic() < self._ask_at or self.econ.trouble:
            return
        self._asking = True
        self._ask_at = time.monotonic() + self._poll_s
        self.econ.ask(LOOK, self._looked, self._not_looked)

    def _looked(self, lines: list[str]) -> None:
        self._asking = False
        self.see(lines)
        if self.app is None:
            self.server.forget_password()
            self.app = join(self)
        self.app.beat()

    def _not_looked(self, _reason: str) -> None:
        self._asking = False

    def see(self, lines: list[str]) -> dict[str, Any]:
        """What LOOK was answered with."""
        self.seen["players"] = players(lines)
        told = values(lines)
        if len(told) == 2:
            self.seen.update(map=told[0], slots=int(told[1]))
        return self.seen

    def info(self) -> dict[str, Any]:
        return {**self.seen, "players": len(self.seen["players"])}

    def answer(self, steps: Steps) -> agentsdk.Later:
        """Runs it from window to window; what it returns is the answer."""
        later = agentsdk.Later()

        def step(resume: Callable[[], Window]) -> None:
            try:
                window = resume()
            except StopIteration as end:
                later.answer(end.value)
            except agentsdk.Refused as no:
                later.refuse(str(no))
            else:
                self.econ.ask(
                    window,
                    lambda lines: step(lambda: steps.send(lines)),
                    lambda reason: step(lambda: steps.throw(agentsdk.Refused(reason))),
                )

        step(lambda: next(steps))
        return later


LOOK = Window(["status", "sv_map", "sv_max_clients"], secret=True)  # not secret, but every second or two


def players(lines: list[str]) -> list[dict[str, Any]]:
    """A name may hold anything, also what looks like a score: the last one in the line is the server's."""
    found = (PLAYER.match(line) for line in lines)
    return [
        {"id": int(each[1]), "name": each[3], "address": each[2].strip("<{}>"), "score": int(each[4] or 0)}
        for each in found
        if each
    ]


def values(lines: list[str]) -> list[str]:
    """What settings are, of a console that was asked for them."""
    return [line[len("Value: ") :] for line in lines if line.startswith("Value: ")]


def the_player(wanted: str, lines: list[str]) -> dict[str, Any]:
    """By id where it is a number, else by the whole name."""
    here = players(lines)
    if wanted.isascii() and wanted.isdigit():
        found = [each for each in here if each["id"] == int(wanted)]
    else:
        found = [each for each in here if each["name"] == wanted]
    if len(found) != 1:
        raise agentsdk.Refused(
            f"{len(found) or 'no'} player{'s' * (len(found) > 1)} {wanted!r}: status shows ids"
        )
    return found[0]


def gone(player: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """After a command that throws him out, in the same window as a new status."""
    if any((each["id"], each["address"]) == (player["id"], player["address"]) for each in players(lines)):
        said = [line for line in lines if not PLAYER.match(line)]
        raise agentsdk.Refused(f"he is still there; the server says: {' / '.join(said) or 'nothing'}"[:300])
    return {"player": player["id"], "name": player["name"]}


def join(bridge: Bridge) -> agentsdk.Application:
    """With all commands. There is nothing to save: such a server keeps nothing."""
    app = agentsdk.join(info=bridge.info, host="poll")

    @app.command(danger="read", answer="{map, slots, open, players: [{id, name, address, score}]}")
    def status() -> agentsdk.Later:
        """who plays"""

        def steps() -> Steps:
            seen = bridge.see((yield LOOK))
            return {**seen, "open": bridge.open_password is None}

        return bridge.answer(steps())

    @app.command(answer="{player, name}", arguments={"player": "id, or the whole name"})
    def kick(player: str, reason: str = "kicked by an operator") -> agentsdk.Later:
        """throw a player out"""

        def steps() -> Steps:
            him = the_player(player, (yield Window(["status"])))
            return gone(him, (yield Window([f"kick {him['id']} {quoted(reason)}", "status"])))

        return bridge.answer(steps())

    @app.command(answer="{player, name}", arguments={"player": "id, or the whole name"})
    def ban(player: str, minutes: int = 60, reason: str = "banned by an operator") -> agentsdk.Later:
        """throw a player out, and his address for a while"""

        def steps() -> Steps:
            him = the_player(player, (yield Window(["status"])))
            if him["address"].startswith(("127.", "[::1]", "[::ffff:127.")):
                raise agentsdk.Refused(
                    "he plays on the server's machine, whose console would be banned with him"
                )
            if not 0 < minutes <= 60 * 24 * 30:
                raise agentsdk.Refused("from a minute to 30 days")
            return gone(him, (yield Window([f"ban {him['id']} {minutes} {quoted(reason)}", "status"])))

        return bridge.answer(steps())

    @app.command(answer="{players}: how many are there")
    def broadcast(text: str) -> agentsdk.Later:
        """show everybody a text"""
        return bridge.answer(tell("broadcast", text))

    @app.command(answer="{players}: how many are there")
    def say(text: str) -> agentsdk.Later:
        """write into the chat, as the server"""
        return bridge.answer(tell("say", text))

    def tell(how: str, text: str) -> Steps:
        yield Window([f"{how} {quoted(text)}"])
        return {"players": len(bridge.seen["players"])}

    @app.command(
        danger="red", answer="{lines}: what it said", arguments={"line": "one command of the console"}
    )
    def rcon(line: str) -> agentsdk.Later:
        """anything that the server's console can do"""

        def steps() -> Steps:
            return {"lines": (yield Window([one_command(line)]))}

        return bridge.answer(steps())

    @app.command(answer="{map}", arguments={"map": "as its file is called, without .map"})
    def change_map(map: str) -> agentsdk.Later:
        """load another map at once"""

        def steps() -> Steps:
            if not map or ".." in map or map.startswith("/"):
                raise agentsdk.Refused("that is no map's name")
            yield Window([f"sv_map {quoted(map)}"])
            seen = bridge.see((yield LOOK._replace(after_s=LOADED_S)))
            if seen["map"] != map:
                raise agentsdk.Refused(f"there is no map {map!r}: it is still {seen['map']}")
            return {"map": map}

        return bridge.answer(steps())

    @app.on_entry
    def entry(open: bool, reason: str) -> agentsdk.Later:
        """Who is in stays in; a password that nobody knows keeps out the others."""

        def steps() -> Steps:
            if open and bridge.open_password is not None:
                yield Window([f"password {quoted(bridge.open_password)}"], secret=True)
                bridge.open_password = None
            elif not open and bridge.open_password is None:
                said = yield Window(["password"], secret=True)
                told = values(said)
                if not told:
                    raise agentsdk.Refused(
                        "the server does not tell its password, which could not be restored"
                    )
                yield Window([f"password {quoted(secrets.token_hex(12))}"], secret=True)
                bridge.open_password = told[0]
            return (
                "everybody may come in" if open else "nobody may come in: a password that nobody knows is set"
            )

        return bridge.answer(steps())

    return app


def free_port(bind: str) -> int:
    """Not one of the kernel's own range, which an outgoing connection may take before the server does."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    for _ in range(1000):
        port = random.randrange(*PORTS)
        with socket.socket(family) as probe:
            try:
                probe.bind((bind, port))
            except OSError:
                continue
        return port
    raise SystemExit(f"no port is free on {bind}")


def end_like(code: int) -> None:
    """With the same code, or by the same signal: the agent sees what it would see of the server itself."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the server's own core is the one to read
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description="GM commands for a teeworlds or DDNet server")
    parser.add_argument("--poll", type=float, default=2.0, metavar="S", help="how often to look at it")
    parser.add_argument("--econ-bind", default="127.0.0.1", metavar="ADDRESS")
    parser.add_argument("--econ-port", type=int, default=0, metavar="PORT", help="0: one that is free")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="SERVER [WORD…]")
    options = parser.parse_args()
    if not options.command:
        parser.error("which server?")
    port = options.econ_port or free_port(options.econ_bind)
    end_like(Bridge(Server(options.command, options.econ_bind, port), options.poll).run())


if __name__ == "__main__":
    main()
