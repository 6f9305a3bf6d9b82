"""Logs go to stderr, one line per change of state: time, level if it matters, who, what.

The init system or the shell keeps them; the agent rotates nothing of its own here.
"""

import logging
import os
import sys

from agent.line import one_line


class _Lines(logging.Formatter):
    default_msec_format = "%s.%03d"

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        record.__dict__["shown_level"] = level
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Without the traceback: one record, one line, whoever's words are in it."""
        return one_line(super().formatMessage(record))


def begin() -> None:
    """Once, when a role starts. AGENT_LOG_LEVEL=debug shows more.

    What no line shows is not found out for each line (logging HOWTO, "Optimization"): half of a line's cost.
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(shown_level)s%(message)s"))
    level = os.environ.get("AGENT_LOG_LEVEL", "info").upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else "INFO", handlers=[handler]
    )
