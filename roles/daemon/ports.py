"""Who has a port of this host: asked by trying to bind it, as the game server will; named from /proc.

The try costs microseconds; only when the port is taken are the socket tables and every process's open files read.
A row of a table: sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
"""

import errno
import os
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gevent

from agent.line import one_line
from agent.names import MAX_KEY_BYTES
from agent.process import ANY_HOST
from roles.daemon import identity as proc

CONNECT_TIMEOUT_S = 1.0
MAPPED = "0000000000000000" + f"{int.from_bytes(bytes((0, 0, 255, 255)), sys.byteorder):08X}"
TABLES = {"tcp": ("/proc/net/tcp", "/proc/net/tcp6"), "udp": ("/proc/net/udp", "/proc/net/udp6")}
REFUSED_WITHIN_S = 0.05
WAITS = {"tcp": "0A", "udp": "07"}  # the state of a socket that waits for whoever comes


@dataclass(frozen=True, slots=True)
class Queue:
    """Of one socket that waits: connections that the program has not accepted, or bytes that it has not read."""

    inode: str
    address: str  # as /proc/net has it
    length: int


@dataclass(frozen=True, slots=True)
class Holder:
    """What has the port; pid 0 where it cannot be known (another namespace, or we are not root)."""

    pid: int
    name: str
    key: str = ""  # its AGENT_PROCESS mark

    def __str__(self) -> str:
        if not self.pid:
            return "a process that cannot be seen from here"
        return f"pid {self.pid} ({self.name})" + (f", process {self.key}" if self.key else "")


def is_free(host: str, port: int, protocol: str) -> bool:
    """Whether a server could bind it now. True where we cannot know (a privileged port, an odd address)."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    for address in dict.fromkeys((host or ANY_HOST, ANY_HOST)):
        with socket.socket(socket.AF_INET, kind) as probe:
            if protocol == "tcp":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
                return True
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                if error.errno != errno.EADDRNOTAVAIL:
                    return True
    return True


def is_bound(port: int, protocol: str) -> bool:
    """Whether some socket of this host waits on the port (TCP: listens), from the kernel's own tables."""
    return bool(_inodes(port, protocol, listening=True))


def takes_connection(host: str, port: int) -> bool:
    """Whether a TCP server answers there in time, the look-up of a name included. Blocks its greenlet.

    The kernel answers for the program, hung or not, as long as its accept queue has room.
    """
    with gevent.Timeout(CONNECT_TIMEOUT_S, False):
        try:
            socket.create_connection((_nearest(host), port)).close()
        except OSError:
            return False
        return True
    return False


def takes_datagram(host: str, port: int) -> bool:
    """Sends one byte; False where the kernel knows at once that nobody is there. Blocks its greenlet a moment.

    Not an empty datagram: at the head of a queue it hides from FIONREAD (C#'s `Available`) whatever comes after it,
    and a server that asks so before it reads would never read again.
    """
    with gevent.Timeout(CONNECT_TIMEOUT_S, False):
        try:
            found = socket.getaddrinfo(_nearest(host), port, type=socket.SOCK_DGRAM)
        except OSError:
            return False
        return any(_takes_byte(family, address) for family, _, _, _, address in found)
    return False


def _takes_byte(family: int, address: tuple[Any, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(address)
            sock.send(b"\0")
            sock.settimeout(REFUSED_WITHIN_S)
            sock.recv(1)
        except TimeoutError:
            return True  # most servers say nothing to one byte
        except OSError:
            return False
        return True


def queues(protocol: str) -> dict[int, list[Queue]]:
    """Of every socket of this host that waits, by port: one read of the kernel's tables."""
    found = defaultdict(list)
    for row in _rows(protocol, listening=True):
        address, _, port = row[1].rpartition(":")
        length = int(row[4].rpartition(":")[2], 16)
        found[int(port, 16)].append(Queue(row[9], address, length))
    return found


def queues_of(host: str, port: int, all_queues: Mapping[int, list[Queue]]) -> dict[str, int]:
    """Inode -> length, of the sockets that get what is sent there; none where they are not this kernel's to know."""
    address = _hex(_nearest(host))
    return {
        queue.inode: queue.length for queue in all_queues.get(port, ()) if _overlaps(queue.address, address)
    }


def holder(host: str, port: int, protocol: str) -> Holder:
    """Who has the port of this address, or of all."""
    address = _hex(host)
    inodes = _inodes(port, protocol, address, listening=True) or _inodes(
        port, protocol, address, listening=False
    )
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in proc.pids() if wanted else ():
        try:
            links = [entry.name for entry in os.scandir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        for link in links:
            try:
                found = os.readlink(f"/proc/{pid}/fd/{link}") in wanted
            except OSError:
                continue
            if found:
                stat = proc.read_stat(pid)
                return Holder(pid, one_line(stat.name if stat else "?"), one_line(_mark(pid), MAX_KEY_BYTES))
    return Holder(0, "")


def _mark(pid: int) -> str:
    """A stranger's, who may have written anything into his environment."""
    return proc.read_environ(pid).get("AGENT_PROCESS", "")


def _hex(host: str) -> str:
    """An address as /proc/net has it; "" for every address, and for a name, which may be any."""
    try:
        packed = socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return ""
    return "" if host == ANY_HOST else f"{int.from_bytes(packed, sys.byteorder):08X}"


def _overlaps(bound: str, address: str) -> bool:
    """Whether a socket bound there is in the way of a server that wants `address` ("": every one)."""
    plain = bound.removeprefix(MAPPED)  # IPv4 in an IPv6 socket
    return not address or plain == address or not plain.strip("0")


def _nearest(host: str) -> str:
    """Where a server that listens on all addresses is asked."""
    return "127.0.0.1" if host in ("", ANY_HOST) else host


def _inodes(port: int, protocol: str, address: str = "", *, listening: bool) -> set[str]:
    """Inodes of the sockets bound to the port."""
    suffix = f":{port:04X}"
    return {
        row[9]
        for row in _rows(protocol, listening=listening)
        if row[1].endswith(suffix) and _overlaps(row[1].removesuffix(suffix), address)
    }


def _rows(protocol: str, *, listening: bool) -> Iterator[list[str]]:
    """The sockets that somebody holds. Those that listen come first in a TCP table (tcp_get_idx, net/ipv4/tcp_ipv4.c):
    who wants no others reads no further, though there be 40,000 connections."""
    waits = WAITS[protocol]
    for table in TABLES[protocol]:
        try:
            with open(table) as file:
                next(file, None)
                for line in file:
                    row = line.split()
                    if listening and row[3] != waits:
                        if protocol == "tcp":
                            break
                        continue
                    if row[9] != "0":
                        yield row
        except OSError:
            continue
