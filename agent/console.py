"""What commands share that change globaldb from a shell instead of through a daemon: their line in the audit."""

import getpass
import os
import socket
import sys
import time

from agent.errors import StoreDown, StoreRefused
from agent.globaldb import GlobalDb


def who() -> str:
    """The account behind this shell, through sudo too."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, in a container
        return f"uid {os.geteuid()}"


def note(globaldb: GlobalDb, what: str, verdict: str) -> None:
    """Into the audit; what was done stays done if that fails, and this is said."""
    line = {
        "at": round(time.time(), 3),
        "user": f"{who()} (shell)",
        "from": socket.gethostname(),
        "daemon": "",
        "what": what,
        "verdict": verdict,
        "targets": [],
    }
    try:
        globaldb.append_audit(line)
    except (StoreDown, StoreRefused) as error:
        print(f"not in the audit: {error}", file=sys.stderr)
