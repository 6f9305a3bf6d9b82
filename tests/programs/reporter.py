"""Reports for itself, as a game server does: every argv[2] seconds to the globaldb on port argv[1]. Ends on TERM.

With `late` as argv[3] it keeps silent for the first two seconds.
"""

import json
import os
import select
import signal
import socket
import sys
import time

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
key = "process:" + os.environ["AGENT_PROCESS"]


def rest(seconds: float) -> None:
    """Not time.sleep: with an absolute deadline libfaketime makes nonsense of it."""
    select.select([], [], [], seconds)


if sys.argv[3:] == ["late"]:
    rest(2)


def send(connection: socket.socket, *words: str) -> None:
    data = [word.encode() for word in words]
    connection.sendall(
        b"*%d\r\n" % len(data) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in data)
    )
    connection.recv(4096)


players = 0
while True:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as connection:
            while True:
                players += 1
                info = json.dumps({"players": players})
                send(connection, "HMSET", key, "lastupdate", f"{time.time():.3f}", "info", info)
                rest(float(sys.argv[2]))
    except OSError:
        rest(0.2)
