"""What the frozen program is and does once it runs: its size, its words, its process, its children's environment."""

import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from PyInstaller.archive.readers import CArchiveReader

from agent.__main__ import ROLES
from tests.waiting import until

pytestmark = [pytest.mark.binary, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 20_000_000
# what the roles are written with; a module that the recipe leaves out by mistake shows here
MODULES = """
    gevent gevent.monkey gevent.server gevent.ssl gevent.queue gevent.event gevent.pool gevent.lock
    redis hiredis ujson psutil docopt prompt_toolkit prompt_toolkit.shortcuts prompt_toolkit.history
    prompt_toolkit.patch_stdout wcwidth scramp tomllib cryptography.x509 ctypes
    cryptography.hazmat.primitives.asymmetric.ec cryptography.hazmat.primitives.hashes
    cryptography.hazmat.primitives.serialization
""".split()


def test_it_is_at_most_20_mb(built):
    assert built.stat().st_size <= LARGEST


def test_version_names_version_commit_and_glibc(binary):
    said = binary.run("--version").stdout
    assert re.fullmatch(
        r"agent \d+\.\d+\.\d+ \(commit [0-9a-f]{7,40}(-dirty)?, needs glibc >= 2\.\d+\)\n", said
    )


def test_the_glibc_it_names_is_what_its_files_ask_for(binary):
    said = int(re.search(r"glibc >= 2\.(\d+)", binary.run("--version").stdout)[1])
    needed = 0
    for path in binary.copies[0].rglob("*"):
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF":
            symbols = subprocess.run(["readelf", "-V", str(path)], capture_output=True, text=True).stdout
            needed = max([needed, *map(int, re.findall(r"GLIBC_2\.(\d+)", symbols))])
    assert said == needed


def test_licences_carry_every_notice(binary):
    said = binary.run("licenses").stdout
    for words in (
        "Valkey contributors",
        "gevent",
        "Python Software Foundation",
        "PyInstaller",
        "OpenSSL",
        "redis",
    ):
        assert words in said, words


def test_licences_into_a_closed_pipe_end_quietly(binary):
    command = f"{binary.file} licenses | head -n 1"
    done = subprocess.run(["sh", "-c", command], env=binary.environ(), capture_output=True, text=True)
    assert done.stderr == ""


def test_without_words_it_lists_the_roles(binary):
    done = binary.run()
    assert done.returncode == 2
    assert all(role in done.stdout for role in ROLES)


@pytest.mark.parametrize("role", [role for role in ROLES if (ROOT / "roles" / role / "main.py").is_file()])
def test_every_role_is_in_the_binary_and_explains_itself(binary, role):
    done = binary.run(role, "--help")
    assert done.returncode == 0, done.stderr
    assert f"agent {role}" in done.stdout


def test_a_wrong_option_is_answered_with_the_usage(binary):
    done = binary.run("globaldb", "--nonsense")
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_modules_that_roles_need_are_in_it(binary):
    binary.run("--version")
    copy = binary.copies[0]
    archive = CArchiveReader(str(copy / "agent")).open_embedded_archive("PYZ.pyz")
    libraries = {str(path.relative_to(copy / "_internal")).split(".")[0] for path in copy.rglob("*.so")}
    assert [
        name for name in MODULES if name not in archive.toc and name.replace(".", "/") not in libraries
    ] == []


def test_sigkill_of_a_role_leaves_no_process_and_no_folder(binary, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as output:
        role = binary.start(
            "globaldb",
            "--dir",
            str(tmp_path / "data"),
            "--listen",
            "127.0.0.1:0",
            stdout=output,
            stderr=output,
        )
    until(lambda: b" serving, " in log.read_bytes(), 30)
    until(lambda: not psutil.Process(role.pid).children(), 5)
    folders = set(binary.cache.rglob("*"))
    role.send_signal(signal.SIGKILL)
    assert role.wait(10) == -signal.SIGKILL
    places = (str(binary.cache), str(tmp_path / "data"))
    left = [p for p in psutil.process_iter(["exe"]) if (p.info["exe"] or "").startswith(places)]
    assert left == []
    assert set(binary.cache.rglob("*")) == folders


def test_the_pid_a_service_manager_sees_is_the_role_itself(binary, tmp_path):
    log = tmp_path / "log"
    with log.open("wb") as output:
        role = binary.start(
            "globaldb",
            "--dir",
            str(tmp_path / "data"),
            "--listen",
            "127.0.0.1:0",
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: b" serving, " in log.read_bytes(), 30)
        assert "valkey-server" in psutil.Process(role.pid).name()
    finally:
        role.terminate()
        assert role.wait(10) == 0


def test_children_inherit_nothing_of_the_binary(binary, tmp_path):
    """A program that prints its environment takes the place of the server that `globaldb` becomes."""
    binary.run("--version")
    server = binary.copies[0] / "_internal/valkey-server"
    server.write_text("#!/bin/sh\nexec env\n")
    given = binary.environ(LD_LIBRARY_PATH="/of/the/caller", CALLER="yes", root="kept")
    done = binary.run("globaldb", "--dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0", env=given)
    inherited = dict(line.split("=", 1) for line in done.stderr.splitlines())
    for of_the_shell in ("PWD", "OLDPWD", "SHLVL", "_"):
        inherited.pop(of_the_shell, None)
    assert inherited == given


def test_without_a_library_path_children_get_none(binary, tmp_path):
    binary.run("--version")
    (binary.copies[0] / "_internal/valkey-server").write_text("#!/bin/sh\nexec env\n")
    done = binary.run("globaldb", "--dir", str(tmp_path / "data"), "--listen", "127.0.0.1:0")
    assert "CACHE" in done.stderr
    assert "LD_LIBRARY_PATH" not in done.stderr
