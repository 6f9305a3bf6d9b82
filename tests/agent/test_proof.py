import secrets

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from agent.proof import BINDING, ClientProof, Unproved, prepared

MECHANISM = "SCRAM-SHA-256-PLUS"
BOUND = secrets.token_bytes(32)


def server_for(password, binding=BOUND):
    made = scramp.ScramMechanism(MECHANISM).make_auth_info(password, 4096)
    known = (bytes(made[0]), made[1], made[2], 4096)
    return scramp.ScramMechanism(MECHANISM).make_server(
        lambda _user: known, channel_binding=(BINDING, binding)
    )


def test_the_exchange_of_rfc_7677_with_a_binding_is_what_scramp_would_say():
    nonce = "rOprNGfwEbeRWgbNEkqO"
    server_first = f"r={nonce}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    ours = ClientProof("user", "pencil", BOUND, nonce=nonce)
    theirs = scramp.ScramClient(
        [MECHANISM], "user", "pencil", channel_binding=(BINDING, BOUND), c_nonce=nonce
    )
    assert ours.first == theirs.get_client_first()
    theirs.set_server_first(server_first)
    assert ours.final(server_first) == theirs.get_client_final()


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=20))
def test_scramp_lets_in_whoever_has_the_password_and_proves_itself(password):
    try:
        prepared(password)
    except Unproved:
        return
    server = server_for(password)
    client = ClientProof("ada", password, BOUND)
    server.set_client_first(client.first)
    server.set_client_final(client.final(server.get_server_first()))
    client.verify(server.get_server_final())


@pytest.mark.parametrize("name", ["大区", "a=b", "a,b", "ada"])
def test_scramp_reads_the_name_as_it_was_meant(name):
    heard = []
    made = scramp.ScramMechanism(MECHANISM).make_auth_info("pencil pencil", 4096)
    server = scramp.ScramMechanism(MECHANISM).make_server(
        lambda user: heard.append(user) or (bytes(made[0]), made[1], made[2], 4096),
        channel_binding=(BINDING, BOUND),
    )
    server.set_client_first(ClientProof(name, "pencil pencil", BOUND).first)
    assert heard == [name]


@pytest.mark.parametrize(("password", "binding"), [("wrong horse", BOUND), ("correct horse", b"another" * 5)])
def test_scramp_refuses_a_wrong_password_and_another_certificate(password, binding):
    server = server_for("correct horse")
    client = ClientProof("ada", password, binding)
    with pytest.raises(scramp.ScramException):
        server.set_client_first(client.first)
        server.set_client_final(client.final(server.get_server_first()))


def test_a_server_without_the_keys_is_found_out():
    client = ClientProof("ada", "correct horse", BOUND)
    server = server_for("correct horse")
    server.set_client_first(client.first)
    client.final(server.get_server_first())
    for wrong in ("v=" + "A" * 43 + "=", "v=", "e=other-error", "", "v=not base64"):
        with pytest.raises(Unproved):
            client.verify(wrong)


def test_nothing_is_verified_before_the_proof_was_made():
    with pytest.raises(Unproved):
        ClientProof("ada", "correct horse", BOUND).verify("v=")


@pytest.mark.parametrize(
    "server_first",
    [
        "",
        "r=n1\ud800,s=c2FsdA==,i=4096",
        "r=n1,s=c2FsdA==",
        "r=other,s=c2FsdA==,i=4096",
        "r=n1,s=c2FsdA==,i=4096",  # the server added nothing of its own
        "r=n1x,s=!,i=4096",
        "r=n1x,s=c2FsdA==,i=4095",
        "r=n1x,s=c2FsdA==,i=999999999",
        "r=n1x,s=c2FsdA==,i=-1",
        "r=n1x,s=c2FsdA==,i=4096,x=1",
        "m=ext,r=n1x,s=c2FsdA==,i=4096",
    ],
)
def test_a_malformed_challenge_is_refused_before_any_stretching(server_first):
    with pytest.raises(Unproved):
        ClientProof("ada", "correct horse", BOUND, nonce="n1").final(server_first)


@given(st.text(max_size=60))
def test_no_challenge_does_worse_than_be_refused(text):
    with pytest.raises(Unproved):
        ClientProof("ada", "correct horse", BOUND, nonce="n1").final(text)
