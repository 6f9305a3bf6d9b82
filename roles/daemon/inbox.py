"""What reaches a keeper, one after another in one greenlet: now (`post`), or when an Alarm goes off.

A message is a function and its arguments. After each one `settle` is called, so nothing is half done when the next
begins. A message posted before a change may be handled after it: whoever it is for looks whether it still holds.
"""

from collections.abc import Callable
from typing import Any

from gevent import get_hub
from gevent.queue import SimpleQueue


class Inbox:
    """Messages in order; after `close` none is taken or handled."""

    def __init__(self, settle: Callable[[], None]) -> None:
        self.closed = False
        self._settle = settle
        self._messages: SimpleQueue = SimpleQueue()

    def post(self, function: Callable, *args: object) -> None:
        if not self.closed:
            self._messages.put((function, args))

    def run(self) -> None:
        """Till it is closed."""
        while (message := self._messages.get()) is not None:
            if self.closed:
                return
            function, args = message
            function(*args)
            self._settle()

    def close(self) -> None:
        self.closed = True
        self._messages.put(None)


class Alarm:
    """One timer that posts a message; set anew it forgets what it was set to."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._timer: Any = None

    def set(self, seconds: float, function: Callable, *args: object) -> None:
        self.clear()
        self._timer = get_hub().loop.timer(max(0.0, seconds))
        self._timer.start(self._inbox.post, function, *args)

    def clear(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
