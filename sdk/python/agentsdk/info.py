"""What the program says of itself, as JSON text: whatever its `info` does, there is something to write. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from . import body

LOG = logging.getLogger("agentsdk")
MAX_BYTES = 64 * 1024


class Info:
    """Where `info` fails, the last good one goes on being told; the log has each trouble once."""

    def __init__(self, info: Callable[[], Any] | None) -> None:
        self._info = info
        self._last = "{}"
        self._said = ""

    def __call__(self) -> str:
        try:
            if self._info:
                self._last = encode(self._info())
            self._said = ""
        except Exception as error:
            self._complain(f"{type(error).__name__}: {error}")
        return self._last

    def _complain(self, trouble: str) -> None:
        if trouble != self._said:
            self._said = trouble
            LOG.warning("info cannot be told, the last one stands: %s", trouble)


def encode(info: Any) -> str:
    """Raises ValueError or TypeError."""
    if not isinstance(info, dict):
        raise ValueError(f"info is a {type(info).__name__}, not a dict")
    body.check(info)
    encoded = body.text(info)
    if len(encoded) > MAX_BYTES:
        raise ValueError(f"info of more than {MAX_BYTES} bytes")
    return encoded
