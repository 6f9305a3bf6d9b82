"""Load for a relay: 20 links, each sending to random others; a process of its own, whose CPU time does not count.

    python -m bench.relay_load '{"relay": "agent" | "nats", "port": …, "frames": …, "tls": …, "keys": {ip: key}}'

Each line on stdin is one round; the answer on stdout is the number of frames that arrived. Everything is built before
the first round, a round only moves bytes: at most WINDOW of them are under way.
"""

import json
import random
import select
import socket
import ssl
import sys
import time
from typing import Any

from agent import __version__, wire
from agent.address import Address

LINKS = 20
PAYLOAD = b'["bench.notice",{"text":"' + b"x" * 198 + b'"}]'  # a frame of ~256 bytes with its addresses
WINDOW = 4 * 1024 * 1024
CHUNK = 64 * 1024
QUIET_S = 0.3


def ip_of(number: int) -> str:
    return f"127.0.0.{number + 2}"


class LinkLoad:
    """One link: what it has to send, and how far it is."""

    def __init__(self, sock: Any, data: bytes) -> None:
        self.sock = sock
        self.data = memoryview(data)
        self.sent = 0


def targets(number: int, count: int) -> list[int]:
    """The same for every relay."""
    chance = random.Random(number)
    others = [other for other in range(LINKS) if other != number]
    return chance.choices(others, k=count)


def agent_data(number: int, count: int) -> bytes:
    src = ip_of(number).encode()
    frames = [wire.pack(wire.NOTICE, 0, ip_of(i).encode(), src, PAYLOAD) for i in range(LINKS)]
    return b"".join(frames[target] for target in targets(number, count))


def nats_data(number: int, count: int) -> bytes:
    messages = [b"PUB m%d %d\r\n%s\r\n" % (i, len(PAYLOAD), PAYLOAD) for i in range(LINKS)]
    return b"".join(messages[target] for target in targets(number, count))


def nats_arriving(number: int, count: int) -> int:
    """Bytes that arrive for what one link sends: MSG <subject> <sid> <size>, then the payload."""
    sizes = [len(b"MSG m%d 1 %d\r\n%s\r\n" % (i, len(PAYLOAD), PAYLOAD)) for i in range(LINKS)]
    return sum(sizes[target] for target in targets(number, count))


def agent_link(number: int, order: dict[str, Any]) -> Any:
    """To bench.relay_plain, which believes everybody; or to the real router, with a login."""
    if not order["tls"]:
        sock = connect(order["port"])
        sock.sendall(ip_of(number).encode() + b"\n")
        return sock
    from agent import dialer  # gevent's sockets, used here without waiting
    from agent.handshake import Identity

    ip = ip_of(number)
    hello = Identity("daemon", ip, __version__, 1)
    return dialer.connect(Address("127.0.0.1", order["port"]), hello, order["keys"][ip], source_ip=ip)[0]


def nats_link(number: int, order: dict[str, Any]) -> Any:
    sock: Any = connect(order["port"])
    line(sock)  # INFO
    if order["tls"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    options = {"verbose": False, "pedantic": False, "tls_required": order["tls"], "echo": True}
    sock.sendall(b"CONNECT %s\r\nSUB m%d 1\r\nPING\r\n" % (json.dumps(options).encode(), number))
    while b"PONG" not in line(sock):
        continue
    return sock


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def line(sock: Any) -> bytes:
    data = b""
    while not data.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise SystemExit(f"closed after {data!r}")
        data += byte
    return data


BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Load:
    def __init__(self, links: list[LinkLoad], arriving: int) -> None:
        self.links = {link.sock.fileno(): link for link in links}
        self.arriving = arriving
        self.total = sum(len(link.data) for link in links)
        self.buffer = memoryview(bytearray(1024 * 1024))
        self.poll = select.epoll()
        for number, link in self.links.items():
            link.sock.setblocking(False)
            self.poll.register(number, select.EPOLLIN)

    def drain(self) -> None:
        """What came beside the load: news of who is online, signs of life."""
        while events := self.poll.poll(QUIET_S):
            for number, _ in events:
                self.read(self.links[number])

    def round(self) -> None:
        self.drain()
        for link in self.links.values():
            link.sent = 0
        received = sent = 0
        waiting = list(self.links.values())
        share = self.arriving / self.total  # NATS' words differ between the two directions
        while received < self.arriving:
            stuck = True
            for link in list(waiting):
                if sent * share - received > WINDOW:
                    break
                count = self.write(link)
                stuck = stuck and count == 0
                sent += count
                if link.sent == len(link.data):
                    waiting.remove(link)
            waiting = waiting[1:] + waiting[:1]  # nobody is always first
            for number, _ in self.poll.poll(0.001 if stuck else 0):
                received += self.read(self.links[number])

    def write(self, link: LinkLoad) -> int:
        try:
            count = link.sock.send(link.data[link.sent : link.sent + CHUNK])
        except BLOCKED:
            return 0
        link.sent += count
        return count

    def read(self, link: LinkLoad) -> int:
        total = 0
        try:
            while True:
                count = link.sock.recv_into(self.buffer)
                if not count:
                    raise SystemExit("a link was closed")
                total += count
                if not hasattr(link.sock, "pending"):
                    return total
        except BLOCKED:
            return total


def main(order: dict[str, Any]) -> None:
    count = order["frames"] // LINKS
    make_link, make_data = (agent_link, agent_data) if order["relay"] == "agent" else (nats_link, nats_data)
    links = [LinkLoad(make_link(number, order), make_data(number, count)) for number in range(LINKS)]
    time.sleep(QUIET_S)
    if order["relay"] == "nats":
        arriving = sum(nats_arriving(number, count) for number in range(LINKS))
    else:
        arriving = sum(len(link.data) for link in links)
    load = Load(links, arriving)
    for _ in sys.stdin:
        load.round()
        print(count * LINKS, flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
