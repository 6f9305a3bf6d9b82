"""docs/protocol.md is true: its frames, its login, its errors and its catalogue."""

import base64
import hashlib
import hmac
import json
import re

from agent import codec, wire
from agent.errors import EXIT_CODES
from agent.handshake import binding
from agent.messages import PROCESS_COLUMNS
from tests.docs import catalogue

TEXT = catalogue.PROTOCOL.read_text()
PASSWORD = b"correct horse battery"


def transcript() -> list[tuple[str, bytes, dict]]:
    """(who, the frame's bytes, the message's fields), as the page has them."""
    block = re.search(r"```text\n(.*?)```", TEXT, re.S)
    assert block
    lines = block[1].splitlines()
    found = []
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        who, length, kind, seq, dst_len, src_len, *names = head.split(" ")
        prefix = bytes.fromhex(length + kind + seq + dst_len + src_len)
        found.append((who, prefix + "".join(names).encode() + body.encode(), json.loads(body)[1]))
    return found


def test_the_frames_of_the_transcript_are_frames_with_messages_of_the_catalogue() -> None:
    names = []
    for _, data, _ in transcript():
        (frame,) = wire.Decoder().feed(data)
        assert wire.pack(*frame) == data
        message, _left_s = codec.decode(frame.body)
        names.append(codec.NAME_OF[type(message)])
    login = ["session.hello", "session.challenge", "session.prove", "session.welcome"]
    assert names == [*login, "sessions.read", "sessions"]


def test_the_proofs_of_the_transcript_follow_from_its_password_and_certificate() -> None:
    hello, challenge, prove, welcome = [fields for _, _, fields in transcript()[:4]]
    fingerprint = re.search(r"`([0-9a-f]{64})`", TEXT)
    assert fingerprint
    header, bare = (
        hello["client_first"][: len("p=tls-server-end-point,,")],
        hello["client_first"].split(",,", 1)[1],
    )
    given = dict(part.split("=", 1) for part in challenge["server_first"].split(","))
    without_proof, _, proof = prove["client_final"].rpartition(",p=")
    assert (
        without_proof
        == f"c={base64.b64encode(header.encode() + bytes.fromhex(fingerprint[1])).decode()},r={given['r']}"
    )

    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD, base64.b64decode(given["s"]), int(given["i"]))
    auth = f"{bare},{challenge['server_first']},{without_proof}".encode()
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
    assert base64.b64decode(proof) == bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    final = base64.b64encode(hmac.digest(server_key, auth, "sha256")).decode()
    assert welcome["server_final"] == f"v={final}"


def test_what_is_bound_is_the_sha256_of_the_certificate() -> None:
    bound = binding(b"certificate")
    digest = bound[1] if isinstance(bound, tuple) else bound
    assert digest == hashlib.sha256(b"certificate").digest()


def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| [^|]+ \|$", TEXT, re.M)
    assert {code: int(number) for code, number in rows} == EXIT_CODES


def test_the_limits_and_columns_that_it_names_are_those_of_the_code() -> None:
    assert wire.MAX_FRAME_BYTES == 4 * 2**20 and wire.MAX_HELLO_BYTES == 4 * 2**10
    assert wire.HEAD_BYTES == 7 and wire.PREFIX_BYTES == 11
    assert "the columns " + ", ".join(f"`{name}`" for name in PROCESS_COLUMNS) in TEXT.replace("\n", " ")


def test_the_catalogue_is_that_of_the_code() -> None:
    """If this fails: python -m tests.docs.catalogue."""
    assert catalogue.replace(TEXT) == TEXT
