"""Measures the rows of docs/performance.md, each beside its peer in the same run, and writes that file.

Usage:
  bench [options] [<row>...]

Rows (`python -m bench relay start`): relay router start roundtrip idle oneshot login; without any: all of them.

Options:
  --quick      Tiny and meaningless numbers: only whether everything runs. Writes nothing.
  --no-write   Print the table only.
  --source     The roles run from source instead of from dist/agent.
"""

import sys
import tempfile
import time
from pathlib import Path

import docopt

from bench import group, idle, login, oneshot, relay, roundtrip, start
from bench.figure import Figure

ROWS = {
    "relay": relay.plain,
    "router": relay.shipped,
    "start": start.started,
    "roundtrip": roundtrip.commanded,
    "idle": idle.watched,
    "oneshot": oneshot.listed,
    "login": login.pictured,
}


def measure(row: str, quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="agent-bench-", ignore_cleanup_errors=True) as folder:
        return ROWS[row](Path(folder), quick)


def main(argv: list[str]) -> int:
    options = docopt.docopt(__doc__, argv)
    rows = options["<row>"] or list(ROWS)
    if unknown := [row for row in rows if row not in ROWS]:
        print(f"bench: no row {', '.join(unknown)}; there are {' '.join(ROWS)}", file=sys.stderr)
        return 2
    group.from_source = options["--source"]
    figures = []
    for row in rows:
        began = time.monotonic()
        found = measure(row, options["--quick"])
        print(f"bench: {row} took {time.monotonic() - began:.0f} s", file=sys.stderr)
        for figure in found:
            print(" | ".join(figure.cells()), flush=True)
        figures += found
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
