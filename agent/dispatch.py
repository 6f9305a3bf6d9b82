"""The dispatch table: which handler answers which message, and who may ask.

One table per role, seeded from the shared one (`Table(SHARED)`). A handler is a plain function

    (role state, peer, message) -> reply | None

registered by `@table.on(Message, ask=("admin",))`, which returns it unchanged, so a test calls it with no network.
A handler of a notice must never wait: notices are handled in the reader, in their order. A duplicate row fails at
import. An expected "no" is `raise Refused(code, text)`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agent import codec, messages
from agent.errors import Refused

Handler = Callable[[Any, Any, Any], Any]


class Row(NamedTuple):
    message: type
    ask: frozenset[str]
    handler: Handler


class Table:
    """Message type -> row. `str(table)` prints it: name, who may ask, first line of the handler's docstring."""

    def __init__(self, *seeds: "Table") -> None:
        self.rows: dict[type, Row] = {}
        for seed in seeds:
            for row in seed.rows.values():
                self._enter(row)

    def on(self, message: type, ask: Iterable[str]) -> Callable[[Handler], Handler]:
        def enter(handler: Handler) -> Handler:
            self._enter(Row(message, frozenset(ask), handler))
            return handler

        return enter

    def _enter(self, row: Row) -> None:
        if row.message in self.rows:
            raise ValueError(f"message {codec.NAME_OF[row.message]} has two handlers")
        self.rows[row.message] = row

    def find(self, message: Any, role: str) -> Handler:
        """The handler for a message from a peer of this role. Raises Refused."""
        row = self.rows.get(type(message))
        name = codec.NAME_OF[type(message)]
        if row is None:
            raise Refused("bad_request", f"message {name} is not for this role")
        if role not in row.ask:
            raise Refused("forbidden", f"message {name} is not for a peer of role {role}")
        return row.handler

    def __str__(self) -> str:
        lines = []
        for row in sorted(self.rows.values(), key=lambda row: codec.NAME_OF[row.message]):
            first = (row.handler.__doc__ or "").strip().split("\n")[0]
            lines.append(f"{codec.NAME_OF[row.message]:20} {','.join(sorted(row.ask)):16} {first}")
        return "\n".join(lines)


SHARED = Table()
ANYONE = ("router", "daemon", "admin", "app")


@SHARED.on(messages.Ping, ask=ANYONE)
def ping(_state: Any, _peer: Any, _message: messages.Ping) -> None:
    """Nothing: that bytes came is what counts (agent.link keeps the time)."""


@SHARED.on(messages.Goodbye, ask=ANYONE)
def goodbye(_state: Any, peer: Any, message: messages.Goodbye) -> None:
    """The peer closes; remember why."""
    peer.link.farewell = message
