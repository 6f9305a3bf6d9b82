"""Every error a user may see. Imports nothing.

`str(error)` is the whole message for the operator: what was wrong, where, what to do. `exit_code` is the
process's exit status when the error ends a command (DESIGN: 1 failed, 2 usage, 3 could not connect or log in,
4 forbidden, 5 outcome unknown). An error that is not an AgentError is a bug and never reaches a peer.
"""


class AgentError(Exception):
    """Something a user can understand and act on."""

    exit_code = 1


class UsageError(AgentError):
    """The words of a command or an option are off."""

    exit_code = 2


class ConfigError(AgentError):
    """Configuration (world, program, user, settings, file) is wrong; names key, field and line where known."""

    exit_code = 2


class StoreDown(AgentError):
    """globaldb did not answer, or not in time; what was asked may or may not have happened."""

    exit_code = 3


class StoreRefused(AgentError):
    """globaldb answered with an error (authentication, unknown command, wrong type)."""

    exit_code = 3


class WireError(AgentError):
    """A peer broke the protocol; its link is closed."""


class LinkLost(AgentError):
    """The connection ended before the reply came: what was asked may or may not have happened."""

    exit_code = 5


class NoReply(AgentError):
    """The time for a reply ran out: what was asked may or may not have happened."""

    exit_code = 5


class ConnectFailed(AgentError):
    """No connection could be made, or the peer was not let in."""

    exit_code = 3


class LoginRefused(ConnectFailed):
    """The peer answered and said no: wrong credentials, too many tries, not configured."""

    def __init__(self, text: str, code: str = "forbidden") -> None:
        super().__init__(text)
        self.code = code

    @property
    def is_final(self) -> bool:
        """Whether it will be the same next time, unless a person does something."""
        return self.code not in ("unavailable", "too_many")


class Refused(AgentError):
    """An expected "no" of a handler; `code` is one of the words in REFUSAL_CODES."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        return EXIT_CODES.get(self.code, 1)


# code on the wire -> exit code of a one-shot command
EXIT_CODES = {
    "forbidden": 4,  # this peer, or this user, may not
    "unknown_target": 1,  # no such machine, process, pid
    "bad_request": 2,  # fields that make no sense
    "unreachable": 1,  # the hop named in the text has no link to the target: nothing was sent
    "overloaded": 1,  # the target's link is full: nothing was sent
    "unavailable": 1,  # globaldb or another service is down: nothing was done
    "timed_out": 5,  # the hop named in the text waited in vain: the outcome is unknown
    "too_many": 3,  # tries or connections are limited
    "refused": 1,  # an application says no, for the reason in the text
    "unconfirmed": 2,  # the operator has to confirm it first; nothing was done
    "forgotten": 5,  # nobody knows any more what became of it
    "internal": 1,  # a bug; the log of the machine named in the text has the traceback
}
