import hmac
import os

import pytest

from agent import key
from agent.errors import ConfigError

IP = "192.168.1.10"


@pytest.fixture
def group_file(tmp_path):
    return _write(tmp_path / "group.key", key.new_group_key())


def _write(path, text, mode=0o600):
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


def test_a_machine_key_is_the_hmac_of_its_ip(group_file, tmp_path):
    secret = key.read_group_key(group_file)
    assert len(secret) == 32
    line = key.machine_key_line(secret, IP)
    path = _write(tmp_path / "machine.key", line)
    assert key.read_machine_key(path) == (IP, hmac.new(secret, IP.encode(), "sha256").hexdigest())
    assert (
        key.read_machine_key(path, IP)[1]
        == key.machine_key(secret, IP)
        != key.machine_key(secret, "192.168.1.11")
    )


def test_two_groups_have_different_keys():
    assert key.new_group_key() != key.new_group_key()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_the_cure(group_file, mode):
    group_file.chmod(mode)
    with pytest.raises(ConfigError, match=f"type: chmod 600 {group_file}"):
        key.read_group_key(group_file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_that_belongs_to_somebody_else_is_refused(group_file):
    os.chown(group_file, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to uid 12345"):
        key.read_group_key(group_file)


def test_the_wrong_kind_of_key_is_told_with_the_way_to_the_right_one(group_file, tmp_path):
    with pytest.raises(ConfigError, match=f"this is the group key.*agent key machine {IP} --key"):
        key.read_machine_key(group_file, IP)
    machine = _write(tmp_path / "m", key.machine_key_line(key.read_group_key(group_file), IP))
    with pytest.raises(ConfigError, match="this is the key of a machine"):
        key.read_group_key(machine)
    with pytest.raises(ConfigError, match=r"the key of 192.168.1.10, and this machine is 10.0.0.1"):
        key.read_machine_key(machine, "10.0.0.1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "agent-group-key",
        "agent-group-key 1",
        "agent-group-key 1 AAAA",
        "agent-group-key 1 !!!",
        "agent-group-key 2 AAAA",
        "something else",
        "agent-machine-key 1 10.0.0.1 zz",
        "agent-machine-key 1 x " + "a" * 64,
        "agent-machine-key 1 10.0.0.1 " + "A" * 64,
    ],
)
def test_what_is_no_key(text):
    with pytest.raises(ConfigError):
        key.parse_group_key(text, "f")
    with pytest.raises(ConfigError):
        key.parse_machine_key(text, "f")


def test_a_file_that_is_missing_too_large_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        key.read_group_key(tmp_path / "none")
    with pytest.raises(ConfigError, match="larger than"):
        key.read_group_key(_write(tmp_path / "large", "x" * 5000))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(ConfigError, match="not UTF-8"):
        key.read_group_key(tmp_path / "binary")


def test_a_key_for_no_machine():
    with pytest.raises(ConfigError, match=r"0.0.0.0"):
        key.machine_key_line(b"x" * 32, "0.0.0.0")
