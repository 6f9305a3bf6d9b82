"""What applications and admins may write: it forges no line, steers no terminal, hides no command, stops no daemon."""

import json
from collections.abc import Iterator

import gevent
import pytest

from agent import messages
from agent.errors import AgentError
from tests.scenarios.attacker import cpu_s
from tests.scenarios.group import Group, program, running
from tests.waiting import until

IP = "127.0.0.2"
KEY = f"大区1.{IP}.game"
EVIL = "\x1b[2J\x1b]0;owned\x07\r\n2026-01-01 forged line\u202e"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    world = {
        "programs": {"game": program("steady", report="self")},
        "world": {"大区1": {IP: [{"type": "game", "name": "game", "note": EVIL}]}},
    }
    with running(tmp_path_factory.mktemp("group"), [IP], world) as group:
        group.add_user("vic", "list on *")
        yield group
        assert "Traceback" not in group.daemon(IP).text()


def clean(text: str) -> bool:
    forged = any(line.startswith("2026-01-01 forged") for line in text.splitlines())
    return not forged and not any(c in text for c in "\x1b\x07\u202e")


def overwrite(group: Group, **fields: str) -> None:
    with group.globaldb.client() as client:
        client.hset(f"process:{KEY}", mapping=fields)


@pytest.mark.parametrize("command", ["list world", "list machine", f"list {IP}", "audit", "who"])
def test_what_an_application_wrote_does_not_steer_the_operators_terminal(group, command):
    overwrite(
        group, info=json.dumps({"players": EVIL, EVIL: 1}), exit=EVIL, state="RUNNING", usage=EVIL, since=EVIL
    )
    done = group.admin_command(IP, command)
    assert done.returncode == 0, done.stderr
    assert clean(done.stdout) and clean(done.stderr)
    shown = json.loads(group.admin_command(IP, command, more=["--json"]).stdout)
    assert shown["exit_code"] == 0


def test_a_record_that_json_cannot_carry_leaves_the_picture_and_the_daemon_alive(group):
    watcher = group.admin(IP)
    watcher.call(messages.WatchPicture(follow=True))
    for odd in ("inf", "nan", "1e999", "9" * 5000):
        overwrite(
            group, lastupdate=odd, since=odd, startcount=odd, pid=odd, info='{"a": "\\ud800", "b": Infinity}'
        )
        assert KEY in group.admin(IP).picture()
    overwrite(group, info='{"a":' * 1000 + "1" + "}" * 1000, usage='{"x": ' + "9" * 400 + "}", lastupdate="1")
    with group.globaldb.client() as client:
        client.hset(f"machine:{IP}", "info", '{"skew_s": ' + "9" * 400 + "}")
    gevent.sleep(2.5)  # one tick of the picture's timer
    assert KEY in group.admin(IP).picture()
    assert group.daemon(IP).child.poll() is None and not watcher.link.closed_why


@pytest.mark.parametrize("word", [EVIL, "\ud800", "x" * 1_000_000, "*" * 5000, "[", "a,,b", "", "\x00"])
def test_no_pattern_hides_a_command_from_the_audit_or_stops_it(group, word):
    """Half a surrogate pair once kept every later line of the daemon's audit from being written."""
    vic = group.admin(IP, "vic")
    with pytest.raises(AgentError):
        vic.call(messages.OperateGroup("stop", "*", word, word or "*", wide=True))
    ada = group.admin(IP)
    ada.operate("start", IP)
    ada.operate("stop", IP)

    def both() -> bool:
        lines = group.audit()
        mine = [at for at, line in enumerate(lines) if line["user"] == "vic"]
        return bool(mine) and any(line["user"] == "ada" for line in lines[mine[-1] :])

    until(both, 10, "a line for vic and one behind it")
    assert clean(group.daemon(IP).text())
    assert max(map(len, group.daemon(IP).text().splitlines())) < 5000
    assert clean(group.admin_command(IP, "audit").stdout)


def test_a_version_and_a_farewell_forge_no_line(group):
    admin = group.admin(IP)
    admin.link.notify(messages.Goodbye(EVIL, "x"))
    admin.close()
    until(lambda: "forged" in group.daemon(IP).text())
    assert clean(group.daemon(IP).text())


def test_a_plan_of_kill_kills_nothing(group):
    pid = group.admin(IP).operate("start", IP)[KEY].pid
    until(lambda: group.record(KEY).get("pid") == str(pid))
    planned = group.admin_command(IP, f"plan kill {IP} {pid}")
    assert planned.returncode == 0 and "would kill it" in planned.stdout
    assert group.pids(KEY) == [pid]


def test_globaldb_away_and_commands_meanwhile_cost_no_processor(group):
    admin, role = group.admin(IP), group.daemon(IP)
    admin.operate("start", IP)
    group.globaldb.stop()
    try:
        for _ in range(3):
            admin.operate("start", IP)
        used, lines = cpu_s(role.pid), role.text().count("\n")
        gevent.sleep(3)
        assert cpu_s(role.pid) - used < 1.0
        assert role.text().count("\n") - lines < 30
    finally:
        group.globaldb.start()
    until(
        lambda: sum(line["user"] == "ada" and line["what"].startswith("start") for line in group.audit()) >= 4
    )
