"""start, stop, kill: idempotent, honest, polite, and over the whole tree of a process."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.group import PROGRAMS, Admin, Group, alive, program
from tests.waiting import until

IP = "127.0.0.2"


def key(name: str) -> str:
    return f"大区1.{IP}.{name}"


def for_anybody(name: str) -> list[str]:
    """A command that another user can run, though the checkout may lie where only we can read."""
    python = next(path for path in ("/usr/bin/python3", sys.executable) if os.path.exists(path))
    source = (PROGRAMS / f"{name}.py").read_text()
    return [python, "-c", source.replace("{", "{{").replace("}", "}}")]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    folder = tmp_path_factory.mktemp("group")
    folder.chmod(0o755)
    home = folder / "home of it"
    home.mkdir()
    root = os.geteuid() == 0
    world = {
        "programs": {
            "steady": program("steady", str(folder / "starts-{name}")),
            "deaf": program("deaf", stop_timeout_s=1),
            "saving": program("deaf", "2", stop_timeout_s=1),
            "killable": program("deaf", stop_timeout_s=1, kill_after_stop=True),
            "mild": program("forker", "mild", stop_timeout_s=5),
            "leaves-deaf": program("forker", "deaf", stop_timeout_s=1, kill_after_stop=True),
            "crashy": program("crashy", "0.3", "3"),
            "stubborn": program("crashy", "0.3", "3", restart="on-failure", restart_tries=3, backoff_s=2),
            "missing": {"command": ["/no/such/program"]},
            "shown": {
                "command": [*for_anybody("surroundings"), "{name}", "{region}"],
                "ready": {"spawn": 0},
                "cwd": str(home),
                "env": {"LANG": "C.UTF-8", "PLACE": "{ip}"},
                "limits": {"nofile": [77, 99], "core": 0},
                "restart": "never",
                **({"user": "nobody"} if root else {}),
            },
        },
        "world": {"大区1": {IP: [{"type": t, "name": t} for t in (
            "steady", "deaf", "saving", "killable", "mild", "leaves-deaf", "crashy", "stubborn", "missing", "shown",
        )]}},
    }  # fmt: skip
    group = Group(folder, [IP])
    group.environ["AGENT_PASSWORD"] = "a secret of the daemon's environment"
    group.environ["INVOCATION_ID"] = "systemd's"
    try:
        group.configure(world)
        group.start()
        yield group
    finally:
        group.close()


@pytest.fixture
def admin(group: Group) -> Iterator[Admin]:
    admin = group.admin(IP)
    yield admin
    admin.close()


def test_start_and_stop_twice_are_start_and_stop_once(group: Group, admin: Admin) -> None:
    first = admin.operate("start", IP, "steady")[key("steady")]
    again = admin.operate("start", IP, "steady")[key("steady")]
    assert (first.result, again.result) == ("ok", "already")
    assert first.pid == again.pid and group.pids(key("steady")) == [first.pid]

    stopped = admin.operate("stop", IP, "steady")[key("steady")]
    assert stopped.result == "ok" and not alive(first.pid)  # the effect first, then the success
    assert admin.operate("stop", IP, "steady")[key("steady")].result == "already"
    record = until(lambda: _record(group, "steady", state="STOPPED"))
    assert (record["wanted"], record["pid"], record["startcount"]) == ("down", "0", "1")


def _record(group: Group, name: str, **wanted: str) -> dict[str, str] | None:
    record = group.record(key(name))
    return record if wanted.items() <= record.items() else None


def test_many_starts_at_the_same_moment_start_one(group: Group) -> None:
    asked = [
        subprocess.Popen(
            [*group.command, "admin", str(group.daemon_address[IP]), "--user", "ada",
             "--password-file", str(group.password_file()), "-c", f"start {IP} steady", "--json"],
            env=group.environ, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    answers = [json.loads(one.communicate(timeout=30)[0])["outcomes"][0] for one in asked]

    assert sorted(answer["result"] for answer in answers).count("ok") >= 1
    assert all(answer["result"] in ("ok", "already") for answer in answers), answers
    assert len({answer["pid"] for answer in answers}) == 1
    assert len(group.pids(key("steady"))) == 1


def test_who_does_not_stop_is_said_to_be_running_still_and_never_killed_unasked(
    group: Group, admin: Admin
) -> None:
    pid = admin.operate("start", IP, "deaf")[key("deaf")].pid
    until(lambda: "deaf" in group.log_of(key("deaf")).read_text())

    outcome = admin.operate("stop", IP, "deaf")[key("deaf")]

    assert outcome.result == "failed", outcome
    assert "still running" in outcome.detail and "(saving?)" in outcome.detail
    assert f"kill {IP} {pid}" in outcome.detail  # what to do
    scripted = group.admin_command(IP, f"stop {IP} deaf")
    assert scripted.returncode == 1 and "(saving?)" in scripted.stdout
    assert alive(pid) and _record(group, "deaf", state="STOPPING", wanted="down")
    refused = admin.operate("start", IP, "deaf")[key("deaf")]
    assert refused.result == "failed" and "still stopping" in refused.detail

    killed = group.admin_command(IP, f"kill {IP} {pid}")
    assert killed.returncode == 0, killed
    assert not alive(pid)
    assert until(lambda: _record(group, "deaf", state="STOPPED"))["exit"] == "signal KILL"


def test_who_needs_longer_than_its_time_out_is_awaited_by_the_next_stop(group: Group, admin: Admin) -> None:
    pid = admin.operate("start", IP, "saving")[key("saving")].pid
    until(lambda: "deaf" in group.log_of(key("saving")).read_text())

    assert "(saving?)" in admin.operate("stop", IP, "saving")[key("saving")].detail

    until(lambda: not alive(pid), 5)
    assert until(lambda: _record(group, "saving", state="STOPPED"))["exit"] == "code 0"
    assert admin.operate("stop", IP, "saving")[key("saving")].result == "already"


def test_kill_after_stop_kills_when_the_time_is_over_and_not_before(group: Group, admin: Admin) -> None:
    pid = admin.operate("start", IP, "killable")[key("killable")].pid
    until(lambda: "deaf" in group.log_of(key("killable")).read_text())

    assert admin.operate("stop", IP, "killable")[key("killable")].result == "ok"

    assert not alive(pid)
    assert until(lambda: _record(group, "killable", state="STOPPED"))["exit"] == "signal KILL"


@pytest.mark.parametrize("name", ["mild", "leaves-deaf"])
def test_a_stop_is_over_when_the_whole_tree_has_gone(group: Group, admin: Admin, name: str) -> None:
    """Also where a child does not hear TERM and has to be killed, which its launch allows."""
    pid = admin.operate("start", IP, name)[key(name)].pid
    child = int(until(lambda: group.log_of(key(name)).read_text().split())[-1])
    assert alive(child) and os.getsid(child) == pid

    assert admin.operate("stop", IP, name)[key(name)].result == "ok"

    assert not alive(pid) and not alive(child)


def test_who_crashes_is_dead_and_stays_so(group: Group, admin: Admin) -> None:
    assert admin.operate("start", IP, "crashy")[key("crashy")].result == "ok"

    until(lambda: admin.verdicts()[key("crashy")] == "DEAD")

    row = admin.picture()[key("crashy")]
    assert (row["exit"], row["wanted"], row["pid"], row["startcount"]) == ("code 3", "up", 0, 1)
    assert admin.operate("start", IP, "crashy")[key("crashy")].result == "ok"
    assert until(lambda: _record(group, "crashy", startcount="2"))


def test_who_is_to_be_restarted_on_failure_is_until_an_operator_stops_it(group: Group, admin: Admin) -> None:
    first = admin.operate("start", IP, "stubborn")[key("stubborn")].pid
    until(lambda: admin.verdicts()[key("stubborn")] == "BACKOFF")
    second = until(lambda: group.pids(key("stubborn")))[0]
    assert second != first
    until(lambda: admin.verdicts()[key("stubborn")] == "BACKOFF")

    assert admin.operate("stop", IP, "stubborn")[key("stubborn")].result == "ok"

    with pytest.raises(AssertionError, match="not within"):
        until(lambda: group.pids(key("stubborn")), 3)
    assert _record(group, "stubborn", state="STOPPED", wanted="down")


def test_what_an_operator_stopped_stays_down_and_what_he_started_stays_up_over_a_new_daemon(
    group: Group, admin: Admin
) -> None:
    admin.operate("start", IP, "steady")
    admin.operate("start", IP, "mild")
    (pid,) = group.pids(key("steady"))
    admin.operate("stop", IP, "mild")
    group.daemon(IP).kill()
    group.start_daemon(IP)

    again = group.admin(IP)
    until(lambda: again.verdicts()[key("steady")] == "RUNNING")
    picture = again.picture()
    assert (picture[key("mild")]["wanted"], picture[key("mild")]["verdict"]) == ("down", "STOPPED")
    assert (picture[key("steady")]["wanted"], picture[key("steady")]["pid"]) == ("up", pid)
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: group.pids(key("mild")), 1.5)


def test_what_cannot_be_started_says_why(group: Group, admin: Admin) -> None:
    outcome = admin.operate("start", IP, "missing")[key("missing")]

    assert outcome.result == "failed" and "/no/such/program not found" in outcome.detail, outcome
    until(lambda: admin.verdicts()[key("missing")] == "FATAL")
    assert group.record(key("missing")).get("startcount", "0") == "0"  # it was no start


def test_a_pid_that_is_not_managed_is_refused_and_nothing_is_signalled(group: Group, tmp_path: Path) -> None:
    stranger = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "deaf.py"), "1000", str(tmp_path / "heard")], stdout=subprocess.PIPE
    )
    try:
        assert stranger.stdout and stranger.stdout.readline()
        for pid in (stranger.pid, os.getpid(), group.daemon(IP).pid, 1, 2**31 - 1):
            done = group.admin_command(IP, f"kill {IP} {pid}")
            assert done.returncode in (1, 2), done
            assert "is not a process that the agent manages" in done.stderr or pid == 1
        assert stranger.poll() is None and not (tmp_path / "heard").exists()
        assert group.daemon(IP).child.poll() is None
        assert any(
            "not done" in line["verdict"] and str(stranger.pid) in line["what"] for line in group.audit()
        )
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_gets_what_is_configured_and_no_secret_of_ours(group: Group, admin: Admin) -> None:
    admin.operate("start", IP, "shown")
    text = until(lambda: group.log_of(key("shown")).read_text())
    got: dict[str, Any] = json.loads(text)

    assert got["argv"][1:] == ["shown", "大区1"]
    assert got["cwd"] == str(group.folder / "home of it")
    assert got["nofile"] == [77, 99] and got["core"] == [0, 0]
    assert got["sid"] == got["pid"]
    environ = got["environ"]
    assert (environ["LANG"], environ["PLACE"]) == ("C.UTF-8", IP)
    ours = {name for name in environ if name.startswith("AGENT_")}
    assert ours == {"AGENT_PROCESS", "AGENT_INCARNATION", "AGENT_TOKEN", "AGENT_OWNER", "AGENT_DAEMON"}
    assert environ["AGENT_PROCESS"] == key("shown")
    assert "INVOCATION_ID" not in environ
    assert "secret" not in json.dumps({n: v for n, v in environ.items() if n != "AGENT_TOKEN"})
    # no descriptor of the daemon's: nothing but its own files, and the folder it lists itself
    assert all(name in ("0", "1", "2") or link.startswith("/proc/") for name, link in got["files"].items())
    assert got["files"]["0"] == "/dev/null"
    assert (got["ignored"] & ~(1 << 12 | 1 << 24), got["blocked"]) == (0, 0)  # python's own: PIPE, XFSZ
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        assert (got["uid"], got["gid"], got["groups"]) == (nobody.pw_uid, nobody.pw_gid, [nobody.pw_gid])
        assert environ["USER"] == "nobody" and environ["HOME"] == nobody.pw_dir
        assert group.log_of(key("shown")).stat().st_uid == nobody.pw_uid
