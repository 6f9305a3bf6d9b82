"""Who has a port of this host: asked by trying to bind it, as the game server will; named from /proc.

The try costs microseconds; only when the port is taken are the socket tables and every process's open files read.
"""

import errno
import os
import socket
import sys
from dataclasses import dataclass

import gevent

from agent.line import one_line
from agent.names import MAX_KEY_BYTES
from agent.process import ANY_HOST
from roles.daemon import identity as proc

CONNECT_TIMEOUT_S = 1.0
MAPPED = "0000000000000000" + f"{int.from_bytes(bytes((0, 0, 255, 255)), sys.byteorder):08X}"
TABLES = {"tcp": ("/proc/net/tcp", "/proc/net/tcp6"), "udp": ("/proc/net/udp", "/proc/net/udp6")}


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
    """Whether a TCP server answers there in time, the look-up of a name included. Blocks its greenlet."""
    address = "127.0.0.1" if host in ("", ANY_HOST) else host
    with gevent.Timeout(CONNECT_TIMEOUT_S, False):
        try:
            socket.create_connection((address, port)).close()
        except OSError:
            return False
        return True
    return False


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


def _inodes(port: int, protocol: str, address: str = "", *, listening: bool) -> set[str]:
    """Inodes of the sockets bound to the port. A row: sl local_address rem_address st … uid timeout inode."""
    suffix = f":{port:04X}"
    waits = "07" if protocol == "udp" else "0A"
    found = set()
    for table in TABLES[protocol]:
        try:
            with open(table) as file:
                next(file, None)
                for line in file:
                    row = line.split()
                    if not row[1].endswith(suffix) or (listening and row[3] != waits) or row[9] == "0":
                        continue
                    if _overlaps(row[1].removesuffix(suffix), address):
                        found.add(row[9])
        except OSError:
            continue
    return found
