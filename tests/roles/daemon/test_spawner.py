"""What a process is given at its start, and what an operator is told when it cannot be started."""

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.program import LaunchSpec
from roles.daemon import spawner as spawner_module
from roles.daemon.spawner import Marks, Spawner, SpawnFailed
from tests.roles.daemon.conftest import PROGRAMS, children, program
from tests.waiting import until

KEY = "大区1.192.168.1.10.game1"
MARKS = Marks(KEY, "inc1", "tok1")


@pytest.fixture
def spawner(tmp_path):
    return Spawner(tmp_path, daemon_address="127.0.0.1:8889")


def spec(name, *words, **fields):
    return LaunchSpec(command=program(name, *words), **fields)


def surroundings(spawner, **fields):
    """What a process that was started says about itself."""
    pid = spawner.spawn(spec("surroundings", **fields), MARKS)
    _, status = os.waitpid(pid, 0)
    path = spawner.log_path(KEY, LaunchSpec(command=[], log=fields.get("log")))
    text = path.read_text()
    assert status == 0, text
    return json.loads(text.splitlines()[-1])


def test_a_process_has_a_session_of_its_own_and_nothing_of_ours(spawner, tmp_path):
    leak = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(leak, True)
    given = surroundings(spawner)
    os.close(leak)
    log = str(tmp_path / "log" / f"{KEY}.log")
    assert given["sid"] == given["pid"]
    assert given["files"].pop("0") == "/dev/null"
    assert given["files"].pop("1") == given["files"].pop("2") == log
    assert all(target.startswith("/proc/") for target in given["files"].values()), "its own look at /proc"
    assert given["cwd"] == str(tmp_path)


def test_its_signals_are_the_default_though_we_ignore_and_block_some(spawner):
    """nohup, a shell's & and our own service ignore some; exec keeps that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        given = surroundings(spawner)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert given["ignored"] & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0, (
        "those two are Python's own"
    )
    assert given["blocked"] == 0


def test_a_daemon_started_under_nohup_with_blocked_signals_passes_none_of_it_on(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from agent.program import LaunchSpec
from roles.daemon.spawner import Marks, Spawner
pid = Spawner(Path(sys.argv[1])).spawn(LaunchSpec(command=[sys.executable, sys.argv[2]]), Marks("k", "i", "t"))
os.waitpid(pid, 0)
"""

    def rude():
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGTSTP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2])

    command = [sys.executable, "-c", script, str(tmp_path), str(PROGRAMS / "surroundings.py")]
    subprocess.run(command, preexec_fn=rude, check=True, timeout=20)
    given = json.loads((tmp_path / "log" / "k.log").read_text())
    assert given["ignored"] & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    assert given["blocked"] == 0


def test_its_environment_is_ours_without_secrets_plus_its_own_plus_the_marks(tmp_path):
    environ = {
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "AGENT_KEY": "secret", "AGENT_GLOBALDB": "redis://:secret@h",
        "AGENT_PROCESS": "of our own supervisor", "NOTIFY_SOCKET": "/run/x", "_PYI_ARCHIVE_FILE": "/x",
        "LD_LIBRARY_PATH": "/tmp/_MEI1", "LD_LIBRARY_PATH_ORIG": "/usr/local/lib", "LISTEN_FDS": "1",
    }  # fmt: skip
    spawner = Spawner(tmp_path, daemon_address="127.0.0.1:8889", environ=environ)
    given = surroundings(spawner, env={"MODE": "pvp", "LANG": "zh_CN.UTF-8"})["environ"]
    given.pop("LC_CTYPE", None)  # Python's own
    assert given == {
        "PATH": os.environ["PATH"], "LANG": "zh_CN.UTF-8", "MODE": "pvp", "LD_LIBRARY_PATH": "/usr/local/lib",
        "AGENT_PROCESS": KEY, "AGENT_INCARNATION": "inc1", "AGENT_TOKEN": "tok1", "AGENT_OWNER": str(tmp_path),
        "AGENT_DAEMON": "127.0.0.1:8889",
    }  # fmt: skip


def test_output_is_appended_to_a_file_whose_folders_are_made(spawner, tmp_path):
    path = tmp_path / "a" / "b" / "大区.log"
    given = surroundings(spawner, log={"path": str(path)})
    assert given["files"]["1"] == str(path)
    surroundings(spawner, log={"path": str(path)})
    assert len(path.read_text().splitlines()) == 2


def test_errors_may_have_a_file_of_their_own(spawner, tmp_path):
    log = {"path": str(tmp_path / "out"), "stderr": str(tmp_path / "err")}
    given = surroundings(spawner, log=log)
    assert (given["files"]["1"], given["files"]["2"]) == (log["path"], log["stderr"])


def test_it_runs_where_it_is_told(spawner):
    assert surroundings(spawner, cwd="/usr/lib")["cwd"] == "/usr/lib"


def test_its_limits_are_set_and_files_are_as_we_were_started_not_as_we_raised_ours(spawner):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raised = min(hard, spawner_module.STARTED_WITH_NOFILE + 77) if hard != resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    try:
        assert surroundings(spawner)["nofile"] == [spawner_module.STARTED_WITH_NOFILE, hard]
        given = surroundings(spawner, limits={"nofile": (512, 600), "core": (0, -1)})
        assert given["nofile"] == [512, 600]
        assert given["core"] == [0, -1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard), "ours is as it was"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_daemon_with_more_files_open_than_a_child_may_have_can_still_start_one(spawner, monkeypatch):
    monkeypatch.setattr(spawner_module, "STARTED_WITH_NOFILE", 64)
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(80)]
    try:
        pid = spawner.spawn(spec("steady"), MARKS)
    finally:
        for file in files:
            os.close(file)
    try:
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == 64
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@needs_root
@pytest.mark.skipif(os.geteuid() != 0, reason="for others it is said before the child is made")
def test_a_limit_that_even_root_may_not_set_is_named_with_what_to_look_at(spawner):
    above = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
    with pytest.raises(SpawnFailed, match=f"its limits nofile {above}.*ulimit -Ha.*fs.nr_open"):
        spawner.spawn(spec("steady", limits={"nofile": (above, above)}), MARKS)


@pytest.mark.parametrize("limits", [{}, {"nofile": (2048, 4096)}])
def test_it_runs_as_the_user_it_is_told(tmp_path, limits):
    tmp_path.chmod(0o755)
    nobody = pwd.getpwnam("nobody")
    log = Path("/tmp") / f"spawner-{os.getpid()}.log"
    command = ["/bin/sh", "-c", "id -u; id -g; id -G; echo $HOME $USER; ulimit -n"]
    try:
        spec = LaunchSpec(command=command, user="nobody", limits=limits, cwd="/", log={"path": str(log)})
        pid = Spawner(tmp_path).spawn(spec, MARKS)
        assert os.waitpid(pid, 0)[1] == 0
        uid, gid, groups, home, files = log.read_text().splitlines()
        assert (int(uid), int(gid), int(groups)) == (nobody.pw_uid, nobody.pw_gid, nobody.pw_gid)
        assert home == f"{nobody.pw_dir} nobody"
        assert int(files) == (2048 if limits else spawner_module.STARTED_WITH_NOFILE)
        assert log.stat().st_uid == nobody.pw_uid, "it may turn its own log over"
    finally:
        log.unlink(missing_ok=True)


@needs_root
def test_another_users_link_is_not_followed_to_a_file_of_roots(tmp_path):
    (tmp_path / "passwd").write_text("root")
    (tmp_path / "link").symlink_to(tmp_path / "passwd")
    log = {"path": str(tmp_path / "link")}
    with pytest.raises(SpawnFailed, match=r"log .*link cannot be opened"):
        Spawner(tmp_path).spawn(LaunchSpec(command=["true"], user="nobody", log=log), MARKS)
    assert (tmp_path / "passwd").read_text() == "root"


def refusals(tmp_path):
    text, script, exotic = tmp_path / "text", tmp_path / "script", tmp_path / "exotic"
    text.write_text("hello")
    script.write_text("#!/no/such/interpreter\n")
    exotic.write_bytes(b"\x7fELF" + b"\0" * 60)
    for path in (script, exotic):
        path.chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    yield LaunchSpec(command=["no-such-program"]), "command no-such-program not found; install it"
    yield LaunchSpec(command=["/no/such/program"]), "command /no/such/program not found"
    yield LaunchSpec(command=[str(text)]), "text is not executable"
    yield LaunchSpec(command=[str(script)]), "script: its interpreter"
    yield LaunchSpec(command=[str(exotic)]), "not a program for this machine"
    yield LaunchSpec(command=["/usr"]), "command /usr is not executable"
    yield (
        LaunchSpec(command=["true"], cwd="/no/such/folder"),
        "cwd /no/such/folder: No such file or directory; create",
    )
    yield LaunchSpec(command=["true"], cwd="/etc/passwd"), "cwd /etc/passwd: Not a directory"
    yield (
        LaunchSpec(command=["true"], user="no-such-user"),
        'user "no-such-user" is unknown on this machine; create',
    )
    yield (
        LaunchSpec(command=["true"], log={"path": "/proc/no/log"}),
        "log /proc/no/log cannot be opened for writing",
    )
    yield LaunchSpec(command=["true"], log={"path": str(tmp_path / "fifo")}), "log .*fifo"
    yield LaunchSpec(command=["true"], log={"path": "/dev/full"}), "log /dev/full is not a regular file"
    yield LaunchSpec(command=["true"], log={"path": str(tmp_path)}), "Is a directory"
    yield LaunchSpec(command=["true", "x" * 3_000_000]), "too long together"
    yield LaunchSpec(command=["tr\0ue"]), "command"


def test_what_cannot_be_started_is_said_with_process_field_and_remedy(spawner, tmp_path):
    files, before = len(os.listdir("/proc/self/fd")), children()
    for bad, text in refusals(tmp_path):
        with pytest.raises(SpawnFailed, match=text) as caught:
            spawner.spawn(bad, MARKS)
        assert str(caught.value).startswith(f"process {KEY}: ")
        assert not caught.value.temporary
    assert len(os.listdir("/proc/self/fd")) == files
    assert children() == before


@pytest.mark.parametrize("number", sorted(spawner_module.TEMPORARY))
def test_what_may_work_a_moment_later_is_marked_so(spawner, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(SpawnFailed) as caught:
        spawner.spawn(spec("steady"), MARKS)
    assert caught.value.temporary


def test_a_binary_that_is_being_replaced_is_temporary(spawner, tmp_path):
    binary = tmp_path / "binary"
    binary.write_bytes(Path("/bin/true").read_bytes())
    binary.chmod(0o755)
    with open(binary, "ab"), pytest.raises(SpawnFailed) as caught:
        spawner.spawn(LaunchSpec(command=[str(binary)]), MARKS)
    assert caught.value.temporary


def test_many_starts_leak_nothing(spawner):
    def files():
        return sorted(os.listdir("/proc/self/fd"))

    before = files()
    for _ in range(30):
        os.waitpid(spawner.spawn(LaunchSpec(command=["true"]), MARKS), 0)
    assert files() == before


def test_the_exit_status_stays_ours_to_collect(spawner):
    """subprocess polls what was dropped unreaped at its next start: it must not know of ours."""
    first = spawner.spawn(spec("crashy", 0, 3), MARKS)
    time.sleep(0.3)
    subprocess.run(["true"], check=True)
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 3


def test_output_survives_the_death_of_who_started_it(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from agent.program import LaunchSpec
from roles.daemon.spawner import Marks, Spawner
print(Spawner(Path(sys.argv[1])).spawn(LaunchSpec(command=[sys.executable, sys.argv[2]]), Marks("k", "i", "t")))
sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(PROGRAMS / "chatty.py")]
    pid = int(subprocess.run(command, stdout=subprocess.PIPE, timeout=20, check=False).stdout)
    log = tmp_path / "log" / "k.log"
    try:
        size = until(lambda: log.exists() and log.stat().st_size)
        until(lambda: log.stat().st_size > size + 200)
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
