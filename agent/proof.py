"""A client's half of SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; binding of RFC 5929). Pure, but for chance.

The servers' half is the library scramp's, and so could this be; but importing it costs a one-shot command 40 to 130 ms,
most of its whole time, and a client's half is these few lines. Tests hold it against scramp and the RFC's own exchange.

    client-first   gs2-header n=name,r=nonce
    server-first   r=nonce…,s=salt,i=rounds
    client-final   c=base64(gs2-header + binding),r=nonce…,p=base64(ClientKey XOR HMAC(StoredKey, all three))
    server-final   v=base64(HMAC(ServerKey, all three))
"""

import base64
import binascii
import hashlib
import hmac
import secrets

BINDING = "tls-server-end-point"
GS2_HEADER = f"p={BINDING},,"
LEAST_ITERATIONS = 4096  # RFC 7677 §4
MOST_ITERATIONS = 1_000_000  # half a second of ours; whoever answers in a server's place shall not have more


class Unproved(ValueError):
    """The server's part is malformed, or it has not proved that it knows the credentials."""


class ClientProof:
    """One login: `first`, then `final(server_first)`, then `verify(server_final)`."""

    def __init__(self, name: str, password: str, binding: bytes, nonce: str = "") -> None:
        self._password = prepared(password).encode()
        self._binding = binding
        self._nonce = nonce or secrets.token_urlsafe(24)
        escaped = prepared(name).replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={escaped},r={self._nonce}"
        self._signature = b""

    @property
    def first(self) -> str:
        return GS2_HEADER + self._first_bare

    def final(self, server_first: str) -> str:
        """Raises Unproved. Blocks for the stretching of the password."""
        nonce, salt, iterations = _parse_server_first(server_first)
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or not nonce.isascii():
            raise Unproved("its nonce does not begin with ours")
        if not LEAST_ITERATIONS <= iterations <= MOST_ITERATIONS:
            raise Unproved(f"{iterations} rounds of stretching are asked for")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bound = base64.b64encode(GS2_HEADER.encode() + self._binding).decode()
        without_proof = f"c={bound},r={nonce}"
        message = f"{self._first_bare},{server_first},{without_proof}".encode()
        stored_key = hashlib.sha256(client_key).digest()
        mask = hmac.digest(stored_key, message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}"

    def verify(self, server_final: str) -> None:
        """Raises Unproved unless the server knows what a server with our verifier knows."""
        if not self._signature or not server_final.startswith("v="):
            raise Unproved("no signature")
        if not hmac.compare_digest(_base64(server_final[2:]), self._signature):
            raise Unproved("a wrong signature")


def prepared(text: str) -> str:
    """SASLprep (RFC 4013), so that one password typed on two keyboards is one. Raises Unproved."""
    if text.isascii() and text.isprintable():
        return text
    # Imported here: only a text beyond ASCII needs its tables.
    from scramp.utils import ScramException, saslprep

    try:
        return str(saslprep(text))
    except ScramException as error:
        raise Unproved(f"a character that no name or password may have: {error}") from None


def _parse_server_first(text: str) -> tuple[str, bytes, int]:
    parts = text.split(",")
    if len(parts) != 3 or [part[:2] for part in parts] != ["r=", "s=", "i="]:
        raise Unproved("it is not r=…,s=…,i=…")
    nonce, salt, iterations = (part[2:] for part in parts)
    if not iterations.isdecimal() or len(iterations) > 9:
        raise Unproved(f"{iterations[:20]!r} is no number of rounds")
    return nonce, _base64(salt), int(iterations)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unproved("a part of it is not base64") from None
