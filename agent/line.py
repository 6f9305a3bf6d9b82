"""Text that somebody else wrote, made fit for one line of a log or a terminal. Pure.

A user name with a line feed must not forge a log line, nor a stranger's refusal steer the operator's terminal.
"""

import re

# controls, line and paragraph separators, what reverses the direction of text, halves of surrogate pairs
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str, most: int = 4000) -> str:
    """What would not stay in its line is written as an escape (`\\n`, `\\x1b`); too long a text ends in an ellipsis."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    return _UNFIT.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return ascii(match.group())[1:-1]
