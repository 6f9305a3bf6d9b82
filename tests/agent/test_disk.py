import os
import stat
import subprocess
import sys

import pytest

from agent import disk
from agent.errors import ConfigError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_is_private_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    disk.write_private(path, b"new")
    assert (path.read_bytes(), mode(path), os.listdir(tmp_path)) == (b"new", 0o600, ["secret"])


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "secret"
    victim.write_text("precious")
    path.symlink_to(victim)
    disk.write_private(path, b"new")
    assert victim.read_text() == "precious" and not path.is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: writing {path}"):
        disk.write_private(path, b"new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["secret"])


def test_a_new_folder_is_closed_to_others(tmp_path):
    assert mode(disk.private_folder(tmp_path / "a" / "b")) == 0o700


def test_a_folder_that_others_may_read_but_not_write_is_taken_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    assert disk.private_folder(tmp_path) == tmp_path


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o770])
def test_a_folder_that_others_may_write_into_is_refused(tmp_path, bits):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(bits)
    with pytest.raises(ConfigError, match=r"others can write into the state folder .*chmod go-w"):
        disk.private_folder(shared)


@root_only
def test_a_folder_that_somebody_planted_is_refused(tmp_path):
    planted = tmp_path / "planted"
    planted.mkdir(0o700)
    os.chown(planted, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to uid 12345, not to us"):
        disk.private_folder(planted)


def test_a_file_in_the_place_of_the_folder_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state folder .*file: .*--state DIR"):
        disk.private_folder(tmp_path / "file")


def test_a_locked_folder_names_its_holder_and_is_free_when_that_is_dead(tmp_path):
    code = f"""
import pathlib
from agent import disk
disk.lock_folder(pathlib.Path({str(tmp_path)!r}), "x")
print("held", flush=True)
input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            ConfigError, match=rf"another daemon \(pid {holder.pid}\) uses {tmp_path}: stop it first"
        ):
            disk.lock_folder(tmp_path, "daemon")
        holder.kill()
        holder.wait()
        handle = disk.lock_folder(tmp_path, "daemon")
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n" and mode(tmp_path / "lock") == 0o600
        os.close(handle)
    finally:
        holder.kill()
        holder.wait()
