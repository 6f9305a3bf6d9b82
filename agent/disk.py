"""Files written so that a reader, or we after a crash, find the old one or the new one, never half of it."""

import fcntl
import os
import secrets
import stat
from pathlib import Path

from agent.errors import ConfigError


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` at once by a file of mode 0600. `durable` also survives a power cut. Raises OSError."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: writing {path}") from None


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 if it is not there. Raises ConfigError.

    One that others may write into, or that belongs to another user, is refused: they could plant or exchange files.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"state folder {path}: {error.strerror}; name another one with --state DIR"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"state folder {path} is not writable for us; name another one with --state DIR")
    about = path.stat()
    if about.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"state folder {path} belongs to uid {about.st_uid}, not to us (uid {os.geteuid()}): "
            f"chown {os.geteuid()} {path}, or name another one with --state DIR"
        )
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"others can write into the state folder {path}: chmod go-w {path}, and look who did, "
            "or name another one with --state DIR"
        )
    return path


class Held(Exception):
    """Somebody else has the lock; `str()` is his pid, or "unknown"."""


def lock_folder(path: Path, what: str) -> int:
    """`hold` it for a role. Raises ConfigError."""
    try:
        return hold(path)
    except Held as holder:
        raise ConfigError(
            f"another {what} (pid {holder}) uses {path}: stop it first, or give this one its own --state DIR"
        ) from None


def hold(path: Path) -> int:
    """Lock `path`/lock until the file descriptor that is returned is closed, a child's copy of it too. Raises Held."""
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise Held(holder) from None
    os.truncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle
