"""The relay as it ships, on plain sockets: python -m bench.relay_plain PORT. A link's first line is its ip."""

import sys
from typing import Any

import gevent
from gevent.server import StreamServer

from agent import logs
from roles.router.handlers import TABLE
from roles.router.relay import RelayLink

LINKS: dict[str, RelayLink] = {}


def serve(sock: Any, address: tuple[str, int]) -> None:
    sock.setsockopt(6, 1, 1)  # TCP_NODELAY, as the listener does
    ip = b""
    while not ip.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            return
        ip += byte
    name = ip.decode().strip()
    link = RelayLink(sock, local=b"", role="daemon", name=name, address=str(address), table=TABLE, state=None)
    LINKS[name] = link
    link.relay_between(LINKS)
    link.run()


if __name__ == "__main__":
    logs.begin()
    StreamServer(("127.0.0.1", int(sys.argv[1])), serve).start()
    gevent.wait()
