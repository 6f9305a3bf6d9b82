import ssl
import stat
import subprocess
import sys

import pytest
from cryptography import x509

from agent.certificate import fingerprinted, own_certificate
from agent.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    own_certificate(tmp_path)
    return tmp_path


def test_it_is_made_once_and_nobody_else_can_read_it(folder):
    path = folder / "certificate.pem"
    first = path.read_bytes()
    assert own_certificate(folder) == path and path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_making_it_costs_is_gone_afterwards(tmp_path):
    code = (
        "import pathlib, sys; from agent.certificate import own_certificate;"
        "print(own_certificate(pathlib.Path(sys.argv[1])).stat().st_size > 0, 'cryptography' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_every_server_has_its_own(tmp_path_factory):
    one, other = (own_certificate(tmp_path_factory.mktemp("c")) for _ in range(2))
    assert fingerprinted(one) != fingerprinted(other)


def test_it_is_signed_with_sha256_as_the_binding_takes_for_granted_and_outlives_us_all(folder):
    certificate = x509.load_der_x509_certificate(fingerprinted(folder / "certificate.pem"))
    assert certificate.signature_hash_algorithm.name == "sha256"
    assert certificate.not_valid_after_utc.year > 2100


def test_what_both_ends_bind_to_is_what_tls_shows(folder):
    path = folder / "certificate.pem"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    a = client.wrap_bio(to_client, to_server)
    b = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (a, b, a, b):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert a.getpeercert(True) == fingerprinted(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"\xff\xfe" + text,
        lambda text: text[: text.index(b"-----BEGIN CERTIFICATE-----")],
        lambda text: text[text.index(b"-----BEGIN CERTIFICATE-----") :],
        lambda text: text.replace(b"\nMI", b"\nXX"),
    ],
    ids=["empty", "half", "binary", "key only", "no key", "garbled"],
)
def test_a_damaged_file_is_told_with_the_cure(folder, damage):
    path = folder / "certificate.pem"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=rf"certificate {path} is damaged \(.*remove the file"):
        own_certificate(folder)


def test_a_certificate_of_another_key_is_damaged(folder, tmp_path_factory):
    other = own_certificate(tmp_path_factory.mktemp("other")).read_text()
    path = folder / "certificate.pem"
    text = path.read_text()
    at = "-----BEGIN CERTIFICATE-----"
    path.write_text(text[: text.index(at)] + other[other.index(at) :])
    with pytest.raises(ConfigError, match="is damaged"):
        own_certificate(folder)


def test_a_folder_that_is_gone_is_told_in_words(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        own_certificate(tmp_path / "gone")
