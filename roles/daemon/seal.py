"""Tokens: what a process started by us has in its environment, and nobody else can make.

    token = HMAC-SHA256(secret of this daemon's state folder, "<key> <incarnation>")

A mark alone (AGENT_PROCESS=…) is anybody's to set: without a token that fits, a stranger would be adopted as a game
after a daemon's restart. With it the next daemon knows its processes even where its journal is lost.
"""

import hmac
import logging
import secrets
from pathlib import Path

from agent.disk import write_private

log = logging.getLogger("agent.seal")

SECRET_BYTES = 32
TOKEN_CHARS = 32


class Seal:
    def __init__(self, folder: Path) -> None:
        """The secret lies in `folder`, which only we can read; made if it is not there. Raises OSError."""
        self._secret = _secret(folder / "secret")

    def token(self, key: str, incarnation: str) -> str:
        return hmac.digest(self._secret, f"{key} {incarnation}".encode(), "sha256").hex()[:TOKEN_CHARS]

    def fits(self, token: str, key: str, incarnation: str) -> bool:
        """Whether the token was made here, for this run of this process."""
        made = self.token(key, incarnation)
        return hmac.compare_digest(made.encode(), token.encode(errors="surrogateescape"))


def _secret(path: Path) -> bytes:
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        secret = b""
    if len(secret) == SECRET_BYTES:
        return secret
    if secret:
        log.error(
            "%s is damaged and made anew: processes that the journal does not know are not adopted", path
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = secrets.token_bytes(SECRET_BYTES)
    write_private(path, secret)
    return secret
