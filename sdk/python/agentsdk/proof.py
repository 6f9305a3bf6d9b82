"""A client's half of SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; binding of RFC 5929). Pure, but for chance.

    client-first   gs2-header n=name,r=nonce
    server-first   r=nonce…,s=salt,i=rounds
    client-final   c=base64(gs2-header + binding),r=nonce…,p=base64(ClientKey XOR HMAC(StoredKey, all three))
    server-final   v=base64(HMAC(ServerKey, all three))

`binding` is the hash of the certificate that we see: whoever sits in between shows another one, and fails.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from .saslprep import prepared

GS2_HEADER = "p=tls-server-end-point,,"
LEAST_ROUNDS = 4096  # RFC 7677 §4
MOST_ROUNDS = 1_000_000  # half a second of ours; whoever answers in a daemon's place shall not have more


class ClientProof:
    """One login: `first`, then `final(server_first)`, then `verify(server_final)`. All raise ValueError."""

    def __init__(self, name: str, password: str, certificate: bytes, nonce: str = "") -> None:
        self._password = prepared(password).encode()
        self._binding = hashlib.sha256(certificate).digest()
        self._nonce = nonce or secrets.token_urlsafe(24)
        escaped = prepared(name).replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._signature = b""

    @property
    def first(self) -> str:
        return GS2_HEADER + self._first_bare

    def final(self, server_first: str) -> str:
        """Blocks for the stretching of the password."""
        nonce, salt, rounds = _read(server_first)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not nonce.isascii():
            raise ValueError("its nonce does not begin with ours")
        if not LEAST_ROUNDS <= rounds <= MOST_ROUNDS:
            raise ValueError(f"{rounds} rounds of stretching are asked for")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bound = base64.b64encode(GS2_HEADER.encode() + self._binding).decode()
        without_proof = f"c={bound},r={nonce}"
        message = f"{self._first_bare},{server_first},{without_proof}".encode()
        mask = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, mask))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}"

    def verify(self, server_final: str) -> None:
        """Returns only where the server knows what a server that knows our password knows."""
        if not self._signature or not server_final.startswith("v="):
            raise ValueError("no signature")
        if not hmac.compare_digest(_base64(server_final[2:]), self._signature):
            raise ValueError("a wrong signature")


def _read(text: str) -> tuple[str, bytes, int]:
    parts = text.split(",")
    if [part[:2] for part in parts] != ["r=", "s=", "i="]:
        raise ValueError("it is not r=…,s=…,i=…")
    nonce, salt, rounds = (part[2:] for part in parts)
    if not (rounds.isascii() and rounds.isdigit()) or len(rounds) > 9:
        raise ValueError(f"{rounds[:20]!r} is no number of rounds")
    return nonce, _base64(salt), int(rounds)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("a part of it is not base64") from None
