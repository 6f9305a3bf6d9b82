"""Joins a game server to its agent: record, GM commands, saved stops, events. docs/sdk.md is what it says on the wire.

    import agentsdk

    app = agentsdk.join(info=lambda: {"players": len(players)})

    @app.command(danger="write")
    def kick(player: int, reason: str = "no reason given") -> dict:
        '''throw a player out'''
        if player not in players:
            raise agentsdk.Refused(f"no player {player}")
        ...

And joins GM tools and web back ends to the group, through any daemon:

    with agentsdk.connect("192.168.1.10", user="tools", password=...) as group:
        group.gm("chatserver", "broadcast", text="...")

Read from the outside in: `application` is what a program sees; a host (`thread_host`, `poll_host`, `loop_host`) steps
the `engine`; that has two `connection`s, each with a `conversation`: the `link` to the daemon, whose requests go to the
`desk`, and the `record` in globaldb. Of all these only `stream` and `lookup` know sockets. For tools: `group` is what
they see, and `feed` what changes; a `line` is one `client` after the other, whom the `dialer` gets in by its `login`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import identity
from .application import Application
from .change import Change
from .errors import (
    AgentError,
    ConnectFailed,
    Forbidden,
    LinkLost,
    LoginRefused,
    NoReply,
    NotConfirmed,
    OutcomeUnknown,
    Refused,
)
from .feed import Feed
from .group import Group, connect
from .later import Later
from .report import Answer, Catalogue, Event, Gm, Machine, Outcome, Process, Task

__version__ = "1.0"
__all__ = [
    "AgentError",
    "Answer",
    "Application",
    "Catalogue",
    "Change",
    "ConnectFailed",
    "Event",
    "Feed",
    "Forbidden",
    "Gm",
    "Group",
    "Later",
    "LinkLost",
    "LoginRefused",
    "Machine",
    "NoReply",
    "NotConfirmed",
    "Outcome",
    "OutcomeUnknown",
    "Process",
    "Refused",
    "Task",
    "connect",
    "join",
]


def join(info: Callable[[], Any] | None = None, *, key: str = "", host: str = "thread") -> Application:
    """Outside of an agent the application does nothing, unless it is given a key. ValueError for a wrong host."""
    return Application(identity.from_environment(key=key), info, host)
