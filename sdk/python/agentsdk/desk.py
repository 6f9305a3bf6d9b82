"""The desk: what the daemon asks of the program, and the answers back. Pure; lives longer than any one link.

    request ──► gm.execute ──► ledger ──► Call ──► (a host runs it) ──► finish ──► the newest asker
                process.save ─► the one save that runs
                entry.set

Only the thread that steps the engine may come here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from .call import Call, refusal
from .command import Command
from .ledger import Answer, Ledger, Ticket

MAX_WAITING = 64  # entry.set requests at once; of commands the ledger keeps count
MAX_ID = 256  # characters


class Wrong(Exception):
    """A request that is answered with ERROR bad_request."""


class Desk:
    """`later` brings a finished call's answer back into the engine's thread; `send` is there while there is a link."""

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self.commands: dict[str, Command] = {}
        self.on_save: Callable[..., Any] | None = None
        self.on_entry: Callable[..., Any] | None = None
        self.calls: deque[Call] = deque()
        self._later = later
        self._ledger = Ledger()
        self._saving: Ticket | None = None
        self._waiting = 0
        self._link = 0
        self._send: Callable[[Ticket, Answer], None] | None = None

    @property
    def is_saving(self) -> bool:
        return self._saving is not None

    def declaration(self) -> dict[str, Any]:
        """The fields of application.declare."""
        rows = [command.row() for command in list(self.commands.values())]
        return {"saves": self.on_save is not None, "entry": self.on_entry is not None, "commands": rows}

    # ---- the link

    def open(self, send: Callable[[Ticket, Answer], None]) -> None:
        self._link += 1
        self._send = send

    def close(self) -> None:
        """Answers to what was asked on this link are kept, not sent."""
        self._send = None

    def request(self, seq: int, name: str, fields: dict[str, Any]) -> None:
        ticket = Ticket(self._link, seq)
        try:
            handler = HANDLERS.get(name)
            if handler is None:
                raise Wrong(f"{name[:80]!r} is not known here")
            handler(self, ticket, fields)
        except Wrong as wrong:
            self._answer(ticket, refusal("bad_request", str(wrong)))

    def _answer(self, ticket: Ticket, answer: Answer) -> None:
        if self._send and ticket.link == self._link:
            self._send(ticket, answer)

    # ---- commands

    def execute(self, ticket: Ticket, fields: dict[str, Any]) -> None:
        id = _field(fields, "id", str)
        if not 0 < len(id) <= MAX_ID:
            raise Wrong(f"an id of {len(id)} characters")
        entry = self._ledger.find(id)
        if entry is None:
            self._begin(ticket, id, fields)
        elif entry.running:
            entry.ticket = ticket
        else:
            self._answer(
                ticket, entry.answer or refusal("forgotten", "it ran; its answer was too long to keep")
            )

    def _begin(self, ticket: Ticket, id: str, fields: dict[str, Any]) -> None:
        if _field(fields, "again", bool, False):
            self._answer(ticket, refusal("forgotten", "this id is not known here"))
            return
        call = self._call(id, fields)
        if self._ledger.begin(id, ticket):
            self.calls.append(call)
        else:
            self._answer(ticket, refusal("refused", "too many commands are running already"))

    def _call(self, id: str, fields: dict[str, Any]) -> Call:
        name = _field(fields, "command", str)
        command = self.commands.get(name)
        if command is None:
            raise Wrong(f"no command {name[:80]!r}")
        try:
            words = command.words(_field(fields, "arguments", dict, {}))
        except ValueError as error:
            raise Wrong(str(error)) from None

        def done(answer: Answer) -> None:
            self._later(lambda: self._answer(self._ledger.finish(id, answer), answer))

        return Call(f"command {name}", command.function, words, lambda v: ("gm.answer", {"answer": v}), done)

    # ---- save

    def save(self, ticket: Ticket, fields: dict[str, Any]) -> None:
        if self.on_save is None:
            raise Wrong("this process declared no save")
        first, self._saving = self._saving is None, ticket
        if first:
            self.calls.append(Call("save", self.on_save, {}, _saved, self._save_done))

    def _save_done(self, answer: Answer) -> None:
        def finish() -> None:
            ticket, self._saving = self._saving, None
            if ticket:
                self._answer(ticket, answer)

        self._later(finish)

    # ---- entry

    def entry(self, ticket: Ticket, fields: dict[str, Any]) -> None:
        if self.on_entry is None:
            raise Wrong("this process declared no entry")
        words = {"open": _field(fields, "open", bool), "reason": _field(fields, "reason", str, "")}
        if self._waiting >= MAX_WAITING:
            self._answer(ticket, refusal("refused", "too many requests are waiting already"))
            return
        self._waiting += 1
        self.calls.append(Call("entry", self.on_entry, words, _stated, lambda a: self._entry_done(ticket, a)))

    def _entry_done(self, ticket: Ticket, answer: Answer) -> None:
        def finish() -> None:
            self._waiting -= 1
            self._answer(ticket, answer)

        self._later(finish)


HANDLERS: dict[str, Callable[[Desk, Ticket, dict[str, Any]], None]] = {
    "gm.execute": Desk.execute,
    "process.save": Desk.save,
    "entry.set": Desk.entry,
}

_MISSING = object()


def _field(fields: dict[str, Any], name: str, kind: type, default: Any = _MISSING) -> Any:
    value = fields.get(name, default)
    if not isinstance(value, kind):
        raise Wrong(f"field {name} is not {kind.__name__}")
    return value


def _saved(value: Any) -> tuple[str, dict[str, Any]]:
    return "process.saved", {"text": "" if value is None else str(value)}


def _stated(value: Any) -> tuple[str, dict[str, Any]]:
    return "entry.state", {"text": "" if value is None else str(value)}
