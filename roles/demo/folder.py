"""The demo's folder: of mode 0700, made anew for each demo, locked for as long as somebody watches over it.

DIR/agent.toml      settings with which every command of `agent` speaks to this group
DIR/password        of the user `demo`
DIR/group.key  DIR/machine-IP.key
DIR/globaldb/  DIR/router/  DIR/daemon-IP/  and a log of each role: DIR/ROLE.log
DIR/lock            held by the demo while it lives
DIR/kept            `--keep` was given: nobody watches, and that is meant
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from agent.errors import AgentError, UsageError

PREFIX = "agent-demo-"
SETTINGS, PASSWORD, KEPT, LOCK = "agent.toml", "password", "kept", "lock"


def make() -> tuple[Path, int]:
    """The folder and the lock on it. In the temporary folder of this user or system, if programs may run there."""
    try:
        place = place_for_programs()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place)).resolve()
    except OSError as error:
        raise AgentError(
            f"demo: no temporary folder can be made: {error}; set TMPDIR=/another/folder"
        ) from None
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return folder, handle


def place_for_programs() -> Path:
    """The bundled Valkey runs from its data folder, so a temporary folder mounted noexec will not do."""
    place = Path(tempfile.gettempdir())
    if not os.statvfs(place).f_flag & os.ST_NOEXEC:
        return place
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def check(path: str) -> Path:
    """The folder that --stop was given. Raises UsageError if it is no demo's, or somebody else's."""
    folder = Path(path).resolve()
    try:
        good = folder.name.startswith(PREFIX) and folder.stat().st_uid == os.geteuid()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not good or not (folder / LOCK).is_file():
        raise UsageError(f"{path}: is no folder of a demo of yours (their names begin with {PREFIX})")
    return folder


def is_watched(folder: Path) -> bool:
    """Whether its demo lives."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def abandoned() -> list[Path]:
    """Folders of this user's demos that were killed before they could tidy up."""
    return [
        folder
        for folder in sorted(place_for_programs().glob(f"{PREFIX}*"))
        if folder.is_dir()
        and not folder.is_symlink()
        and folder.stat().st_uid == os.geteuid()
        and not (folder / KEPT).exists()
        and not is_watched(folder)
    ]


def remove(folder: Path) -> None:
    """Whatever is in it; a file that a process which ends writes at this moment is no reason to leave the rest."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
