"""The shell: a prompt with completion, history and a status line, and a picture that the daemon keeps up to date.

All of it is one thread: while the prompt waits for a key, prompt_toolkit's asyncio loop calls `_let_greenlets_run`,
which waits for that loop's file descriptor in gevent's loop; so the link lives on and nothing needs a lock. The
standard library is not patched in this role: asyncio needs it as it is.
"""

import logging
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
from gevent.socket import wait_read
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.eventloop.inputhook import InputHookContext
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.shortcuts import CompleteStyle

from agent.errors import AgentError
from agent.gm import MASK
from agent.messages import WatchPicture
from roles.admin import commands, completion, grammar, quantity, status
from roles.admin.desk import EVERYTHING, Desk
from roles.admin.interrupt import Interrupt
from roles.admin.picture import Picture
from roles.admin.screen import Screen
from roles.admin.session import Session

log = logging.getLogger("agent.admin")

PROMPT = "agent> "
REFRESH_S = 1.0
CATALOGUE_S = 10.0
CATALOGUE_WAIT_S = 0.5  # a person who presses Tab does not mind


class ShellDesk(Desk):
    """The picture is at hand; a person is asked."""

    interactive = True

    def picture(self, parts: Sequence[str], selection: Any = EVERYTHING, pid: int = 0) -> Picture:
        picture = self.session.picture
        trouble = picture.trouble if self.session.link else self.session.trouble
        if trouble:
            age = (
                "never came"
                if picture.heard is None
                else f"is {quantity.duration(self.now() - picture.heard)} old"
            )
            self.warn(f"the picture {age}: {trouble}")
        return picture

    def confirm(self, question: str) -> bool:
        try:
            answer: str = PromptSession().prompt(f"{question}. Go on? [y/N] ", inputhook=_let_greenlets_run)
        except (KeyboardInterrupt, EOFError):
            return False
        return answer.strip().lower() in ("y", "yes", "是")


class Offer(Completer):
    """completion.candidates for prompt_toolkit."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._due = 0.0

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterator[Completion]:
        line = document.text_before_cursor.lstrip()
        if line.startswith("gm ") and time.monotonic() >= self._due:
            self._due = time.monotonic() + CATALOGUE_S
            gevent.spawn(self._session.refresh_catalogue).join(
                CATALOGUE_WAIT_S
            )  # else it is known at the next Tab
        replaced, words = completion.candidates(line, self._session.picture, self._session.catalogue)
        for word in words:
            yield Completion(word, start_position=-len(replaced))


def run(session: Session, screen: Screen, interrupt: Interrupt, timeout_s: float, sure: bool) -> int:
    """Until exit or Ctrl-D."""
    desk = ShellDesk(session, screen, interrupt, timeout_s, sure)
    history = LateHistory(_history(screen))
    prompt: PromptSession[str] = PromptSession(
        PROMPT,
        completer=Offer(session),
        complete_while_typing=False,
        complete_style=CompleteStyle.MULTI_COLUMN,
        history=history,
        bottom_toolbar=lambda: _status(session, desk),
        refresh_interval=REFRESH_S,
        enable_open_in_editor=False,
    )
    session.notify = lambda line: _tell(screen, line)
    session.keep()
    _greet(desk)
    while True:
        try:
            with patch_stdout(raw=True):
                text = prompt.prompt(inputhook=_let_greenlets_run)
        except KeyboardInterrupt:
            continue  # Ctrl-C empties the line
        except EOFError:
            return 0
        if text.strip() and not _run_line(desk, text, history):
            return 0


class LateHistory(History):
    """Keeps a GM command only after it ran, when it is known which of its words are secrets: then as the audit has it.
    One that never came so far is not kept."""

    def __init__(self, kept: History) -> None:
        super().__init__()
        self._kept = kept

    def load_history_strings(self) -> Iterable[str]:
        return self._kept.load_history_strings()

    def store_string(self, string: str) -> None:
        if not _may_be_gm(string):
            self._kept.store_string(string)

    def ran(self, text: str, command: grammar.Command, document: dict[str, Any]) -> None:
        """`document` is its Result's. What was typed is kept where no word of it is a secret."""
        spoken = str(document.get("spoken") or "")
        if "gm" not in document:  # help
            self._kept.store_string(text)
        elif MASK in spoken:
            any_ = "--any " if command.options.get("any") else ""
            self._kept.store_string(f"gm {any_}{command.selection.word} {spoken}")
        elif spoken:
            self._kept.store_string(text)


def _may_be_gm(text: str) -> bool:
    """However it is typed; what cannot be read may be one."""
    try:
        return shlex.split(text)[:1] == ["gm"]
    except ValueError:
        return True


def _run_line(desk: ShellDesk, text: str, history: "LateHistory") -> bool:
    """False when it was the last one."""
    try:
        command = grammar.parse(text)
        if command.verb == "exit":
            return False
        result = commands.run(desk, command)
        if command.verb == "gm":
            history.ran(text, command, result.document)
        desk.screen.show(command.text, result)
        for note in result.notes:
            desk.warn(note)
    except AgentError as error:
        desk.warn(error)
    except KeyboardInterrupt:
        desk.screen.end_progress()
        desk.screen.leave_line()
        desk.warn("cancelled")
    except Exception as error:
        # A bug in one command must not cost the operator his session.
        log.exception("command %.20r: a bug", text.split(" ")[0])
        desk.warn(
            f"internal error: {type(error).__name__}: {error}; set AGENT_LOG_LEVEL=debug for the traceback"
        )
    return True


def _greet(desk: ShellDesk) -> None:
    session = desk.session
    try:
        desk.interrupt.run(session.subscribe, WatchPicture(follow=True))
    except AgentError as error:
        desk.warn(error)
    except KeyboardInterrupt:
        desk.warn("the picture did not come yet; `list` shows what is there")
    version = session.link.peer.version if session.link else "?"
    desk.screen.lines(
        [
            f"daemon {session.daemon} (agent {version}), user {session.user}; `help` lists the commands, Tab completes"
        ]
    )
    for problem in session.picture.problems:
        desk.warn(f"configuration: {problem}")


def _let_greenlets_run(context: InputHookContext) -> None:
    """Until prompt_toolkit has something to do: a key, a resized window, its refresh."""
    wait_read(context.fileno())


def _status(session: Session, desk: ShellDesk) -> str:
    trouble = "" if session.link else session.trouble
    return " " + status.line(session.picture, session.daemon, trouble, desk.now())


def _tell(screen: Screen, line: str) -> None:
    """Above the prompt, from any greenlet: sys.stdout is prompt_toolkit's while it prompts."""
    screen.end_progress()
    print(f"agent: {line}", file=sys.stdout, flush=True)


def _history(screen: Screen) -> History:
    """Across sessions, for this user's eyes only. Passwords are asked for elsewhere and never come here."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = Path(state) / "agent" / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        screen.complain(f"no history will be kept: {path}: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(str(path))
