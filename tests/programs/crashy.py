"""Ends by itself after argv[1] seconds: with code argv[2], or by the signal argv[2] (`SEGV`)."""

import os
import signal
import sys
import time

time.sleep(float(sys.argv[1]))
if sys.argv[2].isdigit():
    sys.exit(int(sys.argv[2]))
os.kill(os.getpid(), getattr(signal, f"SIG{sys.argv[2]}"))
