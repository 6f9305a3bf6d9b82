"""Waiting for a condition instead of sleeping for a guess."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """The first true answer of `condition`; AssertionError when there is none in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause_s = 0.002
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(pause_s)
        pause_s = min(0.05, pause_s * 1.5)
