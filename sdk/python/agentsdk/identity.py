"""Who this process is: what the daemon that started it put into its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple


class Identity(NamedTuple):
    key: str
    daemon: str = ""  # host:port
    incarnation: str = ""  # empty: nobody else started it
    token: str = ""
    globaldb: str = ""  # wins over what the daemon says
    pid: int = 0

    def fields(self) -> dict[str, Any]:
        """Its part of session.join."""
        return {"key": self.key, "incarnation": self.incarnation, "token": self.token, "pid": self.pid}


def from_environment(environment: Mapping[str, str] = os.environ, key: str = "") -> Identity | None:
    """None outside of an agent, unless a key is given."""
    key = key or environment.get("AGENT_PROCESS", "")
    if not key:
        return None
    return Identity(
        key,
        environment.get("AGENT_DAEMON", ""),
        environment.get("AGENT_INCARNATION", ""),
        environment.get("AGENT_TOKEN", ""),
        environment.get("AGENT_GLOBALDB", ""),
        os.getpid(),
    )
