"""What can go wrong, as the rest of the package names it. Imports nothing."""

from __future__ import annotations

from typing import Any


class AgentError(Exception):
    """Whatever `connect` and its group raise for what others do, or do not do."""


class Refused(AgentError):
    """Somebody says no, and nothing was done: a handler to its operators, a daemon to a tool. The text is the reason.

    `code` is one of docs/protocol.md.
    """

    def __init__(self, text: object = "", code: str = "refused") -> None:
        super().__init__(text)
        self.code = code


class Forbidden(Refused):
    """This user may not."""


class NotConfirmed(Refused):
    """It reaches far, or is red: `question` is what a person should say yes to, then call again with confirm=True."""

    def __init__(self, text: str, question: str) -> None:
        super().__init__(text, "unconfirmed")
        self.question = question


class ConnectFailed(AgentError):
    """There is no daemon to ask, or it cannot let anybody in just now: nothing was asked."""


class LoginRefused(ConnectFailed):
    """Wrong name or password, or whoever answers is not the daemon that it claims to be."""


class OutcomeUnknown(AgentError):
    """It was asked, and what became of it is not known: it may have happened.

    `came` holds the outcomes, or answers, that came before; `id` is that of a GM call, for `gm_again`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.came: list[Any] = []
        self.id = ""


class LinkLost(OutcomeUnknown):
    """The connection to the daemon ended before it answered."""


class NoReply(OutcomeUnknown):
    """Time was up before the answer came."""


class WireError(Exception):
    """The other end broke the protocol, or does not answer: its connection is closed."""
