"""Serves TCP (or, with `udp` as argv[3], UDP) on port argv[1] after argv[2] seconds; ends on TERM with code 0."""

import signal
import socket
import sys
import time

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0)
if sys.argv[3:] == ["udp"]:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", int(sys.argv[1])))
    while True:
        server.recv(2048)
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    server.accept()[0].close()
