"""What the daemon must not forget, on its own disk: one small file per process, a JSON line per change.

    intent  (incarnation, wanted, STARTING)   ->   spawn   ->   identity

Rules for the next editor:
- The intent is on disk before a process is spawned. A daemon that died in between finds the process by the
  incarnation in its environment (roles/daemon/adoption.py), never by luck.
- The last whole line counts. A line is one write to a file opened for append, so a kill leaves all of it or
  nothing; that is ten times cheaper than a new file and a rename per change, which is done once in a while only.
- An entry holds all that is needed to manage a process whose configuration is gone meanwhile.
- Nothing in the folder is fatal: a file that cannot be read is reported and set aside as `….bad`.
- A field is only ever added, with a default; unknown ones (of a later version) are kept.
- Not fsynced: it has to survive our death, not the machine's, and after a power cut every process is gone.
"""

import errno
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import ujson

from agent import disk
from agent.errors import AgentError, ConfigError
from agent.lifecycle import STATES, Life
from agent.program import LaunchSpec
from roles.daemon.identity import Identity
from roles.daemon.startcount import StartCount

log = logging.getLogger("agent.journal")

VERSION = 1
SUFFIX = ".jsonl"
LONGEST_BYTES = 65536  # then only the last line is kept
LOCK_WAIT_S = 2.0  # a child of a killed daemon holds the lock until its exec, some microseconds

# What a running process needs of its launch specification; command and environment, with their secrets, do not
# belong on our disk.
_FORGOTTEN = frozenset({"command", "cwd", "env", "user", "limits", "log"})
_TERMS = tuple(f.name for f in fields(LaunchSpec) if f.name not in _FORGOTTEN)


class JournalFailed(AgentError):
    """The entry could not be written: what cannot be remembered must not be started."""


@dataclass(slots=True)
class Entry:
    """All that the daemon knows about one process."""

    key: str
    life: Life = field(default_factory=Life)
    since_at: float = 0.0  # of the state
    reason: str = ""  # of the state, in words
    exit: str = ""  # of the last end: `code 3`, `signal SEGV`, `unknown (…)`
    incarnation: str = ""  # of the last start; "" before the first
    token: str = ""
    identity: Identity | None = None  # None with an incarnation: spawned or about to be, not yet recorded
    started_at: float = 0.0
    crashed_at: float = 0.0  # the last end, if it was one; 0: it ended well, or when asked to
    ended: bool = True  # the main process of this incarnation is known to be gone
    signalled: bool = False  # STOPPING, and the polite signal went out
    task: str = ""  # id of the task (agent.task) that this run was ended for
    unsaved: str = ""  # why the last stop was without its acknowledgement
    saves: bool = False  # the application of this run has said that it saves when asked to
    starts: StartCount = field(default_factory=StartCount)
    terms: dict[str, Any] = field(default_factory=dict)  # of the launch in force, see `terms_of`
    digest: str = ""  # of the launch in force
    host: str = ""
    port: int = 0
    leftovers: list[Identity] = field(default_factory=list)
    later: dict[str, Any] = field(default_factory=dict)  # fields of a later version

    @property
    def main(self) -> Identity | None:
        """The main process, while it lives."""
        return None if self.ended else self.identity

    @property
    def pid(self) -> int:
        """Of the main process; 0 while there is none."""
        return self.identity.pid if self.identity and not self.ended else 0


def terms_of(spec: LaunchSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in _TERMS}


def spec_of(terms: Mapping[str, Any]) -> LaunchSpec:
    """A specification good for managing, not for starting: its command is empty."""
    return LaunchSpec(command=[], **{name: value for name, value in terms.items() if name in _TERMS})


_PLAIN = tuple(f.name for f in fields(Entry) if f.name not in ("life", "starts", "later"))
_OWN = ("version", "life", "starts")
_LIFE = tuple(f.name for f in fields(Life))


def dump(entry: Entry) -> bytes:
    document = {
        **entry.later,
        **{name: getattr(entry, name) for name in _PLAIN},
        "version": VERSION,
        "life": {name: getattr(entry.life, name) for name in _LIFE},
        "starts": {"base": entry.starts.base, "pending": entry.starts.pending},
    }
    return ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False).encode() + b"\n"


def load(data: bytes) -> Entry:
    """Raises ValueError (also for what decodes, but is no entry)."""
    try:
        document = ujson.loads(data)
        plain = {name: document[name] for name in _PLAIN if name in document}
        entry = Entry(**plain)
        entry.life = Life(**{name: document["life"][name] for name in _LIFE if name in document["life"]})
        entry.starts = StartCount(document["starts"]["base"], document["starts"]["pending"])
        entry.identity = Identity(*document["identity"]) if document.get("identity") else None
        entry.leftovers = [Identity(*each) for each in document.get("leftovers", ())]
        entry.later = {name: value for name, value in document.items() if name not in (*_PLAIN, *_OWN)}
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an entry: {error!r}") from None
    if not isinstance(entry.key, str) or entry.life.state not in STATES:
        raise ValueError("not an entry: no key, or a state nobody knows")
    return entry


class Journal:
    """The entries of one daemon, in a folder that it alone has."""

    def __init__(self, state_folder: Path) -> None:
        """Makes and locks the folder. Raises ConfigError where another daemon has it."""
        disk.private_folder(state_folder)
        self.folder = disk.private_folder(state_folder / "process")
        self._lock = self._locked()
        self._sweep()

    def close(self) -> None:
        os.close(self._lock)

    def path(self, key: str) -> Path:
        if "/" in key or "\0" in key or key.startswith("."):
            raise JournalFailed(f"process {key!r}: not a name a file can have")
        return self.folder / f"{key}{SUFFIX}"

    def write(self, entry: Entry) -> None:
        """On disk, whole, when it returns. Raises JournalFailed, and then the entry before it still counts."""
        path, line = self.path(entry.key), dump(entry)
        try:
            handle = os.open(
                path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                size = os.fstat(handle).st_size
                if size > LONGEST_BYTES:
                    disk.write_private(path, line, durable=False)
                elif os.write(handle, line) != len(line):
                    os.ftruncate(handle, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            raise JournalFailed(
                f"process {entry.key}: cannot be remembered in {self.folder}: {error.strerror}"
            ) from None

    def forget(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def read(self) -> dict[str, Entry]:
        """Every readable entry by key; the others are reported and set aside. Once, before the first write."""
        return {entry.key: entry for entry in map(self._read, self._paths()) if entry is not None}

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))

    def _read(self, path: Path) -> Entry | None:
        try:
            whole, _, half = path.read_bytes().rpartition(b"\n")
            entry = load(whole.rpartition(b"\n")[2])
            if self.path(entry.key) != path:
                raise ValueError(f"it is about {entry.key}")
            if half:
                log.warning("journal %s: its last line is half, the one before counts", path.name)
                disk.write_private(path, dump(entry), durable=False)
        except (ValueError, JournalFailed) as error:
            aside = path.with_suffix(f".{time.time_ns()}.bad")
            path.rename(aside)
            log.error("journal %s: unreadable, set aside as %s: %s", path.name, aside.name, error)
            return None
        except OSError as error:
            log.error("journal %s: cannot be read: %s", path.name, error)
            return None
        return entry

    def _locked(self) -> int:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return disk.lock_folder(self.folder, "daemon")
            except ConfigError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _sweep(self) -> None:
        """Drafts that a killed daemon left behind."""
        for path in self.folder.glob(f".*{SUFFIX}.*"):
            path.unlink(missing_ok=True)
