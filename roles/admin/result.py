"""What a command has to say: the same thing as text and as a document, and the exit code. Pure."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """`lines` for people and `document` for programs (stable keys) go to stdout, `notes` to stderr.

    `trouble` is what of the lines went wrong: where stdout is no terminal it stands on stderr too, for cron to mail.
    """

    lines: list[str]
    document: dict[str, Any]
    exit_code: int = 0
    notes: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
