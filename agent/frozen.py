"""What changes when the program is the frozen binary: where its resources lie, and what children must not inherit.

Pure but for reading the file system's names: no gevent, no process is started here.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# What packaging/launcher.sh and PyInstaller's loader leave in the environment.
_LAUNCHER_NAMES = {"AGENT_BINARY", "_MEIPASS2"}
_LOADER_PREFIX = "_PYI_"

_SOURCE_ROOT = Path(__file__).resolve().parent.parent


def is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def resource_path(name: str) -> Path:
    """A file that the build put into the binary; from source, the file of that name in the checkout."""
    if is_frozen():
        return Path(sys._MEIPASS, name)  # type: ignore[attr-defined]
    return _SOURCE_ROOT / name


def binary_path() -> Path | None:
    """The binary's file as the user called it (not the unpacked copy), links resolved; None from source."""
    called = os.environ.get("AGENT_BINARY")
    return Path(called).resolve() if is_frozen() and called else None


def own_command() -> list[str]:
    """What starts this same program again: a unit file or a child role adds the role and its options."""
    binary = binary_path()
    return [str(binary)] if binary else [sys.executable, "-m", "agent"]


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy without anything the binary put in, for programs that are not ours.

    A game server that inherited LD_LIBRARY_PATH would load our OpenSSL, and a frozen tool with _PYI_* would take
    itself for our child process.
    """
    clean = {name: value for name, value in environ.items() if not _is_ours(name)}
    if len(clean) == len(environ):
        return clean
    original = clean.pop("LD_LIBRARY_PATH_ORIG", None)
    clean.pop("LD_LIBRARY_PATH", None)
    if original is not None:
        clean["LD_LIBRARY_PATH"] = original
    return clean


def _is_ours(name: str) -> bool:
    return name in _LAUNCHER_NAMES or name.startswith(_LOADER_PREFIX)
