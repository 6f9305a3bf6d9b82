"""How a process shows that it is up: it lived so long, its port answers, or it reports (then nothing is done here)."""

import socket
from collections.abc import Callable
from typing import Any

import gevent

from roles.daemon import ports

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5
CONNECT_TIMEOUT_S = 1.0


def lived_s(ready: dict[str, Any]) -> float | None:
    """How long it has to live to be ready; None where it has to show more."""
    return float(ready["spawn"]) if "spawn" in ready else None


def await_port(host: str, port: int, protocol: str) -> None:
    """Returns when the port answers (TCP: takes a connection; UDP: is bound). Blocks its greenlet till then."""
    answers = _udp_bound if protocol == "udp" else _tcp_answers
    _until(lambda: answers(host, port))


def _until(condition: Callable[[], bool]) -> None:
    pause_s = FIRST_PAUSE_S
    while not condition():
        gevent.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 1.5)


def _tcp_answers(host: str, port: int) -> bool:
    address = "127.0.0.1" if host in ("", ports.ANY) else host
    try:
        socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _udp_bound(host: str, port: int) -> bool:
    return ports.is_bound(port, "udp")
