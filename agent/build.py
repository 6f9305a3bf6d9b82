"""Which build this is: version, git commit, the glibc it needs. The frozen binary carries the answer in build.json.

A NamedTuple, no dataclass: `agent --version` takes a third longer with what dataclasses imports.
"""

import json
from typing import NamedTuple

from agent import __version__
from agent.frozen import is_frozen, resource_path

UNKNOWN = "unknown"


class Build(NamedTuple):
    """What `agent --version` prints."""

    version: str
    commit: str
    glibc: str  # lowest version of the host's C library

    def __str__(self) -> str:
        return f"agent {self.version} (commit {self.commit}, needs glibc >= {self.glibc})"


def this_build() -> Build:
    if is_frozen():
        return Build(**json.loads(resource_path("build.json").read_text()))
    return Build(__version__, git_commit(), f"{UNKNOWN}, runs from source")


def git_commit() -> str:
    """The checkout's commit, with -dirty if tracked files differ; `unknown` outside a checkout or without git."""
    import subprocess  # only from source and while building

    root = resource_path("")
    if not (root / ".git").exists():
        return UNKNOWN
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
