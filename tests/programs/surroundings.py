"""Writes what it was given to stdout as one line of JSON, then ends: environment, files, limits, signals, user."""

import json
import os
import resource
import sys

with open("/proc/self/status") as status:
    masks = dict(line.split(":\t") for line in status.read().splitlines() if line.startswith("Sig"))
files = {}
for entry in os.listdir("/proc/self/fd"):
    try:
        files[entry] = os.readlink(f"/proc/self/fd/{entry}")
    except OSError:
        continue
print(
    json.dumps(
        {
            "argv": sys.argv,
            "cwd": os.getcwd(),
            "environ": dict(os.environ),
            "files": files,
            "gid": os.getgid(),
            "groups": os.getgroups(),
            "ignored": int(masks["SigIgn"], 16),
            "blocked": int(masks["SigBlk"], 16),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "sid": os.getsid(0),
            "pid": os.getpid(),
            "uid": os.getuid(),
        }
    ),
    flush=True,
)
