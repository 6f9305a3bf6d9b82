"""Asks one application to save before it is stopped, and brings its words into the keeper's inbox.

    ask ─► SaveProcess over its link ─┬─► acknowledged
                                      ├─► declined, or its handler failed: it has not saved, and goes on
                                      └─► the link was lost: it is asked again when it has joined again
    SaveProgressed ─► progressed ─► in words, for operators

What comes late brings the incarnation it is about (see course.py). A link that hangs is the alarm's business.
"""

import secrets
from collections.abc import Callable

import gevent

from agent.errors import LinkLost, NoReply, Refused
from agent.line import one_line
from agent.messages import SaveProgressed
from roles.daemon.application import Application, Applications
from roles.daemon.inbox import Inbox
from roles.daemon.memory import Memory

MAX_WORDS_CHARS = 200


class Saving:
    """Of one process."""

    def __init__(
        self,
        memory: Memory,
        applications: Applications,
        inbox: Inbox,
        on_saved: Callable[[str, str], None],
        on_declined: Callable[[str, str], None],
    ) -> None:
        """Both are called in the inbox's greenlet with the incarnation and the application's words."""
        self._entry = memory.entry
        self._applications = applications
        self._inbox = inbox
        self._on_saved = on_saved
        self._on_declined = on_declined
        self._asking: gevent.Greenlet | None = None
        self._asked: Application | None = None

    @property
    def application(self) -> Application | None:
        """The one of this run, where it has a link."""
        found = self._applications.get(self._entry.key)
        return found if found is not None and found.incarnation == self._entry.incarnation else None

    def ask(self) -> None:
        """Over the present link, once; where there is none, nothing: whoever joins is asked."""
        application = self.application
        if application is not None and application is self._asked and self._asking:
            return
        self.give_up()
        if application is not None and application.saves:
            self._asked = application
            reason = "restart" if self._entry.life.restarting else "stop"
            self._asking = gevent.spawn(self._ask, application, reason)

    def give_up(self) -> None:
        if self._asking is not None:
            self._asking.kill(block=False)
            self._asking = None

    def _ask(self, application: Application, reason: str) -> None:
        try:
            saved = application.save(secrets.token_hex(8), reason)
        except Refused as error:
            if error.code == "unreachable":  # the link is closed; it joins again
                return
            said = str(error) if error.code == "refused" else f"its save failed: {error}"
            self._inbox.post(self._on_declined, application.incarnation, one_line(said, MAX_WORDS_CHARS))
        except (LinkLost, NoReply):
            return
        else:
            self._inbox.post(self._on_saved, application.incarnation, one_line(saved.text, MAX_WORDS_CHARS))


def spoken(progress: SaveProgressed) -> str:
    """saving 812/2000 (players)"""
    count = (
        f" {progress.done}/{progress.total}"
        if progress.total
        else f" {progress.done}"
        if progress.done
        else ""
    )
    text = f" ({one_line(progress.text, MAX_WORDS_CHARS)})" if progress.text else ""
    return f"saving{count}{text}"
