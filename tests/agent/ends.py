"""Two links that face each other, for tests of what travels between them."""

import gevent
from gevent import socket

from agent.dispatch import Table
from agent.link import Link


def make_link(
    sock, local: bytes, role: str, name: str, table: Table | None = None, state=None, **more
) -> Link:
    return Link(
        sock, local=local, role=role, name=name, address="test", table=table or Table(), state=state, **more
    )


class Ends:
    """`left` and `right` run until `close`; right answers with `table` over `state`."""

    def __init__(self, table: Table, state=None, left_table: Table | None = None, **more) -> None:
        a, b = socket.socketpair()
        self.raw = a
        self.left = make_link(a, b"", "daemon", "10.0.0.2", left_table)
        self.right = make_link(b, b"10.0.0.2", "admin", "ada", table, state, **more)
        self.runs = [gevent.spawn(self.left.run), gevent.spawn(self.right.run)]

    def close(self) -> None:
        self.left.close("test over")
        self.right.close("test over")
        gevent.joinall(self.runs, timeout=5)
