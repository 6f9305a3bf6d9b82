"""The group: what GM tools and web back ends see of it, through any one daemon.

    with agentsdk.connect("192.168.1.10", user="tools", password=…) as group:
        for process in group.processes("大区1:*.game*"): …

Any thread may call anything. Every call has a deadline, and either returns what became of each target or raises:
ConnectFailed and Refused: nothing was done; OutcomeUnknown (LinkLost, NoReply): who knows. ValueError is a mistake
of the caller's own. A lost connection is made anew by the next call; nothing is ever sent twice.
"""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Callable, TypeVar, Union

from . import dialer, selection
from .client import Client
from .errors import NoReply, OutcomeUnknown
from .feed import Feed, Watch
from .line import CONNECT_S, Line
from .picture import Picture
from .report import (
    Answer,
    Catalogue,
    Event,
    Gm,
    Machine,
    Outcome,
    Process,
    Task,
    read_answers,
    read_catalogue,
    read_events,
    read_outcomes,
    read_tasks,
)

READ_S = 20.0
OPERATE_S = 60.0
GM_S = 30.0
MOST_S = 7 * 24 * 3600.0
MAX_CAME_BYTES = 256 * 1024 * 1024  # of one call's answers

T = TypeVar("T")
One = Union[Answer, Outcome]


def connect(address: str | Sequence[str], *, user: str, password: str, timeout_s: float = CONNECT_S) -> Group:
    """`address` is host[:port] of any daemon, or several of them: the first that answers is taken, now and later.

    Raises ConnectFailed, LoginRefused; ValueError for what is no address.
    """
    addresses = [address] if isinstance(address, str) else list(address)
    if not addresses:
        raise ValueError("no address of a daemon")
    group = Group(Line([dialer.parsed(each) for each in addresses], user, password))
    group.open(_usable(timeout_s))
    return group


class Group:
    """Made by `connect`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Came]] = {}  # by the number of a command, or the id of a GM call
        self._shown: dict[Client, _Shown] = {}  # the picture that is on its way over each
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()

    # ---- the connection

    def open(self, timeout_s: float) -> None:
        self._line.client(self._noticed, timeout_s)

    def close(self) -> None:
        """Its feeds too. What is under way ends as LinkLost."""
        self._line.close()
        for feed in list(self._feeds):
            feed.close()

    def __enter__(self) -> Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def daemon(self) -> str:
        """The ip of the daemon that was asked last."""
        return self._line.daemon

    # ---- what there is

    def machines(self, target: str = "*", *, timeout_s: float = READ_S) -> list[Machine]:
        """Of these processes; all by default."""
        return list(self._picture(target, ["machines"], timeout_s).machines.values())

    def processes(self, target: str = "*", *, timeout_s: float = READ_S) -> list[Process]:
        """A pattern that nothing matches is an empty list."""
        return list(self._picture(target, ["world", "processes"], timeout_s).processes.values())

    def catalogue(self, target: str = "*", *, timeout_s: float = READ_S) -> Catalogue:
        """Which GM commands there are."""
        where = selection.parsed(target).fields()
        return self._ask("gm.describe", where, "gm.catalogue", timeout_s, read_catalogue)

    def events(self, target: str = "*", count: int = 50, *, timeout_s: float = READ_S) -> list[Event]:
        """The newest that are kept, oldest first."""
        wanted = {**selection.parsed(target).fields(), "count": count}
        return self._ask(
            "events.read", wanted, "events.kept", timeout_s, lambda told: read_events(told.get("events"))
        )

    def tasks(self, *, timeout_s: float = READ_S) -> list[Task]:
        """What goes on behind drain and restart(when_empty=True), and what did so lately."""
        return self._ask("tasks.read", {}, "tasks", timeout_s, lambda told: read_tasks(told.get("tasks")))

    def changes(
        self,
        target: str = "*",
        *,
        events: bool = False,
        initial: bool = False,
        reconnect: bool = False,
        timeout_s: float = READ_S,
    ) -> Feed:
        """What changes from now on, in a connection of its own; `initial` begins with all that there is.

        With `reconnect` a lost daemon is a change too (agentsdk.change has the kinds), without it LinkLost.
        """
        watch = Watch(self._line, selection.parsed(target), events, initial, reconnect)
        try:
            watch.open(_usable(timeout_s))
        except BaseException:
            watch.close()
            raise
        feed = Feed(watch)
        self._feeds.add(feed)
        return feed

    # ---- start, stop, …

    def start(self, target: str, *, confirm: bool = False, timeout_s: float = OPERATE_S) -> list[Outcome]:
        """Names, not types. Over more than one machine: NotConfirmed, unless `confirm`. So for all that follow."""
        return self._operate("start", target, confirm, timeout_s)

    def stop(
        self, target: str, *, force: bool = False, confirm: bool = False, timeout_s: float = OPERATE_S
    ) -> list[Outcome]:
        """`force` goes on to SIGKILL, and always wants `confirm`."""
        return self._operate("force-stop" if force else "stop", target, confirm, timeout_s)

    def restart(
        self,
        target: str,
        *,
        when_empty: bool = False,
        deadline_s: float | None = None,
        confirm: bool = False,
        timeout_s: float = OPERATE_S,
    ) -> list[Outcome]:
        """`when_empty` only begins a task (`tasks`); at its deadline the process is left as it is."""
        if not when_empty and deadline_s is not None:
            raise ValueError("a deadline goes with when_empty")
        options = {} if deadline_s is None else {"deadline_s": deadline_s}
        verb = "restart-when-empty" if when_empty else "restart"
        return self._operate(verb, target, confirm, timeout_s, options)

    def drain(
        self,
        target: str,
        *,
        deadline_s: float | None = None,
        notice: str = "",
        confirm: bool = False,
        timeout_s: float = OPERATE_S,
    ) -> list[Outcome]:
        """Begins a task (`tasks`): nobody gets in, players are told, and when none is left it is stopped.

        At the deadline it is stopped with whoever is left; without one it waits for ever.
        """
        options: dict[str, Any] = {} if deadline_s is None else {"deadline_s": deadline_s}
        if notice:
            options["notice"] = notice
        return self._operate("drain", target, confirm, timeout_s, options)

    def cancel(self, target: str, *, confirm: bool = False, timeout_s: float = OPERATE_S) -> list[Outcome]:
        """Ends the tasks there, and opens the entry again."""
        return self._operate("cancel", target, confirm, timeout_s)

    # ---- GM commands

    def gm(
        self,
        target: str,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        any: bool = False,
        confirm: bool = False,
        timeout_s: float = GM_S,
        id: str = "",
        **named: Any,
    ) -> Gm:
        """Run a GM command in applications, by name or type. `any`: in one of them.

        Words are keywords, or `arguments` where a name is taken here. A red one, and one over several machines that
        does not only read, raise NotConfirmed unless `confirm`. No `id` is ever run twice; one is made up.
        """
        words = {**(arguments or {}), **named}
        return self._gm(
            target, command, words, id or secrets.token_hex(8), any, confirm, timeout_s, again=False
        )

    def gm_again(
        self,
        id: str,
        target: str,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        any: bool = False,
        timeout_s: float = GM_S,
        **named: Any,
    ) -> Gm:
        """What became of a call, given just as it was made. It runs nothing, whatever became of it."""
        words = {**(arguments or {}), **named}
        return self._gm(target, command, words, id, any, True, timeout_s, again=True)

    # ---- inside

    def _gm(
        self,
        target: str,
        command: str,
        words: dict[str, Any],
        id: str,
        any: bool,
        confirm: bool,
        timeout_s: float,
        again: bool,
    ) -> Gm:
        asked = {
            **selection.parsed(target).fields(), "command": command, "id": id, "arguments": words, "any": any,
            "again": again, "wide": confirm, "sure": confirm,
        }  # fmt: skip
        with self._collecting(id) as came:
            reply = self._call("gm.call", asked, "gm.verdicts", timeout_s)
            came.take(_read(reply, lambda told: read_answers(told.get("verdicts"))))
            return Gm(id, came.all(), str(reply.get("spoken", "")))

    def _operate(
        self,
        verb: str,
        target: str,
        confirm: bool,
        timeout_s: float,
        options: Mapping[str, Any] | None = None,
    ) -> list[Outcome]:
        number = secrets.token_hex(8)
        asked = {
            "verb": verb, **selection.parsed(target).fields(), "command": number, "wide": confirm,
            "options": dict(options or {}),
        }  # fmt: skip
        with self._collecting(number):
            reply = self._call("group.operate", asked, "outcomes", timeout_s)
            return _read(reply, lambda told: read_outcomes(told.get("outcomes")))

    def _ask(
        self,
        request: str,
        fields: dict[str, Any],
        reply: str,
        timeout_s: float,
        read: Callable[[dict[str, Any]], T],
    ) -> T:
        return _read(self._call(request, fields, reply, timeout_s), read)

    def _call(self, request: str, fields: dict[str, Any], reply: str, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + _usable(timeout_s)
        client = self._line.client(self._noticed, min(CONNECT_S, timeout_s))
        return client.call(request, fields, reply, max(0.1, deadline - time.monotonic()))

    def _picture(self, target: str, parts: list[str], timeout_s: float) -> Picture:
        """One at a time for each connection; one that comes too late keeps the next one waiting, and not mixed up."""
        wanted = {**selection.parsed(target).fields(), "parts": parts}
        deadline = time.monotonic() + _usable(timeout_s)
        client = self._line.client(self._noticed, min(CONNECT_S, timeout_s))
        if not client.picture.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise NoReply(f"an earlier picture of {client} has not come within {timeout_s:g} s")
        shown = self._shown[client] = _Shown()

        def done(_good: bool) -> None:
            self._shown.pop(client, None)
            client.picture.release()

        left_s = max(0.1, deadline - time.monotonic())
        client.call("picture.watch", wanted, "picture.begun", left_s, done)
        if shown.trouble:
            raise OutcomeUnknown(f"the picture of {client} cannot be read: {shown.trouble}")
        return shown.picture

    @contextmanager
    def _collecting(self, number: str) -> Iterator[_Came]:
        """What comes before the reply; an error of unknown outcome has it."""
        came = _Came()
        with self._lock:
            self._waiting.setdefault(number, []).append(came)
        try:
            yield came
        except OutcomeUnknown as error:
            error.id, error.came = number, came.some()
            raise
        finally:
            with self._lock:
                waiting = self._waiting[number]
                waiting.remove(came)
                if not waiting:
                    del self._waiting[number]

    def _noticed(self, client: Client, name: str, fields: dict[str, Any], size: int) -> None:
        """In the thread of the connection. What nobody waits for any more is dropped."""
        if name == "picture.changed" and client in self._shown:
            self._shown[client].take(fields)
            return
        with self._lock:
            if name == "gm.answered":
                for came in self._waiting.get(str(fields.get("id")), ()):
                    came.hear(read_answers, fields.get("verdicts"), size)
            elif name == "target.finished":
                for came in self._waiting.get(str(fields.get("command")), ()):
                    came.hear(read_outcomes, [fields.get("outcome")], size)


class _Shown:
    """A picture on its way, and why it cannot be read."""

    def __init__(self) -> None:
        self.picture, self.trouble = Picture(), ""

    def take(self, fields: dict[str, Any]) -> None:
        try:
            self.picture.apply(fields)
        except (ValueError, TypeError) as error:
            self.trouble = str(error)


class _Came:
    """Outcomes or answers by their target: two that ask for one id both hear the answers to both."""

    def __init__(self) -> None:
        self._by_target: dict[str, Any] = {}
        self._trouble = ""
        self._bytes = 0

    def hear(self, read: Callable[[Any], Sequence[One]], rows: Any, size: int) -> None:
        """Of a notice."""
        self._bytes += size
        if self._bytes > MAX_CAME_BYTES:
            self._trouble = f"more than {MAX_CAME_BYTES} bytes of answers came"
            return
        try:
            self.take(read(rows))
        except (ValueError, TypeError) as error:
            self._trouble = f"some of what came cannot be read: {error}"

    def take(self, some: Iterable[One]) -> None:
        self._by_target.update({one.target: one for one in some})

    def some(self) -> list[Any]:
        return list(self._by_target.values())

    def all(self) -> list[Any]:
        """Raises OutcomeUnknown where something is missing."""
        if self._trouble:
            raise OutcomeUnknown(f"{self._trouble}: outcome unknown")
        return self.some()


def _read(told: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
    try:
        return read(told)
    except (ValueError, TypeError) as error:
        raise OutcomeUnknown(f"the daemon's answer cannot be read ({error}): outcome unknown") from None


def _usable(timeout_s: float) -> float:
    """ValueError for what is no time to wait."""
    if not 0 < timeout_s <= MOST_S:
        raise ValueError(f"a time-out of {timeout_s} s is not between 0 and {MOST_S:.0f}")
    return timeout_s
