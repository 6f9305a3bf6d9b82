import io
import json
import os
import sys
from contextlib import closing

import pytest

from agent.errors import ConfigError, StoreDown
from agent.globaldb import GlobalDb
from agent.store import Store
from roles.world.main import main
from tests.globaldb_servers import free_port

IP = "192.168.1.10"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AGENT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def agent(globaldb_url, monkeypatch):
    monkeypatch.setenv("AGENT_GLOBALDB", globaldb_url)
    return main


@pytest.fixture
def db(globaldb_url):
    with closing(Store(globaldb_url)) as store:
        yield GlobalDb(store)


def file(tmp_path, *names, name="w.json", **changes):
    entries = [{"name": name, "type": "game", "port": 7000 + i} for i, name in enumerate(names)]
    document = {
        "programs": {"game": {"command": ["/srv/game"]}},
        "world": {"大区1": {IP: entries}},
        **changes,
    }
    path = tmp_path / name
    path.write_text(json.dumps(document))
    return str(path)


def test_an_import_shows_what_it_changes_and_does_it(agent, db, tmp_path, capsys):
    assert agent(["import", file(tmp_path, "game1")]) == 0
    out = capsys.readouterr().out
    assert f"+ 大区1 {IP} game1 game :7000" in out and "imported 4 changes" in out
    assert ("all at once" in out) is db.store.has_transactions()
    assert db.read_world().process(f"大区1.{IP}.game1")
    assert db.read_audit(1)[0]["what"].startswith("world import")


def test_the_same_import_again_changes_nothing(agent, db, tmp_path, capsys):
    path = file(tmp_path, "game1")
    agent(["import", path])
    capsys.readouterr()
    assert agent(["import", path]) == 0
    assert "no difference" in capsys.readouterr().out and len(db.read_audit(10)) == 1


def test_what_is_exported_imports_as_no_difference(agent, tmp_path, capsys):
    agent(["import", file(tmp_path, "game1", "沙漠")])
    out = tmp_path / "out.json"
    assert agent(["export", str(out)]) == 0
    assert "沙漠" in out.read_text()
    capsys.readouterr()
    assert agent(["export"]) == 0
    assert capsys.readouterr().out == out.read_text()
    assert agent(["diff", str(out)]) == 0 and "no difference" in capsys.readouterr().out


def test_a_difference_can_be_told_by_the_exit_code(agent, tmp_path, capsys):
    path = file(tmp_path, "game1")
    assert agent(["diff", path]) == 0 and agent(["diff", path, "--exit-code"]) == 1
    assert "+ program game" in capsys.readouterr().out
    agent(["import", path])
    assert agent(["diff", path, "--exit-code"]) == 0


def test_a_wrong_file_changes_nothing(agent, db, tmp_path):
    agent(["import", file(tmp_path, "game1")])
    with pytest.raises(ConfigError, match=r"bad.json: world.大区1.192.168.1.10\[1\].name"):
        agent(["import", file(tmp_path, "game1", "game1", name="bad.json")])
    assert len(list(db.read_world().processes())) == 1


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"state": "RUNNING", "pid": 4242}, "is RUNNING (pid 4242)"),
        ({"state": "BACKOFF"}, "is BACKOFF"),
        ({"state": "EXITED", "wanted": "up"}, "is wanted up"),
    ],
)
def test_running_processes_are_not_removed_unasked(agent, db, tmp_path, capsys, record, why):
    agent(["import", file(tmp_path, "game1", "game2")])
    db.write_records({f"大区1.{IP}.game2": record})
    less = file(tmp_path, "game1", name="less.json")
    assert agent(["import", less]) == 1
    assert f"REMOVES 大区1.{IP}.game2, which {why}" in capsys.readouterr().err
    assert len(list(db.read_world().processes())) == 2
    assert agent(["import", less, "--remove-running"]) == 0
    assert len(list(db.read_world().processes())) == 1


def test_stopped_processes_may_go(agent, db, tmp_path):
    agent(["import", file(tmp_path, "game1", "game2")])
    db.write_records({f"大区1.{IP}.game2": {"state": "STOPPED", "wanted": "down"}})
    assert agent(["import", file(tmp_path, "game1", name="less.json")]) == 0


def test_broken_entries_in_globaldb_are_named_and_replaced(agent, db, tmp_path, capsys):
    path = file(tmp_path, "game1")
    agent(["import", path])
    db.store.hset("world:大区1", "10.0.0.9", "[\x1b[2J")
    assert agent(["export"]) == 1
    assert "world.大区1.10.0.0.9" in capsys.readouterr().err
    assert agent(["import", path]) == 0
    err = capsys.readouterr().err
    assert "will be replaced: world.大区1.10.0.0.9" in err and "\x1b" not in err
    assert agent(["export"]) == 0


def test_check_needs_no_globaldb(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGENT_GLOBALDB", f"redis://127.0.0.1:{free_port()}")
    assert main(["check", file(tmp_path, "game1")]) == 0
    assert "good: 1 regions, 1 machines, 1 processes, 1 programs" in capsys.readouterr().out
    with pytest.raises(StoreDown):
        main(["import", file(tmp_path, "game1")])


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            main(["check", str(path)])


def test_the_file_may_be_toml_or_come_through_a_pipe(tmp_path, monkeypatch, capsys):
    (tmp_path / "w.toml").write_text('[programs.game]\ncommand = ["x"]\n[world]\n')
    assert main(["check", str(tmp_path / "w.toml")]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"programs": {}, "world": {')))
    with pytest.raises(ConfigError, match="stdin, line 1"):
        main(["check", "-"])


def test_an_import_that_loses_its_connection_says_what_to_do(proxy, valkey, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGENT_GLOBALDB", proxy.url)
    write_world = GlobalDb.write_world

    def cut(self, new, old):
        proxy.spoil = "swallow"
        return write_world(self, new, old)

    monkeypatch.setattr(GlobalDb, "write_world", cut)
    path = file(tmp_path, "game1")
    with pytest.raises(StoreDown, match="the same import again completes it"):
        main(["import", path])
    proxy.spoil = ""
    monkeypatch.setattr(GlobalDb, "write_world", write_world)
    assert main(["import", path]) == 0
    with closing(Store(valkey.url)) as store:
        assert GlobalDb(store).read_world().process(f"大区1.{IP}.game1")
