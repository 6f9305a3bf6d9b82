"""The machines' login verifiers, derived from the group's secret once and kept on disk.

A verifier costs a key stretching (RFC 5802 Hi()); 1,000 daemons that come back together after a restart of the
router shall cost it HMACs only. The file is good for one secret: another secret makes another file.
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from pathlib import Path

import scramp
import ujson

from agent.disk import write_private
from agent.handshake import MECHANISM, Verifier
from agent.key import machine_key

ITERATIONS = (
    4096  # the least scramp allows; a machine key is 256 random bits, no stretching makes it stronger
)


class Verifiers:
    """ip -> Verifier. `save` writes what has come since the last one."""

    def __init__(self, secret: bytes, folder: Path) -> None:
        self._secret = secret
        tag = hashlib.sha256(b"verifiers of " + secret).hexdigest()[:16]
        self._path = folder / f"verifiers-{tag}.json"
        self._known = self._read()
        self._saved = len(self._known)

    def of(self, ip: str) -> Verifier:
        if ip not in self._known:
            salt = hmac.digest(self._secret, b"salt " + ip.encode(), "sha256")[:16]
            made = scramp.ScramMechanism(MECHANISM).make_auth_info(
                machine_key(self._secret, ip), ITERATIONS, salt
            )
            self._known[ip] = Verifier(bytes(made[0]), made[1], made[2], ITERATIONS)
        return self._known[ip]

    def nobody(self, name: str) -> Verifier:
        """For a name that is not configured: costs as much and looks the same from outside, and no proof fits it."""
        salt = hmac.digest(self._secret, b"salt " + name.encode(errors="replace"), "sha256")[:16]
        return Verifier(salt, secrets.token_bytes(32), secrets.token_bytes(32), ITERATIONS)

    def save(self) -> None:
        if len(self._known) != self._saved:
            rows = {
                ip: [_text(v.salt), _text(v.stored_key), _text(v.server_key)] for ip, v in self._known.items()
            }
            write_private(self._path, ujson.dumps(rows).encode())
            self._saved = len(self._known)

    def _read(self) -> dict[str, Verifier]:
        try:
            rows = ujson.loads(self._path.read_bytes())
            return {ip: _verifier(*map(b64decode, row)) for ip, row in rows.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            return {}  # torn or meddled with: derived anew, at the price of one stretching each


def _verifier(salt: bytes, stored_key: bytes, server_key: bytes) -> Verifier:
    if not (len(salt) == 16 and len(stored_key) == len(server_key) == 32):
        raise ValueError("not a verifier")
    return Verifier(salt, stored_key, server_key, ITERATIONS)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
