"""Does a program that knows nothing of us still serve its port? A hang is seen from outside, in the kernel's tables.

    look        the queue of its socket: connections not accepted (TCP), bytes not read (UDP)
      ├─ empty  ─► knock: connect, or send one byte; then look again
      └─ not    ─► nobody knocks (a hung program gets one knock in all); look again
    look again  empty, or shorter than at the look before: it serves. Still not after a second: it hangs

A queue that only ever grows is a hang, one that is never empty but falls is a busy server. Where there is no socket
to look at (another network namespace, a deferred accept) whoever takes the knock serves.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import gevent

from roles.daemon import ports

LONGEST_S = 1.0
FIRST_PAUSE_S = 0.06  # then doubled: a server that is well takes two looks, one that hangs six


@dataclass(frozen=True, slots=True)
class Target:
    """The port of one program."""

    host: str
    port: int
    protocol: str


def serving(targets: Mapping[str, Target]) -> dict[str, bool]:
    """Which of them serve; all at once, a second at most. One look reads each table once, for all of them."""
    deadline = time.monotonic() + LONGEST_S
    tables = _tables(targets.values())
    watches = {key: _Watch(target, tables[target.protocol]) for key, target in targets.items()}
    pause_s, late = FIRST_PAUSE_S, False
    while not late and (open_ := [watch for watch in watches.values() if watch.serves is None]):
        rest_s = deadline - time.monotonic()
        late = rest_s <= pause_s
        gevent.sleep(max(0.0, min(pause_s, rest_s)))
        pause_s *= 2
        tables = _tables(watch.target for watch in open_)
        for watch in open_:
            watch.look(tables[watch.target.protocol])
    gevent.killall([watch.knock for watch in watches.values() if watch.knock is not None])
    return {key: watch.serves or False for key, watch in watches.items()}


class _Watch:
    """One target, from the first look to the last."""

    def __init__(self, target: Target, table: Mapping[int, list[ports.Queue]]) -> None:
        self.target = target
        self.serves: bool | None = None  # None: not known yet
        self._queues = ports.queues_of(target.host, target.port, table)
        filled = {inode for inode, length in self._queues.items() if length}
        self._unmoved = filled or set(self._queues)
        self.knock = None if filled else gevent.spawn(_knock, target)

    def look(self, table: Mapping[int, list[ports.Queue]]) -> None:
        if self.knock is not None:  # a greenlet that has ended is false
            if not self.knock.ready():
                return
            if not self.knock.value:
                self.serves = False
                return
        queues = ports.queues_of(self.target.host, self.target.port, table)
        for inode, before in self._queues.items():
            if (length := queues.get(inode, 0)) == 0 or length < before:
                self._unmoved.discard(inode)
        self._queues = queues
        if not self._unmoved:
            self.serves = True


def _knock(target: Target) -> bool:
    knock = ports.takes_datagram if target.protocol == "udp" else ports.takes_connection
    return knock(target.host, target.port)


def _tables(targets: Iterable[Target]) -> dict[str, dict[int, list[ports.Queue]]]:
    return {protocol: ports.queues(protocol) for protocol in {target.protocol for target in targets}}
