"""Secrets in files and from the terminal: read only where nobody else can read them, never from the arguments."""

import getpass
import os
import stat
import sys
from collections.abc import Mapping

from agent.errors import ConfigError

MAX_BYTES = 4096
MIN_PASSWORD_CHARS = 8


def read_private(path: str, what: str) -> str:
    """A small file's text; `-` and pipes are read as they are. ConfigError if others may read it, with the cure.

    Looks at the opened file, not at the path, so that nobody can exchange it in between.
    """
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as file:
                _refuse_if_shared(os.fstat(file.fileno()), path, what)
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{what} {path}: larger than {MAX_BYTES} bytes; is it the right file?")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{what} {path}: is not UTF-8 text; is it the right file?") from None


def _refuse_if_shared(status: os.stat_result, path: str, what: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        return
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{what} {path}: others can read it (mode {stat.S_IMODE(status.st_mode):04o}); type: chmod 600 {path}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{what} {path}: belongs to uid {status.st_uid}; type: chown {os.geteuid()} {path}")


def read_password(
    file: str | None, environ: Mapping[str, str] = os.environ, prompt: str = "password: ", twice: bool = False
) -> str:
    """From `file` (--password-file), else AGENT_PASSWORD, else asked for on the terminal. Raises ConfigError."""
    if file:
        password = read_private(file, "password file").removesuffix("\n").removesuffix("\r")
        source = f"password file {file}"
    elif "AGENT_PASSWORD" in environ:
        password, source = environ["AGENT_PASSWORD"], "AGENT_PASSWORD"
    else:
        return _ask(prompt, twice)
    if not password:
        raise ConfigError(f"{source} is empty")
    return password


def _ask(prompt: str, twice: bool) -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no password: give --password-file FILE (- is stdin) or AGENT_PASSWORD")
    try:
        password = getpass.getpass(prompt)
        if twice and getpass.getpass("again: ") != password:
            raise ConfigError("the two passwords differ; nothing was changed")
    except EOFError:
        raise ConfigError("no password was typed; nothing was changed") from None
    return password


def password_problem(password: str) -> str:
    """Why this may not become somebody's password, or ""."""
    if len(password) < MIN_PASSWORD_CHARS:
        return f"the password has {len(password)} characters, {MIN_PASSWORD_CHARS} are the least"
    if any(ord(c) < 32 or ord(c) == 127 for c in password):
        return "the password has a control character or a second line"
    if password.strip() != password:
        return "the password begins or ends with a space, which is more often a mistake than meant"
    return ""
