"""Ctrl-C as an event: it ends a wait, and never the greenlet that happens to run.

Python's own KeyboardInterrupt would be raised in whichever greenlet runs at that moment, which may be the reader of the
link: then Ctrl-C costs the connection. So the signal only wakes who waits here.
"""

import signal
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent.event import Event

T = TypeVar("T")


class Interrupt:
    """One per program, made in its main greenlet. On Ctrl-C `run` and `wait` raise KeyboardInterrupt there."""

    def __init__(self) -> None:
        self._pressed = Event()
        self._loop = gevent.get_hub().loop
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._loop.run_callback_threadsafe(self._pressed.set)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """The function in a greenlet of its own, which is left behind on Ctrl-C."""
        self._pressed.clear()
        worker = gevent.spawn(_caught, function, *args)
        gevent.wait([worker, self._pressed], count=1)
        if not worker.ready():
            worker.kill(block=False)
            raise KeyboardInterrupt
        value, error = worker.get()
        if error is not None:
            raise error
        return value

    def wait(self, seconds: float) -> None:
        self._pressed.clear()
        if self._pressed.wait(seconds):
            raise KeyboardInterrupt


def _caught(function: Callable[..., T], *args: Any) -> tuple[Any, Exception | None]:
    """An exception as a value: one that leaves a greenlet would be printed by the hub."""
    try:
        return function(*args), None
    except Exception as error:
        return None, error
