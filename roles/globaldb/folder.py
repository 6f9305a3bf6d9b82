"""DIR: one globaldb at a time, closed to other users, files replaced whole.

DIR/aof/                     the data: append-only files
DIR/password                 made at the first start that needs one
DIR/valkey.conf              written anew at every start
DIR/valkey-server-<hash>     the server (see server.py)
DIR/lock                     locked for as long as the server lives; says its pid
"""

import os
import secrets
import sys
from pathlib import Path

from agent import disk
from agent.errors import AgentError, ConfigError


def prepare(wanted: Path) -> Path:
    """The folder's absolute path, made with mode 0700 if it was not there."""
    data = wanted.expanduser().absolute()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AgentError(
            f"cannot make the data folder {data}: {error.strerror}; choose another with --dir"
        ) from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise AgentError(f"the data folder {data} is not writable by this user; choose another with --dir")
    return data.resolve()


def lock(data: Path) -> int:
    """Held until the file descriptor, which the server inherits, is closed by its end."""
    try:
        return disk.hold(data)
    except disk.Held as holder:
        raise AgentError(f"the data folder {data} is in use by another globaldb (pid {holder})") from None


def password(data: Path, *, required: bool) -> str | None:
    path = data / "password"
    try:
        word = path.read_text().strip()
    except FileNotFoundError:
        return make_password(path) if required else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the password in {path}: {error}") from None
    if not word or any(character.isspace() for character in word):
        raise ConfigError(f"{path} must hold one word, the password; remove the file to have a new one made")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"others can read {path}: chmod 600 {path} (and change the password if they did)")
    return word


def make_password(path: Path) -> str:
    word = secrets.token_urlsafe(24)
    disk.write_private(path, f"{word}\n".encode())
    print(f"globaldb: made a password for clients, it lies in {path}", file=sys.stderr)
    return word


def write_config(data: Path, text: str) -> Path:
    path = data / "valkey.conf"
    try:
        disk.write_private(path, text.encode(), durable=False)
    except OSError as error:
        raise AgentError(f"cannot write into {data}: {error.strerror}") from None
    return path
