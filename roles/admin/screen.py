"""Where text ends up: a terminal's width and colours, the progress line, or plain text and JSON for a script."""

import os
import re
import sys
from typing import Any

import ujson

from agent.table import paint as coloured
from agent.table import safe, width
from roles.admin.fold import fold
from roles.admin.result import Result

COLOURS = {
    **dict.fromkeys(("RUNNING", "ok", "✓"), "green"),
    **dict.fromkeys(("STARTING", "STOPPING", "BACKOFF", "unknown"), "yellow"),
    **dict.fromkeys(("SILENT", "DEAD", "LOST", "FATAL", "FOREIGN", "failed", "refused", "✗"), "red"),
    **dict.fromkeys(("NO", "TWO DAEMONS"), "red"),
    **dict.fromkeys(("STOPPED", "EXITED", "UNKNOWN", "already"), "grey"),
}
# A word that stands alone between blanks or the punctuation of a summary; names of processes are joined by dots.
_WORDS = re.compile(r"(?<![^\s])(" + "|".join(map(re.escape, COLOURS)) + r")(?![^\s,;])")
MIN_WIDTH = 40


class Screen:
    """stdout and stderr of this program."""

    def __init__(self, out: Any = None, err: Any = None, *, as_json: bool = False) -> None:
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self.as_json = as_json
        self.tty = self.out.isatty()
        self.colour = self.tty and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._progress = ""
        if as_json:
            _reconfigure(self.out, encoding="utf-8")
        else:
            _reconfigure(self.out, errors="replace")
        _reconfigure(self.err, errors="replace")

    def show(self, command: str, result: Result) -> None:
        self.end_progress()
        if self.as_json:
            self.document({"command": command, "exit_code": result.exit_code, **result.document})
        else:
            self.lines(result.lines)
        if not self.tty and not self._together():
            for line in result.trouble:
                self.complain(line)

    def _together(self) -> bool:
        """Whether stdout and stderr end up in one file: nobody needs to read there twice what went wrong."""
        try:
            out, err = os.fstat(self.out.fileno()), os.fstat(self.err.fileno())
        except (OSError, ValueError):
            return False
        return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)

    def lines(self, lines: list[str]) -> None:
        if self.tty:
            lines = [self.dress(piece) for line in lines for piece in fold(line, self.width)]
        self.out.write("".join(f"{line}\n" for line in lines))
        self.out.flush()

    def document(self, document: dict[str, Any]) -> None:
        self.out.write(ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False) + "\n")
        self.out.flush()

    def complain(self, text: str) -> None:
        self.end_progress()
        self.out.flush()
        lines = text.split("\n")
        self.err.write("\n".join([f"agent: {safe(lines[0])}", *map(safe, lines[1:])]) + "\n")
        self.err.flush()

    def dress(self, line: str) -> str:
        """Cut to the terminal, with colours; as it is where there is none."""
        if not self.tty:
            return line
        return paint(cut(line, self.width)) if self.colour else cut(line, self.width)

    @property
    def width(self) -> int:
        return max(MIN_WIDTH, self._size().columns)

    @property
    def height(self) -> int:
        return self._size().lines

    def _size(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self.out.fileno())
        except OSError:
            return os.terminal_size((80, 24))

    # ---- progress: one line that is written over, on a terminal only -------------------------------------------------

    def progress(self, text: str) -> None:
        if self.tty and self.err.isatty():
            self.err.write(f"\r\x1b[K{cut(text, self.width - 1)}")
            self.err.flush()
            self._progress = text

    def leave_line(self) -> None:
        """Below the ^C that the terminal has written."""
        if self.tty:
            self.out.write("\n")
            self.out.flush()

    def end_progress(self) -> None:
        if self._progress:
            self.err.write("\r\x1b[K")
            self.err.flush()
            self._progress = ""


def _reconfigure(stream: Any, **how: str) -> None:
    """A terminal that is not UTF-8 shows a question mark for what it lacks, instead of ending us."""
    stream.reconfigure(**how)


def paint(line: str) -> str:
    return _WORDS.sub(lambda found: coloured(found[1], COLOURS[found[1]]), line)


def cut(line: str, most: int) -> str:
    """At most so many cells of the screen; … says that something is missing."""
    if width(line) <= most:
        return line
    kept = line[: most - 1]
    while width(kept) > most - 1:
        kept = kept[:-1]
    return kept + "…"
