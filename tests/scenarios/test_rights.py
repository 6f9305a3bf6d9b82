"""Who may do what: asked at the daemon that is commanded, asked again at the daemon that executes, and always now."""

from collections.abc import Iterator

import gevent
import pytest

from agent import dialer, messages
from agent.dispatch import SHARED, Table
from agent.errors import ConnectFailed, LoginRefused, Refused
from agent.handshake import Identity
from agent.key import read_machine_key
from agent.link import Link
from agent.outcome import Outcome
from tests.scenarios.group import Admin, Group, alive, program, running
from tests.waiting import until

ONE, TWO = "127.0.0.2", "127.0.0.3"
FIRST, SECOND = f"大区1.{ONE}.game", f"大区1.{TWO}.game"
OTHER_REGION = f"大区2.{ONE}.game"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    game = [{"type": "game", "name": "game"}]
    world = {
        "programs": {"game": program("steady", heartbeat_s=0.5)},
        "world": {"大区1": {ONE: game, TWO: game}, "大区2": {ONE: game}},
    }
    with running(tmp_path_factory.mktemp("group"), [ONE, TWO], world) as group:
        group.add_user("viewer", "list on *")
        group.add_user("regional", "list,start,stop on 大区1:*")
        group.add_user("local", f"list,start,stop,kill on *:{TWO}")
        group.add_user("nobody")
        yield group


def operate(admin: Admin, verb: str, machine: str, **more) -> dict[str, str]:
    """Result per target, or "forbidden" for all of it."""
    try:
        return {key: outcome.result for key, outcome in admin.operate(verb, machine, **more).items()}
    except Refused as refused:
        return {"": refused.code}


def last_audit(group: Group, user: str, count: int = 1) -> dict:
    return until(lambda: _audited(group, user)[count - 1 :])[-1]


def _audited(group: Group, user: str) -> list[dict]:
    return [line for line in group.audit() if line.get("user") == user]


def test_a_viewer_sees_and_touches_nothing(group: Group) -> None:
    pid = group.admin(ONE).operate("start", ONE, region="大区1")[FIRST].pid

    listed = group.admin_command(ONE, f"list {ONE}", user="viewer")
    stopped = group.admin_command(ONE, f"stop {ONE} all", user="viewer")
    killed = group.admin_command(ONE, f"kill {ONE} {pid}", user="viewer")

    assert listed.returncode == 0 and "game" in listed.stdout
    assert stopped.returncode == 4, stopped
    assert "user viewer may not stop" in stopped.stdout + stopped.stderr
    assert killed.returncode == 4, killed
    assert alive(pid)
    refused = last_audit(group, "viewer", 2)
    assert [line["what"] for line in _audited(group, "viewer")] == [f"stop {ONE}", f"kill {ONE} {pid}"]
    assert "refused" in _audited(group, "viewer")[0]["verdict"]
    assert "refused" in refused["verdict"], refused
    assert refused["daemon"] == ONE and refused["from"].startswith("127.0.0.1:")


def test_who_has_no_grant_sees_nothing_either(group: Group) -> None:
    admin = group.admin(ONE, "nobody")

    assert admin.picture() == {}
    assert operate(admin, "start", ONE) == {"": "forbidden"}
    with pytest.raises(Refused, match="may not who"):
        admin.call(messages.ReadSessions())
    with pytest.raises(Refused, match="may not audit"):
        admin.call(messages.ReadAudit())
    with pytest.raises(Refused, match="may not list"):
        admin.call(messages.DescribeProcess(FIRST))


def test_a_grant_for_one_region_is_for_that_region(group: Group) -> None:
    admin = group.admin(ONE, "regional")

    done = operate(admin, "start", "*")
    assert done.keys() == {FIRST, SECOND} and set(done.values()) <= {"ok", "already"}
    # not to be seen, so not there
    assert operate(admin, "start", ONE, region="大区2") == {"": "unknown_target"}
    assert admin.picture().keys() == {FIRST, SECOND}
    mixed = group.admin_command(ONE, f"stop {ONE} all", user="regional")
    assert mixed.returncode == 0 and "1 ok" in mixed.stdout and "大区2" not in mixed.stdout, mixed
    assert not group.pids(OTHER_REGION)


def test_a_grant_for_one_machine_is_for_that_machine(group: Group) -> None:
    admin = group.admin(ONE, "local")
    ada = group.admin(ONE)
    pids = {key: outcome.pid for key, outcome in ada.operate("start", "*").items()}

    assert operate(admin, "stop", ONE) == {"": "unknown_target"}
    assert operate(admin, "kill", ONE, pid=pids[FIRST]) in ({FIRST: "refused"}, {"": "forbidden"})
    assert alive(pids[FIRST])
    assert admin.picture().keys() == {SECOND}
    assert operate(admin, "kill", TWO, pid=pids[SECOND]) == {SECOND: "ok"}
    assert not alive(pids[SECOND])


def test_a_right_that_is_taken_away_is_gone_at_once_in_sessions_that_are_open(group: Group) -> None:
    group.add_user("dismissed", "list,start,stop on *")
    admin, elsewhere = group.admin(ONE, "dismissed"), group.admin(TWO, "dismissed")
    assert operate(admin, "start", ONE, region="大区1")[FIRST] in ("ok", "already")
    (pid,) = group.pids(FIRST)

    group.run("user", "revoke", "dismissed", "list,start,stop on *")

    assert operate(admin, "stop", ONE) == {"": "forbidden"}
    assert operate(elsewhere, "stop", ONE) == {"": "forbidden"}
    assert admin.picture() == {}
    assert alive(pid)
    group.run("user", "grant", "dismissed", "stop on *")
    assert operate(elsewhere, "stop", ONE, region="大区1") == {FIRST: "ok"}


def test_a_user_who_is_removed_loses_his_session_and_cannot_come_back(group: Group) -> None:
    group.add_user("removed", "list,start,stop on *")
    watching, waiting = group.admin(ONE, "removed"), group.admin(ONE, "removed")
    watching.call(messages.WatchPicture(follow=True))
    group.admin(ONE).operate("start", ONE, region="大区1")

    group.run("user", "remove", "removed")

    until(lambda: watching.link.closed_why, 6, "the session of a removed user is closed")
    assert "removed" in watching.link.closed_why
    assert operate(waiting, "stop", ONE) in ({"": "forbidden"}, {"": "unreachable"})
    assert group.pids(FIRST)
    with pytest.raises(LoginRefused, match="wrong name or credentials"):
        group.admin(ONE, "removed")
    refused = group.admin_command(ONE, "list world", user="removed")
    assert refused.returncode == 3, refused


def test_a_wrong_password_is_no_login_and_says_no_more_than_a_wrong_name(group: Group) -> None:
    for user, password in (("ada", "not her password"), ("unheard", "not her password")):
        with pytest.raises(ConnectFailed) as said:
            group.admin(ONE, user, password)
        assert str(said.value).endswith("login refused: wrong name or credentials")


class Impostor:
    """A daemon that somebody has broken into: it has machine ONE's key, and says what it likes."""

    def __init__(self, group: Group) -> None:
        _ip, key = read_machine_key(group.folder / f"machine-{ONE}.key", "")
        sock, _router = dialer.connect(
            group.router_address, Identity("daemon", ONE, "test", 2**62), key, source_ip=ONE
        )
        self.link = Link(
            sock, local=ONE.encode(), role="router", name="", address="", table=Table(SHARED), state=None
        )
        gevent.spawn(self.link.run)

    def order(self, user: str, verb: str, *targets: str, pid: int = 0) -> list[Outcome]:
        asked = messages.OperateMachine(verb, list(targets), user, "from nowhere", pid)
        return [Outcome(*row) for row in self.link.call(asked, 10, TWO.encode()).outcomes]


def test_the_daemon_that_executes_asks_again_who_may(group: Group) -> None:
    """Though the daemon that passes an order on says that all is well."""
    group.add_user("former", "start,stop,kill on *")
    pid = group.admin(TWO).operate("start", TWO)[SECOND].pid
    group.run("user", "revoke", "former", "start,stop,kill on *")
    daemon = group.daemon(ONE)
    daemon.stop()
    impostor = Impostor(group)
    try:
        for verb in ("stop", "restart"):
            (outcome,) = impostor.order("former", verb, SECOND)
            assert outcome.result == "refused" and f"may not {verb}" in outcome.detail, outcome
        (outcome,) = impostor.order("former", "kill", pid=pid)
        assert outcome.result == "refused"
        with pytest.raises(Refused, match="has been removed"):
            impostor.order("never-was", "stop", SECOND)
        (outcome,) = impostor.order("ada", "stop", f"大区1.{TWO}.nothing")
        assert outcome.result == "failed"
        assert alive(pid)
        (outcome,) = impostor.order("ada", "stop", SECOND)  # and it is not deaf
        assert outcome.result == "ok" and not alive(pid)
    finally:
        impostor.link.close("over")
        group.start_daemon(ONE)


def test_an_order_that_is_for_another_machine_is_not_obeyed(group: Group) -> None:
    ada = group.admin(TWO)
    until(lambda: operate(ada, "start", ONE, region="大区1") in ({FIRST: "ok"}, {FIRST: "already"}))
    (pid,) = group.pids(FIRST)
    group.daemon(ONE).stop()
    impostor = Impostor(group)
    try:
        (outcome,) = impostor.order("ada", "stop", FIRST)  # machine TWO is told to stop what is on ONE
        assert outcome.result == "failed" and alive(pid)
    finally:
        impostor.link.close("over")
        group.start_daemon(ONE)


def test_every_command_is_in_the_audit_with_its_verdicts(group: Group) -> None:
    group.add_user("audited", "list,start,stop on *")
    group.admin(ONE).operate("stop", "*")
    admin = group.admin(ONE, "audited")
    admin.operate("start", "*", "game")
    with pytest.raises(Refused):
        admin.operate("start", ONE, "nothing")
    admin.operate("stop", TWO, "game")

    last_audit(group, "audited", 3)
    first, second, third = _audited(group, "audited")
    assert first["what"] == "start all game" and first["verdict"] == "3 ok"
    assert {target[0]: target[1] for target in first["targets"]} == dict.fromkeys(
        (FIRST, SECOND, OTHER_REGION), "ok"
    )
    assert second["what"] == f"start {ONE} nothing" and second["verdict"].startswith("not done: no process")
    assert third["what"] == f"stop {TWO} game" and third["verdict"] == "1 ok"
    told = group.admin_command(ONE, "audit 3")
    assert told.returncode == 0 and "start all game" in told.stdout
    assert group.admin_command(ONE, "audit 3", user="audited").returncode == 4
