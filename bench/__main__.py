"""Measures the rows of docs/performance.md, each beside its peer in the same run, and writes that file.

Usage:
  bench [options] [<row>...]

Rows (`python -m bench relay start`): relay router start roundtrip gm broadcast poll idle oneshot login; without any:
all of them, and the file is written.

Options:
  --quick      Tiny and meaningless numbers: only whether everything runs.
  --alone      Without peers: nothing is installed.
  --no-write   Print the table only.
  --source     The roles run from source instead of from dist/agent.
"""

import sys
import tempfile
import time
from pathlib import Path

import docopt

from bench import broadcast, gm, group, idle, login, oneshot, peer, poll, relay, report, roundtrip, start
from bench.figure import HEADINGS, Figure

ROWS = {
    "relay": relay.plain,
    "router": relay.shipped,
    "start": start.started,
    "roundtrip": roundtrip.commanded,
    "gm": gm.answered,
    "broadcast": broadcast.told,
    "poll": poll.polled,
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
    group.from_source, peer.alone = options["--source"], options["--alone"]
    measured: dict[str, list[Figure]] = {}
    for row in rows:
        began = time.monotonic()
        measured[row] = measure(row, options["--quick"])
        print(f"bench: {row} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    figures = [figure for found in measured.values() for figure in found]
    for line in render([HEADINGS, *(figure.cells() for figure in figures)]):
        print(line)
    if not (options["<row>"] or options["--quick"] or options["--no-write"]):
        report.write(measured)
    return 0


def render(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
