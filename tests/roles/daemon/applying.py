"""Applications for the tests: a real link over a socket pair, at the far end of which a script answers."""

from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket

from agent import messages
from agent.declaration import read_declarations
from agent.dispatch import Table
from agent.errors import Refused
from agent.link import Link
from roles.daemon.application import Application, Applications, link_options

KICK = {"name": "kick", "arguments": [{"name": "player", "type": "int"}, {"name": "reason", "default": ""}]}
LOOK = {"name": "look", "danger": "read"}
WIPE = {"name": "wipe", "danger": "red"}
LOGIN = {"name": "login", "arguments": [{"name": "user"}, {"name": "password", "secret": True}]}
BROADCAST = {"name": "broadcast", "arguments": [{"name": "text"}]}
COMMANDS = [KICK, LOOK, WIPE, LOGIN, BROADCAST]


class Game:
    """The far end. `answers` has what to do with each request: name -> a value, an exception, or a function of it;
    `asked` is what came."""

    def __init__(
        self,
        applications: Applications,
        key: str,
        incarnation: str = "",
        commands: Any = COMMANDS,
        **can: bool,
    ):
        self.asked: list[Any] = []
        self.answers: dict[type, Any] = {
            messages.ExecuteGm: lambda asked: messages.GmAnswer({"ran": asked.command}),
            messages.SaveProcess: messages.ProcessSaved("all of it"),
            messages.SetEntry: messages.EntryState("ok"),
        }
        here, there = socket.socketpair()
        table = Table()
        for request in self.answers:
            table.on(request, ask=("daemon",))(self._answer)
        self.far = Link(there, local=b"", role="daemon", name="d", address="", table=table, state=None)
        self.link = Link(
            here, local=b"", role="app", name=key, address="", table=Table(), state=None, **link_options()
        )
        self._runs = [gevent.spawn(self.far.run), gevent.spawn(self.link.run)]
        self.application: Application = applications.enter(self.link, incarnation)
        can = {"saves": True, "entry": True, **can}
        applications.declare(self.application, can["saves"], can["entry"], read_declarations(commands))
        self._applications = applications

    def _answer(self, _state: Any, _peer: Any, asked: Any) -> Any:
        self.asked.append(asked)
        answer = self.answers[type(asked)]
        answer = answer(asked) if isinstance(answer, Callable) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def names(self) -> list[str]:
        """Of the requests that came."""
        return [type(asked).__name__ for asked in self.asked]

    def lose(self) -> None:
        """Its link ends, as if it had died."""
        self.link.close("lost")
        self.far.close("lost")
        self._applications.leave(self.application, "lost")
        gevent.joinall(self._runs, timeout=5)


def refused(text: str, code: str = "refused") -> Refused:
    return Refused(code, text)
