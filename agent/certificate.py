"""The self-signed certificate that each server makes for itself at its first start.

Nobody checks who signed it: SCRAM's proof is bound to its hash (`tls-server-end-point`, RFC 5929), so a man in the
middle with a certificate of his own fails although no certificate is ever distributed.
"""

import datetime
import os
import ssl
from pathlib import Path

from agent.disk import write_private
from agent.errors import ConfigError

LIFETIME_DAYS = 36500


def own_certificate(folder: Path) -> Path:
    """The PEM file (key and certificate, mode 0600) in `folder`; made if it is not there. Raises ConfigError."""
    path = folder / "certificate.pem"
    try:
        if not path.exists():
            _write_from_a_child(path)
        fingerprinted(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except ssl.SSLError as error:
        raise _damaged(path, error.reason or str(error)) from None
    except ValueError as error:  # no certificate in it, or no text at all
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise ConfigError(f"certificate {path}: {error.strerror}") from None
    return path


def _write_from_a_child(path: Path) -> None:
    """A child takes the 12 MB that making it costs away with it; a daemon would hold them for months."""
    child = os.fork()
    if not child:
        try:
            write_private(path, _make())
        except OSError:
            pass  # the parent meets the same and can say it
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if not path.exists():
        write_private(path, _make())


def _damaged(path: Path, how: str) -> ConfigError:
    return ConfigError(
        f"certificate {path} is damaged ({how}): remove the file, a new one is made at the next start"
    )


def fingerprinted(path: Path) -> bytes:
    """The certificate of a PEM file as DER, which is what both ends bind their proof to."""
    text = path.read_text()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") :])


def _make() -> bytes:
    # Imported here: it costs 100 ms and 12 MB, and is needed once in the life of a machine.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"agent on {os.uname().nodename}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=LIFETIME_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
