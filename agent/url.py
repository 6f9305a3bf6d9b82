"""Where globaldb is, as operators write it: redis://[[user]:password@]host[:port]

rediss://… is the same over TLS; ?ca=FILE trusts that authority. No message repeats the password.
"""

from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from agent import address
from agent.errors import ConfigError, UsageError

DEFAULT_URL = "redis://127.0.0.1:6379"
DEFAULT_PORT = 6379


class Url(NamedTuple):
    """One globaldb; `place` is its URL without the password, `options` what redis-py's connection wants to know."""

    place: str
    tls: bool
    options: dict[str, Any]


def parse_url(url: str) -> Url:
    """ConfigError says what is wrong with it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(
            "the globaldb URL cannot be read; like redis://:PASSWORD@192.168.1.5:6379"
        ) from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ConfigError(
            f"the globaldb URL is not redis://… or rediss://HOST[:PORT] (it begins with {url[:8]!r})"
        )
    place = f"{parts.scheme}://{address.Address(host, DEFAULT_PORT if port is None else port)}"
    if parts.path not in ("", "/", "/0"):
        raise ConfigError(f"globaldb {place}: only database 0 is used, {parts.path} cannot be asked for")
    query = parse_qs(parts.query)
    if unknown := sorted(query.keys() - {"ca"}) or (["ca"] if query and parts.scheme != "rediss" else []):
        raise ConfigError(f"globaldb {place}: no option {', '.join(unknown)} (rediss://… knows ca)")
    try:
        address.parse(str(address.Address(host, port or DEFAULT_PORT)), DEFAULT_PORT)
    except UsageError as error:
        raise ConfigError(f"globaldb {place}: {error}") from None
    options: dict[str, Any] = {"host": host, "port": DEFAULT_PORT if port is None else port}
    if parts.password is not None:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    if "ca" in query:
        options["ssl_ca_certs"] = query["ca"][0]
    return Url(place, parts.scheme == "rediss", options)
