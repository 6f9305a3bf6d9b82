"""How the one file unpacks itself: whole or not at all, into a place nobody else can change, or with a clear word."""

import os
import shutil
import stat
import subprocess
import uuid
from pathlib import Path

import pytest

pytestmark = [pytest.mark.binary, pytest.mark.timeout(180)]  # the first one builds the binary

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and foreign owners need root")
NOBODY = 65534


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


@pytest.fixture
def tmpfs(tmp_path):
    """tmpfs(options) mounts one and gives its folder."""
    mounted = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_an_empty_folder_and_an_empty_environment_are_enough(binary, tmp_path):
    # the default cache folder would be shared with this machine's own: name one after all, but nothing else
    done = binary.run("--version", env={"AGENT_CACHE": str(binary.cache)}, cwd=binary.file.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("agent ")
    assert [path.name for path in binary.file.parent.iterdir()] == ["agent"]


def test_with_nothing_in_the_environment_at_all(binary):
    shared = Path("/var/cache/agent", name_of_copy(binary))
    was_there = shared.exists()
    try:
        done = binary.run("--version", env={})
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("agent ")
    finally:
        if os.access(shared, os.W_OK) and not was_there:
            shutil.rmtree(shared)


def test_the_second_run_unpacks_nothing(binary):
    binary.run("--version")
    [copy] = binary.copies
    before = copy.stat().st_mtime_ns, copy.stat().st_ino
    binary.run("--version")
    assert (copy.stat().st_mtime_ns, copy.stat().st_ino) == before
    assert binary.copies == [copy]


@pytest.mark.parametrize("lock", ["with flock", "without flock"])
def test_twenty_first_runs_at_once_leave_one_whole_copy(binary, tmp_path, lock):
    environ = binary.environ()
    if lock == "without flock":
        environ["PATH"] = str(tools_without(tmp_path, "flock"))
    runs = [
        subprocess.Popen([str(binary.file), "--version"], env=environ, stdout=-1, stderr=-1, text=True)
        for _ in range(20)
    ]
    answers = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0] * 20, answers
    assert len({out for out, _ in answers}) == 1
    assert [err for _, err in answers] == [""] * 20
    assert len(binary.copies) == 1
    assert binary.copies[0].name[0] != "."


def test_it_is_found_through_a_link_and_through_path(binary, tmp_path):
    link = tmp_path / "linked"
    link.symlink_to(binary.file)
    assert binary.run("--version", file=link).returncode == 0
    environ = binary.environ(PATH=f"{binary.file.parent}:{binary.environ()['PATH']}")
    assert binary.run("--version", file="agent", env=environ).returncode == 0
    assert binary.run("--version", file="./agent", cwd=binary.file.parent).returncode == 0
    assert len(binary.copies) == 1


def test_arguments_arrive_as_they_are(binary):
    done = binary.run("two words", "*", "$HOME", "大区")
    assert done.returncode == 2
    assert "unknown role 'two words'" in done.stderr


@needs_root
def test_another_user_gets_a_copy_in_its_home_and_else_beside_the_binary(binary, tmp_path):
    public = Path("/var/tmp") / f"agent-test-{uuid.uuid4().hex}"
    home = public / "home"
    home.mkdir(parents=True)
    try:
        # under another hash, for root may have unpacked this very content already, which would do
        other = public / "agent"
        other.write_bytes(with_hash(binary.file, "0" * 20))
        other.chmod(0o755)
        for path in (public, home):
            os.chown(path, NOBODY, NOBODY)
        run = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        done = binary.run("--version", file=other, env={"HOME": str(home)}, **run)
        assert done.returncode == 0, done.stderr
        assert list((home / ".cache/agent").iterdir())
        assert not (public / ".agent").exists()
        for nowhere in ("", "/nonexistent"):
            done = binary.run("--version", file=other, env={"HOME": nowhere}, **run)
            assert done.returncode == 0, done.stderr
            assert (public / ".agent").exists()
            shutil.rmtree(public / ".agent")
    finally:
        shutil.rmtree(public)


def test_a_planted_link_is_refused(binary, tmp_path):
    name = name_of_copy(binary)
    (tmp_path / "evil").mkdir()
    evil_program(tmp_path / "evil")
    (binary.cache / name).symlink_to(tmp_path / "evil")
    done = binary.run("--version")
    assert done.returncode == 126
    assert "not trusted" in one_line(done.stderr)
    assert "evil" not in done.stdout


def test_a_copy_that_others_may_write_to_is_refused(binary):
    binary.run("--version")
    [copy] = binary.copies
    copy.chmod(0o777)
    done = binary.run("--version")
    assert done.returncode == 126
    assert "not trusted" in one_line(done.stderr)


def test_a_cache_folder_that_others_may_write_to_is_refused(binary):
    binary.cache.mkdir()
    binary.cache.chmod(0o777)
    done = binary.run("--version")
    assert done.returncode == 126
    assert "not trusted" in one_line(done.stderr)
    assert str(binary.cache) in done.stderr


@needs_root
@pytest.mark.parametrize("what", ["copy", "cache", "above"])
def test_a_folder_of_somebody_else_is_refused(binary, what, tmp_path):
    if what == "above":
        binary.cache = tmp_path / "theirs/cache"
        binary.cache.parent.mkdir()
        os.chown(binary.cache.parent, NOBODY, NOBODY)
    else:
        binary.run("--version")
        os.chown(binary.copies[0] if what == "copy" else binary.cache, NOBODY, NOBODY)
    done = binary.run("--version")
    assert done.returncode == 126
    assert "not trusted" in one_line(done.stderr)


@pytest.mark.parametrize("damage", ["file removed", "file emptied", "program removed"])
def test_a_damaged_copy_is_replaced(binary, damage):
    version = binary.run("--version").stdout
    [copy] = binary.copies
    library = next((copy / "_internal").glob("libpython*"))
    if damage == "file removed":
        library.unlink()
    elif damage == "file emptied":
        library.write_bytes(b"")
    else:
        (copy / "agent").unlink()
    done = binary.run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, version, "")
    assert binary.copies == [copy]
    assert library.stat().st_size > 1_000_000


def test_an_unpacking_that_was_killed_leaves_nothing_that_is_used(binary):
    name = name_of_copy(binary)
    half = binary.cache / ".unpack-killed"
    half.mkdir()
    evil_program(half)
    done = binary.run("--version")
    assert done.returncode == 0, done.stderr
    assert (binary.cache / name / "_internal").is_dir()


def test_an_hour_later_the_rest_of_a_killed_unpacking_goes(binary):
    binary.cache.mkdir()
    old = binary.cache / ".unpack-old"
    old.mkdir()
    os.utime(old, (0, 0))
    binary.run("--version")
    assert not old.exists()


def test_a_truncated_binary_says_so_and_leaves_nothing(binary):
    cut = binary.file.with_name("cut")
    cut.write_bytes(binary.file.read_bytes()[:5_000_000])
    cut.chmod(0o755)
    done = binary.run("--version", file=cut)
    assert done.returncode == 126
    assert "unpacking failed" in one_line(done.stderr)
    assert binary.copies == []


@needs_root
def test_a_full_disk_is_said_and_what_to_do(binary, tmpfs):
    binary.cache = tmpfs("size=8m,mode=755") / "cache"
    done = binary.run("--version")
    assert done.returncode == 126
    assert "disk is full" in one_line(done.stderr)
    assert "AGENT_CACHE=" in done.stderr
    assert binary.copies == []


@needs_root
def test_a_noexec_disk_is_said_and_what_to_do(binary, tmpfs):
    binary.cache = tmpfs("size=80m,mode=755,noexec") / "cache"
    done = binary.run("--version")
    assert done.returncode == 126
    assert "noexec" in one_line(done.stderr)
    assert "AGENT_CACHE=" in done.stderr
    assert binary.copies == []


def test_two_versions_live_side_by_side(binary):
    binary.run("--version")
    other = binary.file.with_name("other")
    other.write_bytes(with_hash(binary.file, "f" * 20))
    other.chmod(0o755)
    assert binary.run("--version", file=other).returncode == 0
    first, second = binary.copies
    assert {first.name, second.name} == {"f" * 20, name_of_copy(binary)}
    assert binary.run("--version").returncode == 0


@pytest.mark.parametrize(
    ("libc", "says"),
    [("glibc 2.17", "this host has glibc 2.17"), ("musl libc (x86_64)", "musl")],
)
def test_an_older_host_is_told_which_glibc_it_takes(binary, tmp_path, libc, says):
    tools = tools_without(tmp_path, "getconf", "ldd")
    for name in ("getconf", "ldd"):
        (tools / name).write_text(f"#!/bin/sh\necho '{libc}'\n")
        (tools / name).chmod(0o755)
    done = binary.run("--version", env=binary.environ(PATH=str(tools)))
    assert done.returncode == 1
    assert says in one_line(done.stderr)
    assert "needs glibc 2." in done.stderr
    assert not binary.cache.exists()


def test_another_processor_is_told_apart(binary, tmp_path):
    tools = tools_without(tmp_path, "uname")
    (tools / "uname").write_text("#!/bin/sh\necho riscv64\n")
    (tools / "uname").chmod(0o755)
    done = binary.run("--version", env=binary.environ(PATH=str(tools)))
    assert done.returncode == 1
    assert "riscv64" in one_line(done.stderr)


@pytest.mark.skipif(not shutil.which("busybox"), reason="busybox is not installed")
def test_busybox_is_enough(binary, tmp_path):
    tools = tmp_path / "busybox"
    tools.mkdir()
    for name in "ls tail gzip tar mv mkdir mktemp rm chmod head find readlink uname flock".split():
        (tools / name).symlink_to(shutil.which("busybox"))
    for _ in "first", "second":
        done = subprocess.run(
            ["/bin/busybox", "sh", str(binary.file), "--version"],
            env=binary.environ(PATH=str(tools)),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_the_copy_is_readable_for_others_and_writable_for_nobody_else(binary):
    old = os.umask(0o077)
    try:
        binary.run("--version")
    finally:
        os.umask(old)
    for path in [binary.copies[0], *binary.copies[0].rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) in (0o755, 0o644), path


def tools_without(tmp_path: Path, *missing: str) -> Path:
    """A folder with what the launcher needs and not the tools named."""
    tools = tmp_path / "tools"
    tools.mkdir()
    needed = "ls tail gzip tar mv mkdir mktemp rm chmod head find flock getconf ldd readlink uname".split()
    for name in needed:
        if name not in missing:
            (tools / name).symlink_to(shutil.which(name))
    return tools


def name_of_copy(binary) -> str:
    """The hash in the launcher's text; makes the cache folder."""
    binary.cache.mkdir(exist_ok=True)
    text = binary.file.read_bytes()[:2000].decode(errors="replace")
    return text.split("_agent_hash=")[1].split("\n")[0]


def with_hash(file: Path, name: str) -> bytes:
    """The same program as if its content had another hash."""
    content = file.read_bytes()
    start = content.index(b"_agent_hash=") + len(b"_agent_hash=")
    return content[:start] + name.encode() + content[start + len(name) :]


def evil_program(folder: Path) -> None:
    (folder / "agent").write_text("#!/bin/sh\necho evil\n")
    (folder / "agent").chmod(0o755)
