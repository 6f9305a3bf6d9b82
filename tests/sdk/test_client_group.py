"""The Python client in a real group: as a web back end would use it (a process of its own, real threads), and alone."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
import pytest

from sdk.python import agentsdk
from tests.scenarios.games import FIRST, SECOND, game, key, playing
from tests.scenarios.group import PASSWORD, USER, Group
from tests.sdk.daemon_stand_in import Between
from tests.sdk.servers import SDK
from tests.waiting import until

WAIT_S = 30.0
GAMES = {key("game1"), key("game2"), key("game1", SECOND)}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    staying = game(env={"GAME_STAY": "1"})  # a drain goes on until it is cancelled
    places = {FIRST: ["game1", "game2"], SECOND: ["game1", "chat1"]}
    with playing(tmp_path_factory.mktemp("group"), {"game": staying, "chat": staying}, places) as group:
        yield group


class Web:
    """The back end, and how a browser asks it."""

    def __init__(self, group: Group, log: Path) -> None:
        addresses = [str(group.daemon_address[ip]) for ip in (FIRST, SECOND)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
        with open(log, "wb") as file:
            self._child = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("web_back_end.py")), USER, *addresses],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, env=clean, text=True,
            )  # fmt: skip
        assert self._child.stdin and self._child.stdout
        self._child.stdin.write(PASSWORD + "\n")
        self._child.stdin.close()
        self.port = int(self._child.stdout.readline())

    def close(self) -> None:
        self._child.kill()
        self._child.wait()

    def open(self, method: str, path: str, given: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request(method, quote(path, safe="/?&=*"), json.dumps(given) if given else None)
        return connection.getresponse()

    def get(self, path: str) -> Any:
        response = self.open("GET", path)
        document = json.load(response)
        assert response.status == 200, document
        return document

    def post(self, path: str, status: int = 200, **given: Any) -> Any:
        response = self.open("POST", path, given)
        document = json.load(response)
        assert response.status == status, document
        return document

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Server-sent events; TimeoutError when there is no line for WAIT_S."""
        with self.open("GET", path) as response:
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


@pytest.fixture(scope="module")
def web(group: Group) -> Iterator[Web]:
    web = Web(group, group.folder / "web.log")
    yield web
    web.close()


def connect(group: Group, user: str = USER, password: str = PASSWORD) -> agentsdk.Group:
    return agentsdk.connect(str(group.daemon_address[FIRST]), user=user, password=password, timeout_s=WAIT_S)


def test_what_there_is(web: Web) -> None:
    found = {process["key"]: process for process in web.get("/processes?target=大区1:*.game*")}
    assert found.keys() == GAMES
    one = found[key("game2")]
    assert (one["region"], one["ip"], one["name"], one["type"]) == ("大区1", FIRST, "game2", "game")
    assert (one["verdict"], one["wanted"], one["startcount"]) == ("RUNNING", "up", 1) and one["pid"] > 1
    assert one["info"]["map"] == "plains" and one["age_s"] < WAIT_S
    assert web.get("/processes?target=nobody") == []
    assert {(machine["ip"], machine["online"]) for machine in web.get("/machines")} == {
        (FIRST, True),
        (SECOND, True),
    }
    assert "kick" in web.get("/catalogue?target=chat1")["offers"][key("chat1", SECOND)]


def test_a_gm_command_has_one_verdict_for_each_target_and_arguments_keep_their_types(web: Web) -> None:
    told = web.post("/gm/game/status")
    assert told["good"] and {answer["target"] for answer in told["answers"]} == GAMES
    given = {"player": 2**62, "item": '剑 "长"', "rate": 0.25, "silent": True, "extra": {"a": [1, None]}}
    (answer,) = web.post("/gm/chat1/give", **given)["answers"]
    assert answer["answer"] == {**given, "count": 1}
    (answer,) = web.post("/gm/chat1/kick", player=1)["answers"]
    assert (answer["verdict"], answer["text"], answer["good"]) == ("refused", "no player 1", False)
    (answer,) = web.post("/gm/chat1/kick", player="1001")["answers"]
    assert answer["verdict"] == "invalid"
    assert web.post("/gm/nobody/status", 422)["code"] == "unknown_target"


def test_a_wide_and_a_red_one_are_asked_about_first(web: Web) -> None:
    told = web.post("/gm/game/broadcast", 409, text="hello")
    assert told["question"] == "broadcast: 3 processes on 2 machines"
    assert len(web.post("/gm/game/broadcast?confirm=yes", text="hello")["answers"]) == 3
    assert "unlock is red" in web.post("/gm/chat1/unlock", 409, password="open sesame")["question"]
    assert web.post("/gm/chat1/unlock?confirm=yes", password="open sesame")["good"]
    assert "3 processes on 2 machines" in web.post("/restart/game*", 409)["question"]
    assert web.post("/stop/chat1", 409, force=True)["error"] == "NotConfirmed"
    assert len(web.post("/gm/game/status?any=yes")["answers"]) == 1


def test_an_id_is_never_run_twice_and_can_be_asked_about(web: Web) -> None:
    before = executed(web)
    first = web.post("/gm/chat1/broadcast?id=web-1", text="once")
    assert web.post("/gm/chat1/broadcast?id=web-1", text="once") == first
    assert web.post("/again/web-1/chat1/broadcast", text="once") == first
    told = web.post("/again/never-sent/chat1/broadcast", text="once")
    assert told["in_doubt"] and not told["good"]
    assert executed(web) == before + 1


def test_many_at_once_over_one_connection(web: Web) -> None:
    paths = ["/processes?target=game1", "/processes?target=game2", "/processes?target=chat1"] * 5
    pictures = [gevent.spawn(web.get, path) for path in paths]
    calls = [gevent.spawn(web.post, "/gm/game/status") for _ in range(10)]
    gevent.joinall([*pictures, *calls], timeout=WAIT_S, raise_error=True)
    for path, picture in zip(paths, pictures, strict=True):
        assert {process["name"] for process in picture.value} == {path.rpartition("=")[2]}
    assert all(len(call.value["answers"]) == 3 for call in calls)


def test_a_browser_sees_what_happens(web: Web) -> None:
    stream = web.events("/events?target=chat1&events=yes&initial=yes")
    first = next(stream)
    assert (first["key"], first["new"]) == (key("chat1", SECOND), "RUNNING") and "old" not in first
    web.post("/gm/chat1/kick", player=1002)
    happened = next(stream)
    assert happened["event"]["name"] == "player_left" and happened["event"]["data"] == {"player": 1002}
    pid = first["process"]["pid"]
    (outcome,) = web.post("/restart/chat1")
    assert outcome["good"] and outcome["pid"] != pid
    until(lambda: (one := next(stream)).get("process", {}).get("pid", pid) == outcome["pid"] and one, WAIT_S)
    assert [one["name"] for one in web.get("/kept?target=chat1")][:2] == ["server_started", "player_left"]


def test_a_drain_is_a_task_that_can_be_cancelled(web: Web, group: Group) -> None:
    (outcome,) = web.post(f"/drain/{SECOND}.game1", deadline_s=600, notice="maintenance")
    assert outcome["result"] == "ok", outcome
    (task,) = until(lambda: [one for one in web.get("/tasks") if one["kind"] == "drain"], WAIT_S)
    assert (task["key"], task["notice"], task["user"]) == (key("game1", SECOND), "maintenance", USER)
    web.post(f"/cancel/{SECOND}.game1")
    until(lambda: web.get("/tasks")[-1]["phase"] == "cancelled", WAIT_S)
    with connect(group) as alone:
        assert alone.restart("game2", when_empty=True, deadline_s=600)[0].good
        assert alone.tasks()[-1].active and alone.tasks()[-1].kind == "restart"
        assert alone.cancel("game2")[0].good


def test_an_application_that_does_not_answer_in_time_is_in_doubt(web: Web) -> None:
    (answer,) = web.post("/gm/chat1/slow?timeout_s=3", seconds=30.0)["answers"]
    assert answer["verdict"] == "timed_out" and not answer["good"]


def test_rights_are_those_of_the_user(group: Group) -> None:
    group.add_user("viewer", "list on 大区1:*.game1")
    with connect(group, "viewer") as viewer:
        assert {process.key for process in viewer.processes()} == {key("game1"), key("game1", SECOND)}
        for forbidden in (
            lambda: viewer.start("game1", confirm=True),
            lambda: viewer.gm("game1", "status"),
            lambda: viewer.changes(events=True),
        ):
            with pytest.raises(agentsdk.Forbidden, match="viewer may not"):
                forbidden()
        with viewer.changes("*", initial=True) as changes:
            seen = {change.key for change in (changes.get(WAIT_S), changes.get(WAIT_S)) if change}
        assert seen == {key("game1"), key("game1", SECOND)}


def test_a_wrong_password_and_an_unknown_user_look_alike(group: Group) -> None:
    said = []
    for user, password in ((USER, "wrong"), ("nobody", PASSWORD)):
        with pytest.raises(agentsdk.LoginRefused) as refused:
            connect(group, user, password)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_password_beyond_ascii(group: Group) -> None:
    group.add_user("李", "list on *", password="大区密码 Wört")
    with connect(group, "李", "大区密码\u00a0Wo\u0308rt") as alone:
        assert len(alone.processes()) == 4


def test_somebody_in_between_is_refused(group: Group, tmp_path: Path) -> None:
    address = str(group.daemon_address[FIRST])
    with Between(tmp_path, address) as between, pytest.raises(agentsdk.LoginRefused, match="in between"):
        agentsdk.connect(between.address, user=USER, password=PASSWORD)


FORKS = """
import os, sys, agentsdk
with agentsdk.connect(sys.argv[1], user=sys.argv[2], password=sys.argv[3]) as group:
    group.processes()
    if not os.fork():
        print("child", len(group.processes()), flush=True)
        os._exit(0)
    os.wait()
    print("parent", len(group.processes()))
    print("gevent" in sys.modules)
"""


def test_a_child_of_a_fork_makes_a_link_of_its_own(group: Group) -> None:
    words = [sys.executable, "-c", FORKS, str(group.daemon_address[FIRST]), USER, PASSWORD]
    environ = {"PYTHONPATH": str(SDK / "python")}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.split() == ["child", "4", "parent", "4", "False"], done


def test_the_daemon_is_killed_during_a_call_and_the_back_end_goes_on_with_another(
    web: Web, group: Group
) -> None:
    stream = web.events("/events?target=*&initial=yes")
    assert {next(stream)["key"] for _ in range(4)} == {*GAMES, key("chat1", SECOND)}
    before = executed(web)
    call = gevent.spawn(web.post, "/gm/chat1/slow?id=lost-1", 504, seconds=4.0)
    until(lambda: executed(web) > before, WAIT_S)
    group.daemon(FIRST).kill()
    lost = call.get(timeout=WAIT_S)
    assert (lost["error"], lost["id"], lost["came"]) == ("LinkLost", "lost-1", [])

    told = web.post("/again/lost-1/chat1/slow", seconds=4.0)
    assert told["answers"][0]["answer"] == {"slept": 4.0}
    until(lambda: next(stream)["kind"] == "reconnected", WAIT_S)
    assert [outcome["result"] for outcome in web.post("/restart/chat1")] == ["ok"]
    seen = until(
        lambda: (one := next(stream))["kind"] == "process" and one["key"] == key("chat1", SECOND) and one,
        WAIT_S,
    )
    assert seen["old"] == "RUNNING"
    group.start_daemon(FIRST)


def executed(web: Web) -> int:
    """How many commands chat1 has run."""
    (answer,) = web.post("/gm/chat1/status")["answers"]
    return int(answer["answer"]["executed"])
