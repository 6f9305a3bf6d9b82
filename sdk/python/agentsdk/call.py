"""A call: one request on its way through a handler of the program.

The engine makes it, a host runs it wherever handlers run there, and its answer goes back to the engine through `done`.
Nothing that a handler does gets out of `run` but an order to end the program (SystemExit, KeyboardInterrupt).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from . import body, frame
from .errors import Refused
from .later import Later, Outcome
from .ledger import Answer

LOG = logging.getLogger("agentsdk")
MAX_BODY_BYTES = 64 * 1024
MAX_REASON = 1000  # characters


class Call:
    """`wrap` makes the answering message, (name, fields), of what the handler gave."""

    def __init__(
        self,
        what: str,
        function: Callable[..., Any],
        words: dict[str, Any],
        wrap: Callable[[Any], tuple[str, dict[str, Any]]],
        done: Callable[[Answer], None],
    ) -> None:
        self.what = what
        self._function, self._words, self._wrap, self._done = function, words, wrap, done

    def run(self) -> Any:
        """A coroutine that is still to be awaited, of which `settle` or `fail` is then to be told; else None."""
        try:
            result = self._function(**self._words)
            if inspect.isawaitable(result):
                return result
            self.settle(result)
        except BaseException as error:
            self.fail(error)
            if not isinstance(error, Exception):
                raise
        return None

    def settle(self, result: Any) -> None:
        """The handler has returned."""
        if isinstance(result, Later):
            result.bind(self._end)
        else:
            self._end(Outcome("", result))

    def fail(self, error: BaseException) -> None:
        """The handler has raised."""
        if isinstance(error, Refused):
            self._end(Outcome("refused", str(error)))
            return
        LOG.error("%s failed", self.what, exc_info=error)
        self._end(
            Outcome("internal", f"{self.what} failed ({type(error).__name__}); the process's log says more")
        )

    def _end(self, outcome: Outcome) -> None:
        self._done(self._answer(outcome))

    def _answer(self, outcome: Outcome) -> Answer:
        if outcome.code:
            return refusal(outcome.code, outcome.value)
        try:
            encoded = body.encode(*self._wrap(outcome.value))
        except Exception as error:
            LOG.error("%s gave what cannot be sent: %s", self.what, error)
            return refusal("internal", f"{self.what} gave what cannot be sent: {error}")
        if len(encoded) > MAX_BODY_BYTES:
            LOG.error("%s gave an answer of %d bytes", self.what, len(encoded))
            return refusal("internal", f"{self.what} gave an answer of more than {MAX_BODY_BYTES} bytes")
        return Answer(frame.REPLY, encoded)


def refusal(code: str, text: str) -> Answer:
    return Answer(frame.ERROR, body.encode("error", {"code": code, "text": str(text)[:MAX_REASON]}))
