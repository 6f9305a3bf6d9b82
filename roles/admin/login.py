"""Who logs in, and with what password. The password never is an argument, and never leaves this process's memory."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent import credential
from agent.errors import UsageError
from agent.names import user_problem

TRIES = 3


class Credentials(NamedTuple):
    user: str
    password: str
    typed: bool  # by a person, who may mistype it


def find(
    user: str | None,
    password_file: str | None,
    environ: Mapping[str, str] = os.environ,
    *,
    ask: Callable[[str], str] | None = None,
) -> Credentials:
    """What options and environment leave open is asked for: the name by `ask` (None: nobody can be asked)."""
    name = user or _ask_user(environ.get("USER", ""), ask)
    if problem := user_problem(name):
        raise UsageError(f'user name "{name}" {problem}')
    typed = not password_file and "AGENT_PASSWORD" not in environ
    if typed and not sys.stdin.isatty():
        raise UsageError(f"no password for user {name}: give --password-file FILE, or set AGENT_PASSWORD")
    for _try in range(TRIES):
        password = credential.read_password(password_file, environ, f"password of {name}: ")
        if not any(ord(c) < 32 or ord(c) == 127 for c in password):
            return Credentials(name, password, typed)
        if not typed:
            break
        print("agent: a control character was in it (Ctrl-L?); type it again", file=sys.stderr)
    raise UsageError(f"the password of {name} has a control character in it, which none may have")


def _ask_user(default: str, ask: Callable[[str], str] | None) -> str:
    name = (ask(f"user [{default}]: " if default else "user: ").strip() or default) if ask else default
    if not name:
        raise UsageError("which user? give --user NAME, or set AGENT_USER")
    return name
