"""Key: the group's secret, and what each machine holds of it.

Usage:
  agent key group
  agent key machine IP [options]

Commands:
  group     A new secret for the group, to stdout. The router needs it: agent key group > group.key
  machine   The key of one machine, to stdout, good for that ip only: the daemon there needs it.

Options:
  --key FILE     The group's key. [default: /etc/agent/group.key]
  --config FILE  TOML file with these options. [default: /etc/agent.toml]
  -h --help      This text.

A file that stdout goes to is made readable for its owner only.
"""

import os
import stat
import sys

from agent import key, settings


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "key")
    if options["group"]:
        line = key.new_group_key()
    else:
        line = key.machine_key_line(key.read_group_key(options["--key"]), options["IP"])
    keep_private()
    print(line)
    return 0


def keep_private() -> None:
    """`> FILE` made it with the shell's umask; nobody reads a key that others could read."""
    try:
        handle = sys.stdout.fileno()
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            os.fchmod(handle, 0o600)
    except OSError:  # no file, or not ours: whoever reads it will say so
        pass
