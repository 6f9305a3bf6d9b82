"""Who may join: the run that lives, by its own token, and nobody with anything else."""

import pytest

from agent import lifecycle
from agent.errors import Refused
from agent.messages import Join
from roles.daemon.admission import ApplicationAdmission
from roles.daemon.seal import Seal
from tests.roles.daemon.standing import IP, key

RUN, OLD = "9f86d081884c7d65", "1111111111111111"
GLOBALDB = "redis://app:secret@10.0.0.9:6379"


class Keeper:
    def __init__(self, state=lifecycle.RUNNING, incarnation=RUN):
        self.state, self.incarnation = state, incarnation
        self.spec = type("Spec", (), {"heartbeat_s": 7.0})


@pytest.fixture
def seal(tmp_path):
    return Seal(tmp_path)


@pytest.fixture
def keepers():
    return {key("game1"): Keeper(), key("game2"): Keeper()}


@pytest.fixture
def admission(seal, keepers):
    return ApplicationAdmission(IP, "0.1.0", keepers.get, seal, GLOBALDB)


def join(seal, name="game1", incarnation=RUN, **more):
    fields = {"token": seal.token(key(name), incarnation), "sdk": "python 1.0", **more}
    return Join(1, fields.pop("key", key(name)), fields.pop("incarnation", incarnation), **fields)


def test_the_run_that_lives_is_told_all_that_it_needs(admission, seal):
    identity, reply = admission.admit(join(seal))
    assert (identity.role, identity.name, identity.version) == ("app", key("game1"), "python 1.0")
    assert identity.incarnation == int(RUN, 16)
    assert (reply.daemon, reply.version, reply.heartbeat_s, reply.globaldb) == (IP, "0.1.0", 7.0, GLOBALDB)


@pytest.mark.parametrize("state", [lifecycle.STARTING, lifecycle.STOPPING])
def test_one_that_starts_or_is_ending_may_join(admission, seal, keepers, state):
    keepers[key("game1")].state = state
    assert admission.admit(join(seal)).identity.name == key("game1")


def test_the_token_of_another_process_or_run_is_none(admission, seal, tmp_path):
    for wrong in (
        join(seal, token=seal.token(key("game2"), RUN)),
        join(seal, token=seal.token(key("game1"), OLD)),
        join(seal, key=key("game2")),
        join(seal, incarnation=OLD, token=seal.token(key("game1"), RUN)),
        join(Seal(tmp_path / "another daemon's")),
    ):
        with pytest.raises(Refused, match="the token is not that of this run of this process") as refused:
            admission.admit(wrong)
        assert refused.value.code == "forbidden"


@pytest.mark.parametrize("token", ["", " ", "x" * 32, "\ud800" * 32, "１" * 32, "é", "\0", "0" * 100_000])
@pytest.mark.parametrize("incarnation", [RUN, "", "\ud800", "é"])
def test_garbage_is_refused_like_a_wrong_token(admission, token, incarnation):
    with pytest.raises(Refused, match="the token is not that"):
        admission.admit(Join(1, key("game1"), incarnation, token))


@pytest.mark.parametrize(
    "name", ["", "game1", "..", "\ud800", "a.b", "x" * 4000, "大区1.192.168.1.10", "*", "\n", "../../x"]
)
def test_what_is_no_key_is_refused_though_its_token_fits(admission, seal, name):
    with pytest.raises(Refused, match="the token is not that"):
        admission.admit(Join(1, name, RUN, seal.token(name.encode(errors="replace").decode(), RUN)))


def test_a_run_that_is_over_is_told_what_is_known_of_it(admission, seal, keepers):
    old = join(seal, incarnation=OLD)
    with pytest.raises(Refused, match=f"this run of {key('game1')} is over: RUNNING is what is known of it"):
        admission.admit(old)
    for state in (lifecycle.STOPPED, lifecycle.EXITED, lifecycle.BACKOFF, lifecycle.FATAL):
        keepers[key("game1")].state = state
        with pytest.raises(Refused, match=f"is over: {state}"):
            admission.admit(join(seal))


def test_a_process_that_is_configured_no_more_is_told_so(admission, seal):
    with pytest.raises(Refused, match=f"process {key('game9')} is not configured on {IP}") as refused:
        admission.admit(join(seal, "game9"))
    assert refused.value.code == "unknown_target"


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        (IP, False),  # as long as it is none of this machine: behind address translation it is another's
        ("8.8.8.8", False),
        ("192.168.1.11", False),
    ],
)
def test_only_addresses_of_this_machine_are_from_here(admission, host, here):
    assert admission.is_from_here(host) is here


def test_a_name_of_an_sdk_that_is_megabytes_is_cut(admission, seal):
    assert len(admission.admit(join(seal, sdk="x" * 3000)).identity.version) == 64
