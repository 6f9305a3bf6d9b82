"""Says the one line when the server serves.

This process is about to become the server, so a grandchild asks until the answer comes from that very pid, says so and
ends. It is nobody's child by then (the server would not know what to do with one), and ends with the server at the
latest.
"""

import os
import re
import select
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from agent.address import Address

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.25
ANSWER_TIMEOUT_S = 1.0


def start(
    listen: Address, password: str | None, data: Path, *, server_pid: int, inherited: Iterable[int]
) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            for handle in inherited:
                os.close(handle)
            announce(listen, password, data, server_pid)
    finally:
        os._exit(0)  # never back into the caller's code


def announce(listen: Address, password: str | None, data: Path, server_pid: int) -> None:
    server = os.pidfd_open(server_pid)
    pause_s = FIRST_PAUSE_S
    while not is_over(server, pause_s):
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        version = ask(listen, password, server_pid)
        if version:
            # one write: the server's log goes to the same place
            line = f"globaldb {listen} serving, data in {data} (valkey {version})\n"
            os.write(sys.stderr.fileno(), line.encode())
            return


def is_over(server: int, wait_s: float) -> bool:
    return bool(select.select([server], [], [], wait_s)[0])


def ask(listen: Address, password: str | None, server_pid: int) -> str | None:
    """The server's version, if it answers, has its data loaded, and is the process that was meant."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    commands = b"PING\r\nINFO server\r\nQUIT\r\n"
    if password is not None:
        # inline commands split at quotes and spaces: send it as an array
        commands = (
            b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(password.encode()), password.encode()) + commands
        )
    answer = b""
    try:
        with socket.create_connection((host, listen.port), ANSWER_TIMEOUT_S) as link:
            link.sendall(commands)
            while chunk := link.recv(65536):
                answer += chunk
    except OSError:
        return None
    if b"+PONG\r\n" not in answer or f"\nprocess_id:{server_pid}\r".encode() not in answer:
        return None
    found = re.search(rb"\nvalkey_version:([\w.]+)", answer)
    return found[1].decode() if found else "of unknown version"
