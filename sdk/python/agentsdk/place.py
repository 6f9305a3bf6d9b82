"""Where something listens, as the environment says it: `host:port`, `redis://[[user]:password@]host[:port]`. Pure.

rediss://… is TLS; `?ca=FILE` trusts that authority alone. No message repeats the password.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

GLOBALDB_PORT = 6379


class Place(NamedTuple):
    host: str
    port: int
    tls: bool = False
    ca: str = ""
    user: str = ""
    password: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def of_daemon(address: str) -> Place:
    """Raises ValueError."""
    try:
        parts = urlsplit(f"//{address.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != address.strip() or "@" in address:
        raise ValueError(f"the daemon's address {address[:80]!r} is not host:port")
    return Place(host, port)


def of_globaldb(url: str) -> Place:
    """Raises ValueError, which does not repeat the URL: a password may be in it."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port or GLOBALDB_PORT
    except ValueError:
        raise ValueError("globaldb's address is not redis://[[user]:password@]host[:port]") from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ValueError("globaldb's address is not redis://[[user]:password@]host[:port]")
    ca = parse_qs(parts.query).get("ca", [""])[0]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Place(host, port, parts.scheme == "rediss", ca, user, password)
