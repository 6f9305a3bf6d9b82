"""An operator: a SCRAM-SHA-256 verifier (RFC 5802 §3) and grants. The password itself is nowhere.

In globaldb's `user` hash: {"salt", "stored_key", "server_key" (base64), "iterations", "grants": ["VERBS on
SELECTION"]}
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import scramp

from agent import names
from agent.credential import password_problem
from agent.errors import ConfigError
from agent.grant import Grant, known_grants, parse_grants

MECHANISM = "SCRAM-SHA-256"
ITERATIONS = 16_384  # some 5 ms of a client per login; the server pays nothing for it
MAX_ITERATIONS = 10_000_000


class Verifier(NamedTuple):
    """What is kept of a password: it can check one, and cannot be used to log in."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


@dataclass(frozen=True)
class User:
    """One entry of the `user` hash."""

    name: str
    verifier: Verifier
    grants: tuple[Grant, ...] = ()

    def json(self) -> str:
        row: dict[str, Any] = {
            "salt": _text(self.verifier.salt),
            "stored_key": _text(self.verifier.stored_key),
            "server_key": _text(self.verifier.server_key),
            "iterations": self.verifier.iterations,
            "grants": [str(grant) for grant in self.grants],
        }
        return json.dumps(row, ensure_ascii=False)

    @classmethod
    def from_json(cls, name: str, text: str) -> "User":
        """ConfigError if somebody has damaged it; never shows what is in it."""
        try:
            row = json.loads(text)
            salt, stored_key, server_key = (
                base64.b64decode(row[part], validate=True) for part in ("salt", "stored_key", "server_key")
            )
            verifier = Verifier(salt, stored_key, server_key, row["iterations"])
            grants = row["grants"]
            good = (
                len(verifier.salt) >= 8
                and len(verifier.stored_key) == len(verifier.server_key) == 32
                and type(verifier.iterations) is int
                and 4096 <= verifier.iterations <= MAX_ITERATIONS
                and isinstance(grants, list)
                and all(isinstance(grant, str) for grant in grants)
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good:
            raise ConfigError(
                f'user "{name}": its entry in globaldb is damaged; agent user remove and add it again'
            )
        try:
            return cls(name, verifier, known_grants(grants))
        except ConfigError as error:
            raise ConfigError(f'user "{name}": {error}') from None


def make_verifier(password: str) -> Verifier:
    """ConfigError for a password that is too short or cannot be typed again alike."""
    if problem := password_problem(password):
        raise ConfigError(problem)
    try:
        salt, stored_key, server_key, iterations = scramp.ScramMechanism(MECHANISM).make_auth_info(
            password, iteration_count=ITERATIONS
        )
    except (
        scramp.ScramException
    ) as error:  # SASLprep: characters that may be typed one way here, another there
        raise ConfigError(f"the password has characters that are not allowed: {error}") from None
    return Verifier(bytes(salt), bytes(stored_key), bytes(server_key), iterations)


def new_user(name: str, password: str, grants: Iterable[str] = ()) -> User:
    """ConfigError for the name, the password or any grant."""
    if problem := names.user_problem(name):
        raise ConfigError(f'user name "{name}" {problem}')
    return User(name, make_verifier(password), parse_grants(grants))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
