"""A bare hop: python -m bench.hop LISTEN [NEXT]. Passes on what it reads, both ways; the last one sends it back."""

import sys
from typing import Any

import gevent
from gevent import socket
from gevent.server import StreamServer


def pass_on(source: Any, target: Any) -> None:
    while data := source.recv(65536):
        target.sendall(data)


def serve(sock: Any, _address: object) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if len(sys.argv) < 3:
        pass_on(sock, sock)
        return
    further = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    further.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    back = gevent.spawn(pass_on, further, sock)
    pass_on(sock, further)
    further.close()
    back.kill()


if __name__ == "__main__":
    StreamServer(("127.0.0.1", int(sys.argv[1])), serve).serve_forever()
