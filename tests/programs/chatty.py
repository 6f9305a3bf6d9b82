"""Writes a numbered line to stdout and one to stderr every 10 ms, till TERM; a failed write ends it with code 9."""

import signal
import sys
import time

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
number = 0
while True:
    number += 1
    try:
        print(f"out {number}", flush=True)
        print(f"err {number}", file=sys.stderr, flush=True)
    except OSError:
        sys.exit(9)
    time.sleep(0.01)
