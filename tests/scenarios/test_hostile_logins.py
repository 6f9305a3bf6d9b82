"""Logging in without the right to: guessing, replaying, sitting in between, downgrading, another machine's key."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import scramp

from agent import codec, dialer, messages, wire
from agent.errors import LoginRefused
from agent.handshake import Identity
from agent.proof import ClientProof
from agent.reception import BETWEEN_TEXT, REFUSED_TEXT
from tests.scenarios.attacker import Between, call_tls, converse, cpu_s, record_login
from tests.scenarios.group import PASSWORD, USER, Group, program, running
from tests.waiting import until

IP, OTHER = "127.0.0.2", "127.0.0.3"
KEY = f"大区1.{IP}.game"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    game = [{"type": "game", "name": "game"}]
    world = {"programs": {"game": program("steady")}, "world": {"大区1": {IP: game, OTHER: game}}}
    with running(tmp_path_factory.mktemp("group"), [IP], world) as group:
        yield group


def log_in(group: Group, source: str, user: str = USER, password: str = PASSWORD) -> str:
    """Empty, or why it was refused."""
    try:
        sock, _ = dialer.connect(
            group.daemon_address[IP], Identity("admin", user, "", 0), password, source_ip=source
        )
    except LoginRefused as error:
        return str(error).removeprefix(f"{group.daemon_address[IP]}: ")
    sock.close()
    return ""


def hello(name: str, client_first: str, role: str = "admin") -> bytes:
    return wire.pack(
        wire.REQUEST, 1, b"", b"", codec.encode(messages.Hello(wire.PROTOCOL, role, name, client_first))
    )


def challenge(group: Group, name: str, source: str) -> str:
    """What the daemon says to somebody who claims to be this user."""
    with call_tls(group.daemon_address[IP], source) as sock:
        sock.sendall(hello(name, ClientProof(name, "x", b"x").first))
        (frame,) = wire.Decoder().feed(sock.recv(65536))
        return codec.decode(frame.body)[0].server_first


@pytest.mark.timeout(120)
def test_a_thousand_wrong_passwords_are_cut_short_and_the_honest_user_gets_in_from_elsewhere(group):
    role = group.daemon(IP)
    cpu, began = cpu_s(role.pid), time.monotonic()
    told: dict[str, int] = {}
    for number in range(1000):
        text = log_in(group, "127.0.6.1", password=f"guess{number:06}")
        words = text.partition(";")[0]
        told[words] = told.get(words, 0) + 1
        if number % 200 == 100:
            assert log_in(group, "127.0.6.2") == ""
    assert told == {REFUSED_TEXT: 10, "too many failed logins": 990}
    assert cpu_s(role.pid) - cpu < 20 and time.monotonic() - began < 60
    assert log_in(group, "127.0.6.1").startswith("too many failed logins; wait "), (
        "not even with the right one"
    )
    assert group.admin(IP).operate("start", IP)[KEY].good


def test_an_unknown_user_and_a_wrong_password_look_alike(group):
    group.add_user("bob", "list on *")
    texts = {
        log_in(group, f"127.0.7.{n}", user, "a wrong one")
        for n, user in ((1, "bob"), (2, "nobody"), (3, "eve="))
    }
    assert texts == {REFUSED_TEXT}
    parts = {}
    for name in ("bob", "nobody", "somebody"):
        asked = [challenge(group, name, "127.0.7.9") for _ in range(2)]
        first, again = (dict(part.split("=", 1) for part in text.split(",")) for text in asked)
        assert first["s"] == again["s"] and first["r"] != again["r"]
        parts[name] = first
    assert len({part["s"] for part in parts.values()}) == 3
    assert len({(part["i"], len(part["s"]), len(part["r"])) for part in parts.values()}) == 1


def test_challenges_of_unknown_users_are_the_same_after_a_restart(group):
    before = challenge(group, "nobody", "127.0.7.20").split(",")[1]
    group.daemon(IP).stop()
    group.start_daemon(IP)
    assert challenge(group, "nobody", "127.0.7.20").split(",")[1] == before


def test_a_recorded_login_played_again_fails(group):
    frames = record_login(group.daemon_address[IP], USER, PASSWORD)
    assert len(frames) == 2
    answers = converse(group.daemon_address[IP], frames, "127.0.8.1")
    assert [frame.kind for frame in answers] == [wire.REPLY, wire.ERROR]
    assert codec.decode(answers[-1].body)[0].text == REFUSED_TEXT


def test_somebody_in_between_with_his_own_certificate_fails_and_both_sides_say_so(group, tmp_path):
    role = group.daemon(IP)
    said = role.said
    between = Between(tmp_path, group.daemon_address[IP])
    try:
        done = group.run(
            "admin", str(between.address), "--user", USER, "--password-file", str(group.password_file()),
            "-c", "list world", check=False,
        )  # fmt: skip
    finally:
        between.close()
    assert done.returncode == 3 and not done.stdout
    assert BETWEEN_TEXT in done.stderr
    role.wait_for("login from 127.0.0.99", said)
    assert BETWEEN_TEXT in role.text()[said:]
    assert PASSWORD.encode() not in between.from_client and KEY.encode() not in between.from_server


def test_a_daemon_does_not_join_a_router_that_somebody_stands_before(group, tmp_path):
    between = Between(tmp_path, group.router_address)
    group.make_machine_key(OTHER)
    try:
        role = group._start(
            "misled", True, "--ip", OTHER, "--listen", f"{OTHER}:0", "--router", str(between.address),
            "--key", str(group.folder / f"machine-{OTHER}.key"), role="daemon",
        )  # fmt: skip
        role.wait_for("somebody sits in between")
        assert role.child.poll() is None
        assert f"machine {OTHER}: online" not in group.roles["router"].text()
        role.stop()
    finally:
        between.close()


@pytest.mark.parametrize("flag", ["n", "y", "p=tls-unique", "p=tls-exporter"])
def test_a_login_that_is_not_bound_to_the_certificate_is_refused(group, flag):
    client = scramp.ScramClient(["SCRAM-SHA-256"], USER, PASSWORD)
    bare = client.get_client_first().removeprefix("n,,")
    (answer,) = converse(group.daemon_address[IP], [hello(USER, f"{flag},,{bare}")], f"127.0.9.{len(flag)}")
    assert (answer.kind, codec.decode(answer.body)[0].text) == (wire.ERROR, REFUSED_TEXT)


def test_a_key_for_another_ip_is_refused_by_the_daemon_itself_and_by_the_router(group):
    own = group.run("daemon", "--ip", OTHER, "--key", str(group.folder / f"machine-{IP}.key"), "--listen", f"{OTHER}:0",
                    "--state", str(group.folder / "x"), check=False)  # fmt: skip
    assert own.returncode == 2 and f"this is the key of {IP}, and this machine is {OTHER}" in own.stderr
    stolen = (group.folder / f"machine-{IP}.key").read_text().split()[-1]
    with pytest.raises(LoginRefused, match=REFUSED_TEXT):
        dialer.connect(group.router_address, Identity("daemon", OTHER, "", 1), stolen, source_ip=OTHER)
    group.roles["router"].wait_for(f"daemon '{OTHER}' from {OTHER}:")
    with pytest.raises(LoginRefused, match=f"comes from {OTHER}, not from {IP}"):
        dialer.connect(group.router_address, Identity("daemon", IP, "", 1), stolen, source_ip=OTHER)


def test_a_machine_that_is_not_in_the_world_is_refused_though_its_key_is_good(group):
    stranger = "127.0.0.44"
    group.make_machine_key(stranger)
    role = group._start(
        "stranger", True, "--ip", stranger, "--listen", f"{stranger}:0", "--router", str(group.router_address),
        "--key", str(group.folder / f"machine-{stranger}.key"), role="daemon",
    )  # fmt: skip
    role.wait_for(REFUSED_TEXT)
    group.roles["router"].wait_for(f"daemon '{stranger}' from {stranger}")
    assert "no machine of the world has this ip" in group.roles["router"].text()
    assert role.child.poll() is None, "it goes on trying: the world may come to know it"
    role.stop()


def test_the_wrong_door_is_told(group):
    for where, role, words in (
        (group.router_address, "admin", "the router serves daemons only"),
        (group.daemon_address[IP], "daemon", "has the wrong port"),
        (group.daemon_address[IP], "router", "has the wrong port"),
    ):
        with pytest.raises(LoginRefused, match=words):
            dialer.connect(where, Identity(role, IP, "", 0), "x", source_ip="127.0.9.50")


def test_no_secret_is_in_a_log_or_a_process_list(group):
    secrets = [PASSWORD, *(path.read_text().split()[-1] for path in group.folder.glob("*.key"))]
    group.admin_command(IP, "list world")
    for role in list(group.roles.values()):
        if role.child.poll() is None:
            shown = role.text() + Path(f"/proc/{role.pid}/cmdline").read_text()
            assert not [secret for secret in secrets if secret in shown]
    readable = [
        path for path in group.folder.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and any(s.encode() in path.read_bytes() for s in secrets)
    ]  # fmt: skip
    assert not readable


def test_a_login_is_not_held_up_by_others_that_never_end(group):
    idle = [call_tls(group.daemon_address[IP], "127.0.9.80") for _ in range(100)]
    began = time.monotonic()
    assert log_in(group, "127.0.9.81") == ""
    assert time.monotonic() - began < 2
    for sock in idle:
        sock.close()


def test_a_name_with_control_characters_forges_no_line_and_steers_no_terminal(group):
    role = group.daemon(IP)
    said = role.said
    name = "eve\n2026-01-01 00:00:00.000 admin ada at 127.0.0.1: logged in\x1b[2J"
    converse(group.daemon_address[IP], [hello(name, f"p=tls-server-end-point,,n={name},r=abc")], "127.0.9.90")
    until(lambda: "eve" in role.text()[said:])
    lines = role.text()[said:].splitlines()
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert "\x1b" not in role.text()
