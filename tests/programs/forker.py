"""Starts a child in its own session: argv[1] `mild` ends on TERM, `deaf` ignores it. Itself ends on TERM, code 0;
with `leave` as argv[2] it ends at once with code 1 and leaves the child behind.

The child's pid is the first line of output.
"""

import os
import signal
import sys
import time

pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "deaf" else signal.SIG_DFL)
    while True:
        time.sleep(1)
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
print(pid, flush=True)
if sys.argv[2:] == ["leave"]:
    sys.exit(1)
while True:
    signal.pause()
