"""What a command needs from where it is typed: the daemon, the picture, the operator's consent.

Two desks: a script's (oneshot.py) asks for a picture when a command needs one and never asks a person; the shell's
(repl.py) has a picture that the daemon keeps up to date, and asks before a wide command.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent

from agent.errors import AgentError, LinkLost, NoReply
from agent.gm import Answer
from agent.messages import CallGm, GmVerdicts, OperateGroup
from agent.outcome import Outcome
from agent.selection import Selection
from roles.admin import reports
from roles.admin.interrupt import Interrupt
from roles.admin.picture import Picture
from roles.admin.screen import Screen
from roles.admin.session import Session

READ_S = 20.0
TICK_S = 1.0
SHOWN = 2  # targets whose progress fits the line
EVERYTHING = Selection()


class Operated(NamedTuple):
    """Outcomes that came, and why not all of them did ("" when all did)."""

    outcomes: list[Outcome]
    trouble: str


class Desk:
    """Shared by both; `interactive` is a person at a prompt."""

    interactive = False

    def __init__(
        self, session: Session, screen: Screen, interrupt: Interrupt, timeout_s: float, sure: bool
    ) -> None:
        self.session = session
        self.screen = screen
        self.interrupt = interrupt
        self.timeout_s = timeout_s
        self.sure = sure  # --yes

    def picture(self, parts: Sequence[str], selection: Selection = EVERYTHING, pid: int = 0) -> Picture:
        raise NotImplementedError

    def confirm(self, question: str) -> bool:
        """Whether to go on. Raises UsageError where nobody can be asked."""
        raise NotImplementedError

    def now(self) -> float:
        return time.monotonic()

    def ask(self, request: Any) -> Any:
        """A question that changes nothing. Raises what Session.call raises, and KeyboardInterrupt."""
        return self.interrupt.run(self.session.call, request, min(self.timeout_s, READ_S))

    def operate(self, request: OperateGroup, total: int = 0) -> Operated:
        """Wait for the outcomes and show progress. A wait that ends early leaves those that came by then."""
        came: dict[str, Outcome] = {}
        far: dict[str, str] = {}  # target -> how far it is, in its own words
        began = self.now()

        def progress(outcome: Outcome) -> None:
            came[outcome.target] = outcome
            show()

        def said(target: str, words: str) -> None:
            far[target] = words
            show()

        def show() -> None:
            counts = Counter(outcome.result for outcome in came.values())
            told = f" {reports.progress(counts, total)}" if came or total else ""
            going = [f"; {reports.place(target)[2]}: {far[target]}" for target in far if target not in came]
            more = f"; and {len(going) - SHOWN} more" if len(going) > SHOWN else ""
            waiting = f"{request.verb}: waiting {self.now() - began:.0f} s …{told}"
            self.screen.progress(waiting + "".join(going[:SHOWN]) + more)

        def tick() -> None:
            while True:
                gevent.sleep(TICK_S)
                show()

        ticking = gevent.spawn(tick)
        with self.session.progress_of(request.command, progress, said):
            try:
                reply = self.interrupt.run(self.session.call, request, self.timeout_s)
                return Operated([Outcome(*entry[:4]) for entry in reply.outcomes], "")
            except KeyboardInterrupt:
                self.screen.leave_line()
                return Operated(
                    list(came.values()), "the wait was ended; the command goes on: `audit` shows its end"
                )
            except (LinkLost, NoReply) as error:
                return Operated(list(came.values()), f"{error}; the command may go on: `audit` shows its end")
            finally:
                ticking.kill()
                self.screen.end_progress()

    def call_gm(self, request: CallGm, wait_s: float, take: Callable[[list[Answer]], object]) -> GmVerdicts:
        """`take` gets verdicts as they come. Raises what Session.call raises, and KeyboardInterrupt."""
        with self.session.answers_of(request.id, take):
            verdicts: GmVerdicts = self.interrupt.run(self.session.call, request, wait_s)
            return verdicts

    def warn(self, error: AgentError | str) -> None:
        self.screen.complain(str(error))


def command_number() -> str:
    return secrets.token_hex(4)
