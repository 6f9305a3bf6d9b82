"""The application: what a program sees of all this. Nothing here blocks, and nothing raises for what others do.

What raises is a mistake in the program's own words, at the line where it is made: a command that breaks the rules, a
host that does not exist. Outside of an agent everything may be called, and does nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Callable, TypeVar

from . import body
from .command import MAX_COMMANDS, Command, from_function
from .engine import Engine
from .host import Host
from .identity import Identity
from .info import Info
from .link import MAX_OUT_BYTES
from .loop_host import LoopHost
from .poll_host import PollHost
from .thread_host import ThreadHost

LOG = logging.getLogger("agentsdk")
HOSTS: dict[str, type[Host]] = {"thread": ThreadHost, "poll": PollHost, "asyncio": LoopHost}
MAX_EVENT_BYTES = 8 * 1024
MAX_EVENT_NAME = 64  # characters
MAX_DECLARED_BYTES = MAX_OUT_BYTES - 64 * 1024

F = TypeVar("F", bound=Callable[..., Any])


class Application:
    """Without an identity it does nothing. Made by `join`."""

    def __init__(
        self, identity: Identity | None, info: Callable[[], Any] | None = None, host: str = "thread"
    ) -> None:
        if host not in HOSTS:
            raise ValueError(f"host {host!r} is not one of {', '.join(HOSTS)}")
        self.key = identity.key if identity else ""
        self._beats = self._beaten = False
        nobody = Identity("nobody")
        self._engine = Engine(identity or nobody, Info(info), self._is_alive)
        self._host = HOSTS[host](self._engine)
        self._acts = identity is not None
        if self._acts:
            leave_children_alone(self)
            self._start()

    def _start(self) -> None:
        try:
            self._host.start()
        except (OSError, RuntimeError):  # no descriptor or no thread is left
            LOG.exception("the game goes on without its agent")
            self._acts = False

    @property
    def joined(self) -> bool:
        """Whether there is a link to the daemon right now."""
        return self._acts and self._engine.link.joined

    # ---- what the program can do

    def command(
        self,
        function: Any = None,
        *,
        name: str = "",
        danger: str = "write",
        answer: str = "",
        secrets: Iterable[str] = (),
        arguments: Mapping[str, str] | None = None,
    ) -> Any:
        """A decorator, with or without brackets. `arguments` holds the help of each. ValueError says what is wrong."""

        def declare(function: F) -> F:
            self._may_handle(function)
            self._add(from_function(function, name, danger, answer, secrets, arguments))
            return function

        return declare if function is None else declare(function)

    def on_save(self, function: F) -> F:
        """A decorator: `def save() -> str` saves everything; Refused declines, a Later answers later."""
        self._may_handle(function)
        self._engine.desk.on_save = function
        self._declare()
        return function

    def on_entry(self, function: F) -> F:
        """A decorator: `def entry(open: bool, reason: str) -> str` lets players in, or no longer."""
        self._may_handle(function)
        self._engine.desk.on_entry = function
        self._declare()
        return function

    # ---- what it tells

    def event(self, name: str, data: Any = None) -> bool:
        """False where it was not sent: there is no link, too much waits to be sent, or it breaks the rules."""
        if not self.joined:
            return False
        try:
            encoded = encode_event(name, data, time.time())
        except (ValueError, TypeError) as error:
            LOG.warning("event %r is not sent: %s", name, error)
            return False
        return self._tell(encoded)

    def progress(self, done: int, total: int, text: str = "") -> bool:
        """How far the save is, at least every 10 s. False where it was not sent."""
        if not self.joined or not self._engine.desk.is_saving:
            return False
        try:
            fields = {"done": int(done), "total": int(total), "text": str(text)[:1000]}
            encoded = body.encode("save.progressed", fields)
        except (ValueError, TypeError) as error:
            LOG.warning("progress is not sent: %s", error)
            return False
        taken = self._tell(encoded)
        self._host.flush()
        return taken

    def beat(self) -> None:
        """From the first one on the record is refreshed only while they come: one that hangs is silent."""
        self._beaten = self._beats = True

    # ---- hosts

    def poll(self) -> None:
        """host="poll": does what can be done now, runs handlers, returns. Call it in each turn of the main loop."""
        if not isinstance(self._host, PollHost):
            raise ValueError('poll() is for join(host="poll")')
        if self._acts:
            self._host.poll()

    def attach(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """host="asyncio": which loop to live in, where `join` was not called in a coroutine."""
        if not isinstance(self._host, LoopHost):
            raise ValueError('attach() is for join(host="asyncio")')
        if self._acts:
            self._host.attach(loop or asyncio.get_running_loop())

    def close(self) -> None:
        """Sends what waits, if that is possible at once (a thread: within 0.5 s), and ends everything."""
        if self._acts:
            self._acts = False
            self._host.close()

    # ---- inside

    def _tell(self, encoded: bytes) -> bool:
        mailbox, link = self._engine.mailbox, self._engine.link
        if not link.has_room(mailbox.bytes + len(encoded)):
            return False
        return mailbox.put(lambda: link.notice(encoded), len(encoded))

    def _may_handle(self, function: Callable[..., Any]) -> None:
        if inspect.iscoroutinefunction(function) and not self._host.awaits:
            raise ValueError(f'{function.__name__} is a coroutine, which needs join(host="asyncio")')

    def _add(self, new: Command) -> None:
        desk = self._engine.desk
        if new.name in desk.commands:
            raise ValueError(f"command {new.name} is declared twice")
        if len(desk.commands) >= MAX_COMMANDS:
            raise ValueError(f"more than {MAX_COMMANDS} commands")
        rows = [*desk.declaration()["commands"], new.row()]
        if len(body.encode("", {"commands": rows})) > MAX_DECLARED_BYTES:
            raise ValueError(f"all commands together take more than {MAX_DECLARED_BYTES} bytes")
        desk.commands[new.name] = new
        self._declare()

    def _declare(self) -> None:
        if self._acts:
            self._engine.mailbox.put(lambda: self._engine.link.declare(time.monotonic()))

    def _is_alive(self) -> bool:
        alive = self._beaten or not self._beats
        self._beaten = False
        return alive

    def leave(self) -> None:
        """In a child after a fork: the connections are the parent's, so they are dropped and nothing is said."""
        self._acts = False
        self._engine.close()


def encode_event(name: str, data: Any, at: float) -> bytes:
    """Raises ValueError or TypeError."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_EVENT_NAME or not name.isprintable():
        raise ValueError(f"its name is not of 1 to {MAX_EVENT_NAME} printable characters")
    encoded = body.encode("event.raised", {"name": name, "data": data, "at": at})
    if len(encoded) > MAX_EVENT_BYTES and len(body.text(data).encode()) > MAX_EVENT_BYTES:
        raise ValueError(f"its data has more than {MAX_EVENT_BYTES} bytes")
    return encoded


def leave_children_alone(app: Application) -> None:
    """A child of os.fork must not speak on its parent's connections."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.ref(app)

    def forked() -> None:
        child = reference()
        if child is not None:
            child.leave()

    os.register_at_fork(after_in_child=forked)
