"""examples/econ: teeworlds and DDNet as Debian has them, under a real daemon, with a player in them."""

import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from agent.document import read_document
from agent.errors import Refused
from agent.world import World
from tests.examples.player import Player
from tests.globaldb_servers import free_port
from tests.scenarios.games import FIRST, call, key, start
from tests.scenarios.group import ROOT, Admin, Group, alive, running
from tests.waiting import until

EXAMPLE = ROOT / "examples" / "econ"
BRIDGE = EXAMPLE / "econ_bridge.py"
PATIENCE_S = 30.0
MAPS = {"arena1": ("dm1", "ctf1"), "race1": ("Tutorial", "LearnToPlay")}
PASSWORDS = {"arena1": 'se"c\\ret\\', "race1": ""}
NASTY = (
    "plain; shutdown",
    'a"b; shutdown',
    'a\\"; shutdown',
    'a\\\\"; shutdown; "',
    'x" "; shutdown; #',
    "ends with \\",
    '"; shutdown; "',
    "# ; shutdown",
    "服务器维护; shutdown",
)

pytestmark = pytest.mark.timeout(150)


def bridge_module() -> Any:
    spec = spec_from_file_location("econ_bridge", BRIDGE)
    assert spec and spec.loader
    module = sys.modules["econ_bridge"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


econ_bridge = bridge_module()


# ---- without a server


def test_the_world_file_is_good() -> None:
    document = read_document((EXAMPLE / "econ-world.json").read_bytes(), "econ-world.json")
    assert list(World.from_document(document, "econ-world.json").processes())


@pytest.mark.parametrize("letter", "\n\r\0\x1b\u2028\ud800")
def test_a_text_is_one_argument_on_one_line(letter: str) -> None:
    assert econ_bridge.quoted(f'a{letter}b "c\\') == r'"a b \"c\\"'


def test_a_text_that_the_console_would_cut_is_refused() -> None:
    with pytest.raises(econ_bridge.agentsdk.Refused, match="400 bytes"):
        econ_bridge.quoted("维" * 134)


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        "status; shutdown",
        "status\nshutdown",
        "a\rb",
        "a\0b",
        "ec_password x",
        " EC_Port 1",
        "x" * 401,
    ],
)
def test_what_is_not_one_command_is_refused(line: str) -> None:
    with pytest.raises(econ_bridge.agentsdk.Refused):
        econ_bridge.one_command(line)


@pytest.mark.parametrize("name", ["plain", "", "x' score=9", "' client=1", "id=0 addr=1 name='me'"])
def test_a_player_cannot_write_his_own_line_of_the_status(name: str) -> None:
    expected = {"id": 3, "name": name, "address": "10.0.0.9:4000"}
    teeworlds = f"id=3 addr=10.0.0.9:4000 client=705 name='{name}' score=-7 (Admin)"
    ddnet = f"id=3 addr=<{{10.0.0.9:4000}}> name='{name}' client=0.7:-1 secure=yes flags=0"
    assert econ_bridge.players([teeworlds, "Value: 1"]) == [{**expected, "score": -7}]
    assert econ_bridge.players([ddnet]) == [{**expected, "score": 0}]


def test_who_is_still_there_was_not_thrown_out() -> None:
    him, said = {"id": 3, "name": "tee", "address": "10.0.0.9:4000"}, "ban error"
    with pytest.raises(econ_bridge.agentsdk.Refused, match=f"still there; the server says: {said}"):
        econ_bridge.gone(him, [said, "id=3 addr=10.0.0.9:4000 client=705 name='tee' score=0 "])
    another = "id=3 addr=10.0.0.8:4000 client=705 name='tee' score=0 "
    assert econ_bridge.gone(him, [another]) == {"player": 3, "name": "tee"}


def test_the_log_is_without_secret_windows_marks_and_password() -> None:
    log = econ_bridge.Log("n0nce", "pa55")
    lines = ["one", "x: n0nce-1-open-begin", "two", "x: n0nce-1-open-end",
             "cmd='echo n0nce-2-secret-begin'", "x: n0nce-2-secret-begin", "hidden", "x: n0nce-2-secret-end",
             "three pa55", "unfinished"]  # fmt: skip
    data = "\n".join(lines).encode()
    shown = b"".join(log.feed(data[at : at + 7]) for at in range(0, len(data), 7)) + log.rest()
    assert shown.decode().split("\n") == ["one", "two", "three ***", "unfinished"]


def test_a_window_whose_end_is_lost_does_not_hide_the_log_for_ever() -> None:
    log = econ_bridge.Log("n0nce", "pa55")
    shown = log.feed(b"n0nce-1-secret-begin\n" + b"line\n" * 2000).count(b"line")
    assert 1000 < shown < 2000


def test_the_password_is_in_a_private_file_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENT_TOKEN", "t0ken")
    shows = 'stat -c %a "$(dirname $2)" "$2"; tr "\\0" " " </proc/$$/cmdline; env; cat "$2"'
    server = econ_bridge.Server(["/bin/sh", "-c", shows, "server"], "127.0.0.1", 4242)
    until(lambda: server.code is not None)
    server.copy_output()
    said = capfdbinary.readouterr().out.decode()
    before, password, _after = said.partition("***")
    assert said.startswith("700\n600\n") and "t0ken" not in said
    assert before.endswith('ec_password "') and password and said.count("***") == 1
    server.forget_password()
    assert not list(tmp_path.iterdir())


# ---- the real ones


def world_here(folder: Path) -> dict[str, Any]:
    """econ-world.json with free ports, this Python, quicker looks, and without the user, whom only root may choose."""
    text = (EXAMPLE / "econ-world.json").read_text()
    world = json.loads(text.replace('"/var/tmp"', json.dumps(str(folder))))
    for program in world["programs"].values():
        del program["user"]
        program["command"][:1] = [sys.executable, str(BRIDGE), "--poll", "0.3"]
        program.update(restart="never", heartbeat_s=0.5, silent_after_s=4)
    for process in world["world"]["大区1"][FIRST]:
        process["port"] = free_port()
    return world


def binary(world: dict[str, Any], type_: str) -> str:
    return next(word for word in world["programs"][type_]["command"] if word.startswith("/usr/games/"))


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Arena:
    """One server of the group: `name` is that of its process."""

    def __init__(self, group: Group, admin: Admin, world: dict[str, Any], name: str) -> None:
        self.group, self.admin, self.name, self.key = group, admin, name, key(name)
        self._place = next(each for each in world["world"]["大区1"][FIRST] if each["name"] == name)
        self._binary = binary(world, self._place["type"])

    def gm(self, command: str, *words: str, **more: Any) -> Any:
        """The answer; Refused where it was not answered."""
        (row,) = call(self.admin, self.name, command, *words, timeout=PATIENCE_S, **more).values()
        if row[0] != "answered":
            raise Refused(row[0], row[2])
        return row[1]

    def names(self) -> list[str]:
        return [player["name"] for player in self.gm("status")["players"]]

    def server(self) -> int:
        """The pid of the real one."""
        (bridge,) = self.group.pids(self.key)
        children = Path(f"/proc/{bridge}/task/{bridge}/children").read_text().split()
        return int(children[0]) if children else 0

    @contextmanager
    def player(self, name: str = "", plays: bool = True, password: str = "") -> Iterator[Player]:
        name = name or f"tee{secrets.token_hex(4)}"
        player = Player(self._place["host"], self._place["port"], name, self._binary, password)
        try:
            until(lambda: player.playing or player.gone, PATIENCE_S, "an answer to a player")
            assert player.playing == plays, player.gone
            yield player
        finally:
            player.leave()
            until(lambda: name not in self.names(), PATIENCE_S, f"{name} has left")

    def shows(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        return until(
            lambda: (
                (row := self.admin.picture()[self.key]) if wanted(self.admin.picture()[self.key]) else None
            ),
            PATIENCE_S,
            what,
        )


@contextmanager
def kept_awake(places: list[dict[str, Any]]) -> Iterator[None]:
    """DDNet without players sleeps for a second at a time, its console too; any packet wakes it."""
    over = threading.Event()

    def knock() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.wait(0.05):
                for place in places:
                    sock.sendto(b"?", (place["host"], place["port"]))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Arena]]:
    folder = tmp_path_factory.mktemp("econ")
    home = folder / "home"
    home.mkdir()
    world = world_here(home)
    if not Path(binary(world, "teeworlds")).exists():
        pytest.skip("apt-get install teeworlds-server ddnet-server")
    places = world["world"]["大区1"][FIRST]
    if not Path(binary(world, "ddnet")).exists() or not has_ipv6():
        places[:] = [each for each in places if each["type"] != "ddnet"]
    names = [each["name"] for each in places]
    with running(folder, [FIRST], world) as group, kept_awake(places):
        start(group, {FIRST: names})
        admin = group.admin(FIRST)
        yield {name: Arena(group, admin, world, name) for name in names}


@pytest.fixture(params=["arena1", "race1"])
def arena(request: pytest.FixtureRequest, everybody: dict[str, Arena]) -> Arena:
    if request.param not in everybody:
        pytest.skip("apt-get install ddnet-server; it wants IPv6 for its console")
    return everybody[request.param]


@pytest.fixture
def spare(everybody: dict[str, Arena]) -> Arena:
    """A teeworlds that a test may ruin."""
    arena = everybody["arena2"]
    start(arena.group, {FIRST: ["arena2"]})
    return arena


@pytest.mark.games
def test_operators_see_who_plays_and_talk_to_him_and_throw_him_out(arena: Arena) -> None:
    server = arena.server()
    with arena.player("x' score=9") as player:
        (seen,) = arena.gm("status")["players"]
        assert (seen["id"], seen["name"], seen["score"]) == (0, "x' score=9", 0)
        assert seen["address"].startswith("127.0.0.1:")
        row = arena.shows(lambda row: row["info"].get("players") == 1, "the list has him")
        assert row["info"]["map"] == MAPS[arena.name][0] and row["verdict"] == "RUNNING"

        assert arena.gm("broadcast", "维护将在15分钟后开始") == {"players": 1}
        arena.gm("say", "hello")
        until(lambda: {"维护将在15分钟后开始", "hello"} <= set(player.heard), PATIENCE_S, f"{player.heard}")

        with pytest.raises(Refused, match="would be banned with him"):
            arena.gm("ban", "0")
        for nobody in ("0; shutdown", "1", "-1", '0" "; shutdown', "x"):
            with pytest.raises(Refused, match="no player"):
                arena.gm("kick", "--player=" + nobody)
        assert arena.gm("kick", "x' score=9", 'bye"; shutdown; "') == {"player": 0, "name": "x' score=9"}
        until(lambda: player.gone, PATIENCE_S, "he is thrown out")
        assert player.gone == 'Kicked (bye"; shutdown; ")'
        assert arena.names() == []
    arena.shows(lambda row: row["info"].get("players") == 0, "the list is empty")
    assert arena.server() == server


@pytest.mark.games
def test_whatever_is_said_is_said_and_not_done(arena: Arena) -> None:
    server = arena.server()
    with arena.player() as player:
        for text in NASTY:
            arena.gm("say", "--text=" + text)
            arena.gm("broadcast", "--text=" + text)
            until(lambda text=text: player.heard.count(text) == 2, PATIENCE_S, f"{text!r} in {player.heard}")
    assert arena.server() == server
    assert arena.gm("status")["map"] == MAPS[arena.name][0]


@pytest.mark.games
def test_the_console_is_there_for_one_command_after_a_yes(arena: Arena) -> None:
    server = arena.server()
    name = MAPS[arena.name][0]
    assert arena.gm("rcon", "sv_map") == {"lines": [f"Value: {name}"]}
    with pytest.raises(Refused, match="rcon is red"):
        arena.gm("rcon", "sv_map", wide=False, sure=False)
    for line in ("sv_map; shutdown", "sv_map\nshutdown", "ec_password"):
        with pytest.raises(Refused, match=r"one command|own settings"):
            arena.gm("rcon", "--line=" + line)
    assert arena.server() == server


@pytest.mark.games
def test_a_map_is_changed_or_it_is_said_that_it_is_not(arena: Arena) -> None:
    first, other = MAPS[arena.name]
    assert arena.gm("change_map", other) == {"map": other}
    arena.shows(lambda row: row["info"].get("map") == other, "the list has the map")
    for wrong in ("../maps/dm1", "/etc/passwd", 'x" "; shutdown'):
        with pytest.raises(Refused, match=r"no map"):
            arena.gm("change_map", wrong)
    assert arena.gm("change_map", first) == {"map": first}


@pytest.mark.games
def test_a_drain_lets_nobody_in_and_a_cancelled_one_everybody(arena: Arena) -> None:
    """The server's own password, which players know, is the same again afterwards."""
    group, password = arena.group, PASSWORDS[arena.name]
    settings = f"password {econ_bridge.quoted(password)}"
    arena.gm("rcon", settings)
    with arena.player(password=password) as player:
        assert group.admin_command(FIRST, f'drain {arena.name} --notice "维护"').returncode == 0
        until(
            lambda: not arena.gm("status")["open"] and "维护" in player.heard, PATIENCE_S, "closed and told"
        )
        with arena.player(password=password, plays=False) as late:
            assert "password" in late.gone.lower()
        assert player.playing
        assert group.admin_command(FIRST, f"cancel {arena.name}").returncode == 0
        until(lambda: arena.gm("status")["open"], PATIENCE_S, "open again")
        with arena.player(password=password):
            assert len(arena.names()) == 2
    assert arena.gm("rcon", "password") == {"lines": [f"Value: {password}"]}
    arena.gm("rcon", 'password ""')


@pytest.mark.games
def test_the_password_of_the_console_is_in_no_file_and_no_command_line(arena: Arena) -> None:
    server = arena.server()
    (bridge,) = arena.group.pids(arena.key)
    words = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (server, bridge)]
    assert not any(b"ec_" in each for each in words)
    assert b"AGENT_TOKEN" not in Path(f"/proc/{server}/environ").read_bytes()
    cwd = Path(f"/proc/{server}/cwd").resolve()
    assert cwd.name == "home" and not list(cwd.glob(".econ-*"))
    log = arena.group.log_of(arena.key).read_text(errors="replace")
    assert "console joined" in log and "Value: 64" not in log and "Value: 8" not in log
    assert "-secret-" not in log and "ec_password" not in log


@pytest.mark.games
def test_a_lost_console_is_found_again(arena: Arena) -> None:
    with pytest.raises(Refused, match=r"console was lost before it answered: it may have run"):
        arena.gm("rcon", "logout")

    meanwhile = "the server's console cannot be reached: nothing was sent"
    until(lambda: refusal(arena, "status") in ("", meanwhile), PATIENCE_S)
    until(lambda: not refusal(arena, "status"), PATIENCE_S, "the console answers again")


@pytest.mark.games
def test_a_server_that_hangs_is_silent(spare: Arena) -> None:
    server = spare.server()
    os.kill(server, signal.SIGSTOP)
    try:
        spare.shows(lambda row: row["verdict"] == "SILENT", "SILENT")
        until(lambda: "has not answered for" in refusal(spare, "status"), PATIENCE_S, "refused")
    finally:
        os.kill(server, signal.SIGCONT)
    spare.shows(lambda row: row["verdict"] == "RUNNING", "RUNNING again")
    assert spare.gm("status")["players"] == []


def refusal(arena: Arena, command: str) -> str:
    try:
        arena.gm(command)
    except Refused as no:
        return str(no)
    return ""


@pytest.mark.games
def test_a_server_that_crashes_is_dead_with_its_own_signal(spare: Arena) -> None:
    os.kill(spare.server(), signal.SIGSEGV)
    row = spare.shows(lambda row: row["verdict"] == "DEAD", "DEAD")
    assert row["exit"] == "signal SEGV", row


@pytest.mark.games
def test_a_stop_is_a_shutdown_with_the_code_of_the_server(spare: Arena) -> None:
    server = spare.server()
    outcome = spare.admin.operate("stop", FIRST, spare.name, timeout=PATIENCE_S)[spare.key]
    assert (outcome.result, outcome.detail) == ("ok", "code 0"), outcome
    assert not alive(server)


@pytest.mark.games
def test_the_server_ends_with_its_bridge(spare: Arena) -> None:
    server = spare.server()
    (bridge,) = spare.group.pids(spare.key)
    os.kill(server, signal.SIGSTOP)  # so that neither a broken pipe nor the daemon's SIGTERM ends it
    os.kill(bridge, signal.SIGKILL)
    until(lambda: not alive(server), PATIENCE_S, "it is gone too")
    spare.shows(lambda row: row["verdict"] == "DEAD", "DEAD")
