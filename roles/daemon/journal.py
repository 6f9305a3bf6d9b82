"""What the daemon must not forget, on its own disk: one small JSON file per process, replaced at once.

    intent  (incarnation, wanted, STARTING)   ->   spawn   ->   identity

Rules for the next editor:
- The intent is on disk before a process is spawned. A daemon that died in between finds the process by the
  incarnation in its environment (roles/daemon/adoption.py), never by luck.
- An entry holds all that is needed to manage a process whose configuration is gone meanwhile.
- Nothing in the folder is fatal: a file that cannot be read is reported and set aside as `….bad`.
- A field is only ever added, with a default; unknown ones (of a later version) are kept when the file is rewritten.
- Not fsynced: it has to survive our death, not the machine's. After a power cut every process is gone anyway.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from agent import disk
from agent.errors import AgentError, ConfigError
from agent.lifecycle import STATES, Life
from agent.program import LaunchSpec
from roles.daemon.identity import Identity
from roles.daemon.startcount import StartCount

log = logging.getLogger("agent.journal")

VERSION = 1
SUFFIX = ".json"
LOCK_WAIT_S = 2.0  # a child of a killed daemon holds the lock until its exec, some microseconds

# What a running process needs of its launch specification; command and environment, with their secrets, do not
# belong on our disk.
_FORGOTTEN = frozenset({"command", "cwd", "env", "user", "limits", "log"})


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
    ended: bool = True  # the main process of this incarnation is known to be gone
    signalled: bool = False  # STOPPING, and the polite signal went out
    starts: StartCount = field(default_factory=StartCount)
    terms: dict[str, Any] = field(default_factory=dict)  # of the launch in force, see `terms_of`
    digest: str = ""  # of the launch in force
    host: str = ""
    port: int = 0
    leftovers: list[Identity] = field(default_factory=list)
    later: dict[str, Any] = field(default_factory=dict)  # fields of a later version


def terms_of(spec: LaunchSpec) -> dict[str, Any]:
    return {name: value for name, value in asdict(spec).items() if name not in _FORGOTTEN}


def spec_of(terms: Mapping[str, Any]) -> LaunchSpec:
    """A specification good for managing, not for starting: its command is empty."""
    known = {f.name for f in fields(LaunchSpec)} - _FORGOTTEN
    return LaunchSpec(command=[], **{name: value for name, value in terms.items() if name in known})


def dump(entry: Entry) -> bytes:
    document: dict[str, Any] = dict(entry.later)
    for each in fields(Entry):
        if each.name in ("later", "life", "starts"):
            continue
        document[each.name] = getattr(entry, each.name)
    document["version"] = VERSION
    document["life"] = asdict(entry.life)
    document["starts"] = asdict(entry.starts)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def load(data: bytes) -> Entry:
    """Raises ValueError (also for what decodes, but is no entry)."""
    try:
        document = json.loads(data)
        known = {f.name for f in fields(Entry)} - {"later"}
        given = {name: value for name, value in document.items() if name in known}
        given["later"] = {name: value for name, value in document.items() if name not in known | {"version"}}
        given["life"] = Life(**{f.name: document["life"][f.name] for f in fields(Life) if f.name in document["life"]})
        given["starts"] = StartCount(document["starts"]["base"], document["starts"]["pending"])
        given["identity"] = Identity(*document["identity"]) if document.get("identity") else None
        given["leftovers"] = [Identity(*each) for each in document.get("leftovers", ())]
        entry = Entry(**given)
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
        """On disk, whole, when it returns. Raises JournalFailed and leaves what was there."""
        path = self.path(entry.key)
        try:
            disk.write_private(path, dump(entry), durable=False)
        except OSError as error:
            raise JournalFailed(f"process {entry.key}: cannot be remembered: {error.strerror}") from None

    def forget(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def read(self) -> dict[str, Entry]:
        """Every readable entry by key; the others are reported and set aside."""
        return {entry.key: entry for entry in self._entries()}

    def _entries(self) -> Iterator[Entry]:
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                entry = load(path.read_bytes())
                if self.path(entry.key) != path:
                    raise ValueError(f"it is about {entry.key}")
            except (ValueError, JournalFailed) as error:
                aside = path.with_suffix(f".{time.time_ns()}.bad")
                path.rename(aside)
                log.error("journal %s: cannot be read and is set aside as %s: %s", path.name, aside.name, error)
                continue
            except OSError as error:
                log.error("journal %s: cannot be read: %s", path.name, error)
                continue
            yield entry

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
