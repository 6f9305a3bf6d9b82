"""`host[:port]` as operators type it."""

from ipaddress import IPv6Address
from typing import NamedTuple

from agent.errors import UsageError

MAX_PORT = 65535


class Address(NamedTuple):
    """Where to listen or to connect. `host` may be a name; "" is every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, default_port: int) -> Address:
    """`192.168.1.10`, `:8889`, `host:0`, `[::1]:8889`. UsageError for anything else."""
    host, port = _split(text.strip())
    if any(c.isspace() or not c.isprintable() or c in "/@[]" for c in host):
        raise UsageError(f'"{text}" is not an address like 192.168.1.10 or 192.168.1.10:{default_port}')
    if port is None:
        return Address(host, default_port)
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > MAX_PORT:
        raise UsageError(f'"{text}": "{port}" is not a port (0–{MAX_PORT})')
    return Address(host, int(port))


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise UsageError(f'"{text}" is not an address like [::1]:8889')
        return host, rest[1:] if rest else None
    if text.count(":") > 1:  # a bare IPv6 address has no port
        try:
            return str(IPv6Address(text)), None
        except ValueError:
            raise UsageError(f'"{text}" is not an address like 192.168.1.10:8889 or [::1]:8889') from None
    host, colon, port = text.partition(":")
    if not host and not colon:
        raise UsageError("an empty address; HOST or HOST:PORT is wanted")
    return host, port if colon else None
