"""`agent admin -c …` as scripts run it: a real process, a real TLS login, what it prints and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.roles.admin.conftest import ROOT, admin, environment
from tests.waiting import until


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("list world", 0, "大区1"),
        ("list machine", 0, "TWO DAEMONS"),
        ("list 10.0.0.1", 0, "大区2   10.0.0.1  slow1"),
        ("list 大区1 10.0.0.2", 0, "mute1"),
        ("list 10.0.0.3", 0, "no processes are configured there"),
        ("list 102", 0, "./t --port 1"),
        ("list 100", 0, "2 machines have a process with pid 100"),
        ("list 大区1.10.0.0.1.game1", 0, "64M"),
        ("start 10.0.0.1 game1", 0, "already"),
        ("plan stop 大区1 all", 0, "would stop it"),
        ("plan kill 10.0.0.1 102", 0, "大区1.10.0.0.1.gate1  102  would kill it"),
        ("audit 1", 0, "stop all"),
        ("help start", 0, "start REGION all"),
        ("who", 5, "ada"),  # one daemon did not answer
        ("start 10.0.0.2 game1,bad1", 1, "start: 1 already, 1 failed"),
        ("start 10.0.0.2 mute1", 5, "1 unknown"),
        ("start 10.0.0.2 forbidden1", 4, "1 refused"),
    ],
)
def test_results_go_to_stdout(quiet_daemon, command, code, told):
    done = admin(quiet_daemon.address, command)
    assert told in done.stdout
    assert done.returncode == code, done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("strat", 2, 'did you mean "start"'),
        ("list 大区9", 2, 'no region "大区9" (did you mean'),
        ("list 10.0.0.9", 2, 'no machine "10.0.0.9"'),
        ("list 10.0.0.1 gamee1", 2, 'no process "gamee1" (did you mean "game1"?)'),
        ("list 大区2 10.0.0.2", 2, "not together"),
        ("kill 10.0.0.1 1", 2, "pid 1 is the first process of the machine"),
        ("help foo", 2, "there are list, start, stop"),
        (
            "audit 2000",
            1,
            "daemon 10.0.0.1: globaldb 10.0.0.9:6379: Connection refused; start, stop, kill and gm still work",
        ),
        ("plan kill 10.0.0.2 102", 1, "nothing is configured that matches"),
        ("list 4242", 1, "no process of the group has pid 4242"),
        ("start 10.0.0.9 all", 2, "nothing is configured that matches"),
        ("stop 10.0.0.* all", 2, "9 processes on 2 machines: more than one machine: add --yes"),
    ],
)
def test_errors_go_to_stderr_and_say_what_to_do(quiet_daemon, command, code, told):
    done = admin(quiet_daemon.address, command)
    assert done.returncode == code
    assert done.stderr.startswith("agent: ") and told in done.stderr
    assert done.stdout == ""


def test_a_process_of_an_unreachable_machine_is_told_from_memory_and_as_unknown(quiet_daemon):
    done = admin(quiet_daemon.address, "list 大区1.10.0.0.2.mute1")
    assert done.returncode == 5
    assert "RUNNING" in done.stdout and "no answer from 10.0.0.2; shown is what was last known" in done.stderr


def test_a_wide_command_without_yes_touches_nothing(daemon):
    before = admin(daemon.address, "list all").stdout.split("processes:")[1]
    assert admin(daemon.address, "stop all").returncode == 2
    assert admin(daemon.address, "list all").stdout.split("processes:")[1] == before


def test_yes_lets_a_wide_command_go_on(daemon):
    done = admin(daemon.address, "--yes", "stop 大区1 all")
    assert done.returncode == 1
    assert "stop: 4 ok, 1 failed, 1 refused, 1 unknown" in done.stdout
    assert "4 STOPPED" in admin(daemon.address, "list 大区1").stdout


def test_a_pattern_that_is_one_machine_needs_no_yes(daemon):
    assert admin(daemon.address, "stop 大区1 10.0.0.1* all").returncode == 0


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_what_went_wrong_is_on_stderr_too_for_a_script_that_throws_stdout_away(quiet_daemon, more):
    done = admin(quiet_daemon.address, *more, "start 10.0.0.2 game1,bad1,mute1,forbidden1")
    assert done.stderr.splitlines() == [
        "agent: start 大区1.10.0.0.2.bad1: failed: exited with code 3",
        "agent: start 大区1.10.0.0.2.forbidden1: refused: no right",
        "agent: start 大区1.10.0.0.2.mute1: unknown: no answer",
    ]
    assert admin(quiet_daemon.address, *more, "start 10.0.0.2 game1").stderr == ""


def test_in_one_file_it_stands_once(quiet_daemon, tmp_path):
    command = [sys.executable, "-m", "agent", "admin", quiet_daemon.address, "-c", "start 10.0.0.2 bad1"]
    with open(tmp_path / "log", "w+") as log:
        subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=30
        )
        log.seek(0)
        assert log.read().count("exited with code 3") == 1


def test_list_pid_tells_the_verdict_the_last_report_and_the_type_beside_what_its_daemon_says(quiet_daemon):
    done = admin(quiet_daemon.address, "list 104")
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["verdict", "SILENT"] in words and ["state", "RUNNING"] in words
    assert ["last", "exit", "signal", "TERM"] in words and ["kernel", "state", "T", "(stopped)"] in words
    assert any(line[:2] == ["last", "report"] for line in words)
    (process,) = json.loads(admin(quiet_daemon.address, "--json", "list 104").stdout)["processes"]
    assert (process["verdict"], process["type"], process["exit"]) == ("SILENT", "gameserver", "signal TERM")


def test_a_user_without_the_right_ends_with_4(quiet_daemon):
    done = admin(quiet_daemon.address, "stop 10.0.0.1 all", AGENT_USER="bob")
    assert (done.returncode, done.stdout) == (4, "")
    assert "may not stop" in done.stderr


def test_several_commands_run_until_one_fails(daemon):
    done = admin(daemon.address, "stop 10.0.0.1 game1", "start 10.0.0.2 bad1", "stop 10.0.0.1 game2")
    assert done.returncode == 1
    assert "stop: 1 ok" in done.stdout and "start: 1 failed" in done.stdout and "game2" not in done.stdout


def test_a_typing_error_in_the_last_command_is_found_before_the_first_runs(daemon):
    done = admin(daemon.address, "stop 10.0.0.1 game1", "strat 10.0.0.1 game1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "STOPPED" not in admin(daemon.address, "list 10.0.0.1 game1").stdout


def test_commands_come_from_a_pipe_too(quiet_daemon):
    done = admin(quiet_daemon.address, stdin="# morning\nlist world\n\nlist 10.0.0.9\nwho\n")
    assert done.returncode == 2 and "大区1" in done.stdout and "DAEMON" not in done.stdout


def test_json_is_one_document_per_command(quiet_daemon):
    done = admin(
        quiet_daemon.address,
        "--json",
        "list world",
        "list 10.0.0.1 game1",
        "start 10.0.0.2 game1,mute1",
        "who",
    )
    world, processes, outcomes = map(json.loads, done.stdout.splitlines())
    assert world["command"] == "list world" and world["exit_code"] == 0
    assert world["total"]["processes"] == 9 and world["regions"][0]["region"] == "大区1"
    assert [process["key"] for process in processes["processes"]] == ["大区1.10.0.0.1.game1"]
    assert processes["processes"][0]["info"]["players"] == 7 and processes["processes"][0]["type"] == "t"
    assert outcomes["summary"] == {"ok": 0, "already": 1, "failed": 0, "refused": 0, "unknown": 1}
    assert outcomes["exit_code"] == done.returncode == 5


def test_an_error_is_a_document_too(quiet_daemon):
    done = admin(quiet_daemon.address, "--json", "list 10.0.0.9")
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode == 2 and 'no machine "10.0.0.9"' in document["error"]
    assert done.stderr.startswith("agent: no machine")


@pytest.mark.parametrize(
    ("commands", "env", "command", "code"),
    [
        (["list world", "strat x"], {}, "strat x", 2),
        (["start"], {}, "start", 2),
        (["list world", "who"], {"AGENT_PASSWORD": "wrong"}, "list world", 3),
    ],
)
def test_what_ends_before_the_first_command_runs_is_one_document(quiet_daemon, commands, env, command, code):
    done = admin(quiet_daemon.address, "--json", *commands, **env)
    document = json.loads(done.stdout)
    assert (document["command"], document["exit_code"], done.returncode) == (command, code, code)
    assert document["error"].partition("\n")[0] in done.stderr


def test_a_word_of_a_list_that_names_nothing_is_told_beside_the_others(quiet_daemon):
    done = admin(quiet_daemon.address, "list 10.0.0.1 game1,gmae2")
    assert done.returncode == 2 and "RUNNING" in done.stdout
    assert 'no process "gmae2" (did you mean "game2"?)' in done.stderr


def test_a_question_mark_is_help(quiet_daemon):
    assert "restart" in admin(quiet_daemon.address, "?").stdout


def test_who_may_list_nothing_is_not_told_that_the_world_is_empty(quiet_daemon):
    done = admin(quiet_daemon.address, "list world", AGENT_USER="eve")
    assert "nothing that you may list" in done.stdout and "import" not in done.stdout
    done = admin(quiet_daemon.address, "list 大区1", AGENT_USER="eve")
    assert 'no region "大区1" that you may list' in done.stderr


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"AGENT_PASSWORD": "wrong"}, "login refused"),
        ({"AGENT_PASSWORD": ""}, "AGENT_PASSWORD is empty"),
        ({"AGENT_PASSWORD": "se\x0ccret words"}, "has a control character"),
    ],
)
def test_a_login_that_fails_says_so(quiet_daemon, env, told):
    done = admin(quiet_daemon.address, "list world", **env)
    assert done.returncode == (3 if env["AGENT_PASSWORD"] == "wrong" else 2)
    assert told in done.stderr and done.stdout == ""


def test_the_password_comes_from_a_private_file_only(quiet_daemon, tmp_path):
    file = tmp_path / "password"
    file.write_text("secret words\n")
    file.chmod(0o644)
    refused = admin(quiet_daemon.address, f"--password-file={file}", "list world", AGENT_PASSWORD="")
    assert refused.returncode == 2 and f"chmod 600 {file}" in refused.stderr
    file.chmod(0o600)
    assert (
        admin(quiet_daemon.address, f"--password-file={file}", "list world", AGENT_PASSWORD="").returncode
        == 0
    )


def test_nobody_there_ends_with_3_and_names_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        done = admin(address, "list world")
    assert done.returncode == 3 and address in done.stderr


def test_help_needs_no_daemon():
    done = admin("127.0.0.1:1", "help", AGENT_PASSWORD="")
    assert done.returncode == 0 and "kill [REGION] IP PID" in done.stdout


def test_time_that_runs_out_is_unknown_and_says_how_to_go_on(quiet_daemon):
    done = admin(quiet_daemon.address, "--timeout=0.5", "--yes", "restart 10.0.0.1 slow1")
    assert done.returncode == 5
    assert "no reply" in done.stderr and "`audit` shows its end" in done.stderr


def begin(address: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "agent", "admin", address, *words]
    return subprocess.Popen(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def wait_until_asked(daemon, process: subprocess.Popen) -> None:
    """slow1 takes seconds, and what is before it is done by then."""
    until(
        lambda: (
            process.poll() is not None or "999" in admin(daemon.address, "list 大区2 10.0.0.1 chat1").stdout
        )
    )
    assert process.poll() is None


def test_a_daemon_that_dies_meanwhile_is_unknown_and_what_came_before_is_told(daemon):
    process = begin(daemon.address, "-c", "start 大区2 10.0.0.1 chat1,slow1")
    wait_until_asked(daemon, process)
    daemon.kill()
    out, err = process.communicate(timeout=20)
    assert process.returncode == 5, err
    assert "大区2.10.0.0.1.chat1" in out and "start: 1 ok" in out
    assert "lost" in err and "`audit` shows its end" in err


def test_ctrl_c_ends_the_wait_and_says_that_the_command_goes_on(daemon):
    process = begin(daemon.address, "-c", "start 大区2 10.0.0.1 chat1,slow1")
    wait_until_asked(daemon, process)
    os.kill(process.pid, signal.SIGINT)
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "the command goes on" in err and "Traceback" not in err


def test_watch_prints_changes_as_lines_and_comes_back_with_the_daemon(daemon):
    process = begin(daemon.address, "-c", "watch 10.0.0.1")
    assert "watching 5 processes" in process.stderr.readline()
    admin(daemon.address, "stop 10.0.0.1 game1")
    assert "大区1.10.0.0.1.game1: RUNNING -> STOPPED" in process.stdout.readline()
    daemon.kill()
    daemon.start()  # and game1 runs again, as the stand-in begins anew
    assert "大区1.10.0.0.1.game1: STOPPED -> RUNNING (pid 100)" in process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    _out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err


def test_watch_says_that_no_news_comes_and_that_it_comes_again(daemon):
    process = begin(daemon.address, "-c", "watch 10.0.0.1")
    assert "watching 5 processes" in process.stderr.readline()
    admin(daemon.address, "start 10.0.0.2 mute1")  # the stand-in's globaldb is away from then on
    assert process.stderr.readline() == "agent: no news: globaldb is away\n"
    admin(daemon.address, "start 10.0.0.1 game2")  # and here again
    assert process.stderr.readline() == "agent: there is news again\n"
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_a_password_that_was_changed_is_not_tried_for_ever(daemon):
    process = begin(daemon.address, "-c", "watch 10.0.0.1")
    assert "watching 5 processes" in process.stderr.readline()
    daemon.kill()
    daemon.start(password="other words")
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "reconnecting" in err and "login refused" in err


def test_a_script_imports_neither_the_shell_nor_redis():
    heavy = "('prompt_toolkit', 'redis', 'asyncio', 'psutil')"
    code = f"import sys, roles.admin.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
