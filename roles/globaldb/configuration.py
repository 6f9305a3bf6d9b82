"""The text of valkey.conf. Pure.

`appendfsync always`: a reply leaves only after write and fsync, so neither kill -9 nor a power cut loses what was
acknowledged. `everysec` is weaker than it sounds: while a background fsync is slow, Valkey holds back even the write
for up to two seconds and acknowledges all the same. The price is one fsync per turn of its event loop, however many
clients and pipelined commands that turn carries.
"""

import string
from pathlib import Path

from agent.address import Address

PLAIN = (string.ascii_letters + string.digits + "/._-+=,:@%").encode()

FIXED = """
daemonize no
supervised no
pidfile ""
logfile ""
loglevel notice
always-show-logo no
protected-mode yes
databases 1
save ""
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-load-truncated yes
aof-use-rdb-preamble yes
appendfilename "globaldb.aof"
appenddirname "aof"
maxmemory-policy noeviction
tcp-keepalive 60
enable-debug-command no
enable-module-command no
enable-protected-configs no
"""


def text(data: Path, listen: Address, password: str | None) -> str:
    lines = ["# written by `agent globaldb` at every start: changes here are lost"]
    lines += [f"bind {listen.host or '*'}", f"port {listen.port}", f"dir {quoted(str(data))}"]
    if password is not None:
        lines.append(f"requirepass {quoted(password)}")
    return "\n".join(lines) + FIXED


def quoted(value: str) -> str:
    """As Valkey's own parser reads it, whatever is in the path or the password."""
    return '"' + "".join(chr(byte) if byte in PLAIN else f"\\x{byte:02x}" for byte in value.encode()) + '"'
