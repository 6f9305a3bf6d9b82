"""How a process shows that it is up: it lived so long, its port answers, or it reports (then nothing is done here)."""

from collections.abc import Callable
from typing import Any

import gevent

from roles.daemon import ports
from roles.daemon.inbox import Alarm, Inbox
from roles.daemon.memory import Memory

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


class Readiness:
    """Looks whether one start becomes ready, and whether in time."""

    def __init__(
        self, memory: Memory, inbox: Inbox, on_ready: Callable[[str], None], on_late: Callable[[str], None]
    ) -> None:
        """Both are called in the inbox's greenlet, with the incarnation that it is about."""
        self._memory = memory
        self._inbox = inbox
        self._on_ready = on_ready
        self._on_late = on_late
        self._alarm = Alarm(inbox)
        self._probe: gevent.Greenlet | None = None

    def expect(self) -> None:
        """May call `on_ready` at once."""
        ready, incarnation = self._memory.spec.ready, self._memory.entry.incarnation
        needed_s = lived_s(ready)
        if needed_s is None:
            if "port" in ready:
                self._probe = gevent.spawn(self._probe_port, int(ready["port"]), incarnation)
        elif (rest_s := needed_s - self._memory.ran_s()) > 0:
            self._alarm.set(rest_s, self._on_ready, incarnation)
        else:
            self._on_ready(incarnation)

    def limit(self) -> None:
        """`on_late` when it takes too long. Who has only to live a while cannot be late."""
        timeout_s = self._memory.spec.ready_timeout_s
        if timeout_s and lived_s(self._memory.spec.ready) is None:
            rest_s = timeout_s - self._memory.ran_s()
            self._alarm.set(rest_s, self._on_late, self._memory.entry.incarnation)

    def give_up(self) -> None:
        self._alarm.clear()
        if self._probe is not None:
            self._probe.kill(block=False)
            self._probe = None

    def _probe_port(self, port: int, incarnation: str) -> None:
        await_port(self._memory.entry.host, port, self._memory.spec.protocol)
        self._inbox.post(self._on_ready, incarnation)


def lived_s(ready: dict[str, Any]) -> float | None:
    """How long it has to live to be ready; None where it has to show more."""
    return float(ready["spawn"]) if "spawn" in ready else None


def await_port(host: str, port: int, protocol: str) -> None:
    """Returns when the port answers (TCP: takes a connection; UDP: is bound). Blocks its greenlet till then."""
    pause_s = FIRST_PAUSE_S
    while not _answers(host, port, protocol):
        gevent.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 1.5)


def _answers(host: str, port: int, protocol: str) -> bool:
    return ports.is_bound(port, "udp") if protocol == "udp" else ports.takes_connection(host, port)
