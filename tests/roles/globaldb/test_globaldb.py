"""`agent globaldb` as its users meet it: what it keeps, whom it lets in, what it says when it can not."""

import os
import signal
import socket
import stat
import subprocess
import sys

import psutil
import pytest
import redis

from agent.errors import AgentError, ConfigError, UsageError
from roles.globaldb import folder, place, server
from tests.waiting import until

WRITES = 2000


def test_kill_9_and_a_restart_lose_nothing_acknowledged(globaldb):
    first = globaldb().serving()
    client = first.client()
    acknowledged = 0
    killer = None
    try:
        for number in range(100 * WRITES):
            client.hset("process:大区1.10.0.0.1.game", str(number), "x" * 100)
            client.incr("count")
            acknowledged = number + 1
            if acknowledged == WRITES:
                # from outside, while the next writes are under way
                killer = subprocess.Popen(["sh", "-c", f"kill -9 {first.process.pid}"])
    except redis.ConnectionError:
        pass
    killer.wait()
    assert first.process.wait(10) == -signal.SIGKILL
    assert acknowledged >= WRITES

    again = globaldb().serving().client()
    assert int(again.get("count")) >= acknowledged
    kept = again.hkeys("process:大区1.10.0.0.1.game")
    assert {str(number) for number in range(acknowledged)} <= set(kept)


def test_every_acknowledged_write_is_fsynced_not_only_written(globaldb):
    client = globaldb().serving().client()
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    assert client.config_get("save") == {"save": ""}


def test_it_is_one_process_and_sigkill_leaves_none(globaldb):
    running = globaldb().serving()
    program = psutil.Process(running.process.pid)
    until(lambda: not program.children(recursive=True), 5)
    assert "valkey-server-" in program.exe()
    running.process.kill()
    running.process.wait()
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if program.exe() in (p.info["cmdline"] or [])]
    assert left == []


def test_sigterm_stops_it_in_order(globaldb):
    running = globaldb().serving()
    running.client().set("kept", "yes")
    running.process.terminate()
    assert running.process.wait(10) == 0
    assert globaldb().serving().client().get("kept") == "yes"


def test_loopback_asks_for_no_password(globaldb):
    assert globaldb().serving().client().ping()


def test_elsewhere_a_password_is_made_and_asked_for(globaldb, tmp_path):
    running = globaldb("--listen", "0.0.0.0:0").serving()
    path = tmp_path / "data/password"
    assert str(path) in running.log
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(redis.AuthenticationError):
        running.client().ping()
    with pytest.raises(redis.AuthenticationError):
        running.client("wrong").ping()
    word = path.read_text().strip()
    assert word not in running.log
    assert running.client(word).ping()


def test_a_password_file_counts_on_loopback_too_and_may_hold_anything_but_spaces(globaldb, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    word = "a\"b\\c#口令'$%"
    (data / "password").write_text(word + "\n")
    (data / "password").chmod(0o600)
    running = globaldb().serving()
    with pytest.raises(redis.AuthenticationError):
        running.client().ping()
    assert running.client(word).ping()


def test_a_password_file_that_others_can_read_is_refused(globaldb, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "password").write_text("word\n")
    (data / "password").chmod(0o644)
    assert "chmod 600" in globaldb().refused()


def test_a_port_in_use_is_named_with_its_holder(globaldb):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = globaldb("--listen", f"127.0.0.1:{port}").refused()
    assert f"127.0.0.1:{port} is in use by" in said
    assert f"(pid {os.getpid()})" in said
    assert "Traceback" not in said


def test_a_second_one_on_the_same_folder_is_refused_and_the_first_lives(globaldb):
    first = globaldb().serving()
    said = globaldb().refused()
    assert f"in use by another globaldb (pid {first.process.pid})" in said
    assert first.client().ping()


def test_the_folder_is_free_again_after_kill_9(globaldb):
    first = globaldb().serving()
    first.process.kill()
    first.process.wait()
    assert globaldb().serving().client().ping()


def test_a_damaged_or_older_copy_of_the_server_is_replaced(globaldb, tmp_path):
    first = globaldb().serving()
    first.end()
    copy = next((tmp_path / "data").glob("valkey-server-*"))
    copy.write_bytes(copy.read_bytes()[:1000])
    older = copy.with_name("valkey-server-0123456789abcdef")
    older.write_text("old")
    assert globaldb().serving().client().ping()
    assert not older.exists()


def test_a_tail_cut_off_by_a_crash_does_not_prevent_the_start(globaldb, tmp_path):
    first = globaldb().serving()
    first.client().set("kept", "yes")
    first.end()
    log = next((tmp_path / "data/aof").glob("*.incr.aof"))
    with log.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\nhal")
    again = globaldb().serving().client()
    assert again.get("kept") == "yes"
    assert again.get("a") is None


def test_dir_and_listen_come_from_the_environment_too(globaldb, tmp_path):
    command = [sys.executable, "-m", "agent", "globaldb"]
    environ = {**os.environ, "AGENT_DIR": str(tmp_path / "other"), "AGENT_LISTEN": "no.such.host.invalid"}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert said.returncode == 2
    assert "no.such.host.invalid" in said.stderr


def test_without_a_folder_it_says_what_is_missing():
    command = [sys.executable, "-m", "agent", "globaldb"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert said.returncode == 2
    assert "--dir DIR" in said.stderr


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match="cannot make the data folder"):
        folder.prepare(tmp_path / "file/data")


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(AgentError, match=r"no address 192\.0\.2\.1"):
        place.usable(place.Address("192.0.2.1", 6379))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.1.1"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(UsageError, match="no such host"):
        place.usable(place.Address(host, 0))


@pytest.mark.parametrize("text", ["", " \n", "two words\n"])
def test_a_password_file_without_a_password_is_refused(tmp_path, text):
    (tmp_path / "password").write_text(text)
    (tmp_path / "password").chmod(0o600)
    with pytest.raises(ConfigError, match="one word"):
        folder.password(tmp_path, required=False)


def test_no_bundled_server_for_this_machine_is_said_with_the_way_out(monkeypatch):
    monkeypatch.setattr(server.platform, "machine", lambda: "riscv64")
    with pytest.raises(AgentError, match=r"riscv64.*--globaldb"):
        server.bundled()
