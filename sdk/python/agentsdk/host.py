"""A host: who steps the engine, and where the program's handlers run. `thread`, `poll` and `asyncio` are the three.

A host is thin: nothing about frames, records or requests may be decided here.
"""

from __future__ import annotations

import logging

from .call import Call
from .engine import Engine

LOG = logging.getLogger("agentsdk")


class Host:
    awaits = False  # whether handlers may be coroutines

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        engine.mailbox.wake = self.wake

    def start(self) -> None:
        """Once, when the program joins."""

    def wake(self) -> None:
        """Any thread: there is something in the mailbox."""

    def flush(self) -> None:
        """A handler that goes on for long has said something that should be sent before it returns."""

    def close(self) -> None:
        self.step()
        self.engine.close()

    def step(self) -> None:
        """Whatever goes wrong in here, the program goes on."""
        try:
            self.engine.step()
        except Exception:
            LOG.exception("a step failed")

    def run(self, call: Call) -> None:
        """Here and now."""
        left = call.run()
        if left is not None:
            call.fail(TypeError('a coroutine needs join(host="asyncio")'))
            getattr(left, "close", lambda: None)()
