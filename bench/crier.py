"""The floor of a broadcast: python -m bench.crier COUNT BYTES. A frame of BYTES to each of COUNT sockets.

It says the port where it waits for them. Then each line on stdin is a broadcast, and the answer on stdout are the
seconds until the last socket has answered, by the clock and of CPU time.
"""

import select
import socket
import sys
import time

from agent import wire
from bench import process

ANSWER_S = 30.0


def accepted(count: int) -> dict[int, socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        socks = [listener.accept()[0] for _ in range(count)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return {sock.fileno(): sock for sock in socks}


def broadcast(poll: select.epoll, socks: dict[int, socket.socket], frame: bytes) -> None:
    decoders = {number: wire.Decoder() for number in socks}
    for sock in socks.values():
        sock.sendall(frame)
    silent = len(socks)
    while silent:
        events = poll.poll(ANSWER_S)
        if not events:
            raise SystemExit(f"{silent} sockets do not answer")
        for number, _events in events:
            data = socks[number].recv(65536)
            if not data:
                raise SystemExit("a socket was closed")
            silent -= len(list(decoders[number].feed(data)))


def main(count: int, size: int) -> None:
    process.raise_file_limit()
    socks = accepted(count)
    poll = select.epoll()
    for number in socks:
        poll.register(number, select.EPOLLIN)
    frame = wire.pack(wire.REQUEST, 1, b"", b"", b"x" * (size - wire.PREFIX_BYTES))
    for _ in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        broadcast(poll, socks, frame)
        print(time.perf_counter() - began, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
