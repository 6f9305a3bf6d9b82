"""Which build this is: version, git commit, the glibc it needs. The frozen binary carries the answer in build.json.

A NamedTuple, no dataclass: `agent --version` takes a third longer with what dataclasses imports.
"""

import json
from typing import NamedTuple

from agent import __version__
from agent.frozen import is_frozen, resource_path

UNKNOWN = "unknown"
SHORT_CHARS = 7  # of a commit, as git abbreviates


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


def short_name() -> str:
    """`0.1.0`; of a frozen binary also its commit, `0.1.0+ba23ed3`, so that two builds of one version are told apart.

    From source the commit is left out: git would have to be run for it.
    """
    if not is_frozen():
        return __version__
    build = this_build()
    commit, _, dirty = build.commit.partition("-")
    return f"{build.version}+{commit[:SHORT_CHARS]}{'-dirty' if dirty else ''}"


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
