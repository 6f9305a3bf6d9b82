"""Keys of machines: the group has one secret, a machine holds HMAC(secret, ip), good for that ip alone.

    group file      agent-group-key 1 <base64 of 32 bytes>                   the router's
    machine file    agent-machine-key 1 <ip> <hex HMAC-SHA256(secret, ip)>   a daemon's

One line each; `1` is the version. The hex text is what the daemon logs in with.
"""

import base64
import binascii
import hmac
import secrets
from pathlib import Path

from agent import names
from agent.credential import read_private
from agent.errors import ConfigError

GROUP, MACHINE = "agent-group-key", "agent-machine-key"
VERSION = "1"
SECRET_BYTES = 32


def new_group_key() -> str:
    """A group file's line, from the system's random source."""
    return f"{GROUP} {VERSION} {base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def machine_key(secret: bytes, ip: str) -> str:
    """What the daemon of `ip` logs in with."""
    return hmac.digest(secret, ip.encode(), "sha256").hex()


def machine_key_line(secret: bytes, ip: str) -> str:
    """A machine file's line. ConfigError if `ip` is none."""
    if problem := names.ip_problem(ip):
        raise ConfigError(f'"{ip}" {problem}')
    return f"{MACHINE} {VERSION} {ip} {machine_key(secret, ip)}"


def parse_group_key(text: str, source: str) -> bytes:
    words = _words(text, source)
    if words[0] == MACHINE:
        raise ConfigError(
            f"{source}: this is the key of a machine; the group key is wanted (agent key group)"
        )
    if words[0] == GROUP and len(words) == 3:
        try:
            secret = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) == SECRET_BYTES:
            return secret
    raise ConfigError(f"{source}: is not a group key ({GROUP} {VERSION} …); agent key group makes one")


def parse_machine_key(text: str, source: str, ip: str = "") -> tuple[str, str]:
    """`(ip, key)`; ConfigError if it is not the key of `ip`, where that is given."""
    words = _words(text, source)
    if words[0] == GROUP:
        raise ConfigError(
            f"{source}: this is the group key, which only the router needs; a daemon wants the key of its machine:"
            f" agent key machine {ip or 'IP'} --key {source} > FILE"
        )
    if words[0] != MACHINE or len(words) != 4 or not _is_key(words[3]) or not names.is_ip(words[2]):
        raise ConfigError(f"{source}: is not a machine key ({MACHINE} {VERSION} IP …)")
    if ip and words[2] != ip:
        raise ConfigError(
            f"{source}: this is the key of {words[2]}, and this machine is {ip}:"
            f" agent key machine {ip} --key GROUPFILE > FILE"
        )
    return words[2], words[3]


def read_group_key(path: Path | str) -> bytes:
    """The secret. ConfigError if the file is missing, readable for others, or another kind of key."""
    return parse_group_key(read_private(str(path), "key file"), str(path))


def read_machine_key(path: Path | str, ip: str = "") -> tuple[str, str]:
    """`(ip, key)`, see parse_machine_key and read_group_key."""
    return parse_machine_key(read_private(str(path), "key file"), str(path), ip)


def _words(text: str, source: str) -> list[str]:
    words = text.split()
    if not words or words[0] not in (GROUP, MACHINE):
        raise ConfigError(f"{source}: is no key of ours; agent key makes one")
    if len(words) > 1 and words[1] != VERSION:
        raise ConfigError(
            f"{source}: is a key of version {words[1]}, this agent knows {VERSION}: use a newer agent"
        )
    return words


def _is_key(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)
