"""Serves TCP (or, with `udp` as argv[2], UDP) on port argv[1] until USR1, then hangs with its socket open, until USR2.

Ends on TERM with code 0, hung or not.
"""

import signal
import socket
import sys
from types import FrameType

WAKE, END = signal.SIGUSR2, signal.SIGTERM


def hang(number: int, frame: FrameType | None) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {END})
    if signal.sigwait({WAKE, END}) == END:
        sys.exit(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {END})


signal.pthread_sigmask(signal.SIG_BLOCK, {WAKE})
signal.signal(END, lambda number, frame: sys.exit(0))
signal.signal(signal.SIGUSR1, hang)
if sys.argv[2:] == ["udp"]:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", int(sys.argv[1])))
    while True:
        server.recv(2048)
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    server.accept()[0].close()
