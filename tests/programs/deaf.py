"""Ignores TERM for argv[1] seconds after the first one (forever without), like a server that saves.

Writes one line to the file argv[2], if given, for each TERM.
"""

import signal
import sys
import time

heard_at = 0.0


def hear(number: int, frame: object) -> None:
    global heard_at
    heard_at = heard_at or time.monotonic()
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a") as file:
            file.write("TERM\n")


signal.signal(signal.SIGTERM, hear)
print("deaf", flush=True)
while True:
    time.sleep(0.02)
    if len(sys.argv) > 1 and heard_at and time.monotonic() - heard_at > float(sys.argv[1]):
        sys.exit(0)
