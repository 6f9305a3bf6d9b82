import os
import stat
import time

import pytest
import scramp

from agent.handshake import MECHANISM, binding
from agent.key import machine_key
from agent.proof import BINDING
from roles.router.verifier import Verifiers

SECRET, OTHER = b"s" * 32, b"t" * 32
IP = "10.0.0.2"


def fits(verifier, password, name=IP):
    bound = (BINDING, binding(b"the certificate"))
    client = scramp.ScramClient([MECHANISM], name, password, channel_binding=bound)
    server = scramp.ScramMechanism(MECHANISM).make_server(lambda _: verifier, bound)
    server.set_client_first(client.get_client_first())
    client.set_server_first(server.get_server_first())
    try:
        server.set_client_final(client.get_client_final())
        client.set_server_final(server.get_server_final())
    except scramp.ScramException:
        return False
    return True


def test_only_the_key_of_that_machine_and_group_fits(tmp_path):
    verifiers = Verifiers(SECRET, tmp_path)
    assert fits(verifiers.of(IP), machine_key(SECRET, IP))
    assert not fits(verifiers.of(IP), machine_key(SECRET, "10.0.0.3"))
    assert not fits(verifiers.of(IP), machine_key(OTHER, IP))
    assert not fits(verifiers.nobody(IP), machine_key(SECRET, IP))


def test_an_ip_that_is_not_configured_looks_from_outside_as_it_will_when_it_is(tmp_path):
    verifiers = Verifiers(SECRET, tmp_path)
    known, unknown = verifiers.of(IP), verifiers.nobody(IP)
    assert (known.salt, known.iterations) == (unknown.salt, unknown.iterations)
    assert verifiers.nobody("\ud800").salt


def test_they_are_kept_private_and_another_secret_has_its_own(tmp_path):
    verifiers = Verifiers(SECRET, tmp_path)
    made = verifiers.of(IP)
    verifiers.save()
    (name,) = os.listdir(tmp_path)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert SECRET.hex() not in (tmp_path / name).read_text() + name
    assert Verifiers(SECRET, tmp_path)._known == {IP: made}
    assert Verifiers(OTHER, tmp_path)._known == {}


def test_a_thousand_that_come_back_cost_no_stretching(tmp_path):
    verifiers = Verifiers(SECRET, tmp_path)
    ips = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    for ip in ips:
        verifiers.of(ip)
    verifiers.save()
    again = Verifiers(SECRET, tmp_path)
    began = time.process_time()
    assert all(again.of(ip) == verifiers.of(ip) for ip in ips)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"10.0.0.2": []}', '{"10.0.0.2": ["a", "b", "c"]}', '{"10.0.0.2": ["", "", ""]}',
             '{"10.0.0.2": 5}', '{"10.0.0.2": ["QUJD", "QUJD", "QUJD"]}', "[" * 5000, "\ud800"]
)  # fmt: skip
def test_a_meddled_file_is_derived_anew(tmp_path, text):
    verifiers = Verifiers(SECRET, tmp_path)
    good = verifiers.of(IP)
    verifiers.save()
    (path,) = tmp_path.iterdir()
    path.write_bytes(text.encode(errors="surrogatepass"))
    assert Verifiers(SECRET, tmp_path).of(IP) == good
