from agent import frozen

OWN = {
    "AGENT_BINARY": "/usr/local/bin/agent",
    "_PYI_ARCHIVE_FILE": "/x",
    "_PYI_APPLICATION_HOME_DIR": "/x",
    "_MEIPASS2": "/x",
}


def test_what_the_binary_put_in_is_taken_out():
    assert frozen.clean_environment({**OWN, "LD_LIBRARY_PATH": "/x/_internal", "HOME": "/root"}) == {
        "HOME": "/root"
    }


def test_the_callers_library_path_is_restored():
    environ = {**OWN, "LD_LIBRARY_PATH": "/x/_internal:/theirs", "LD_LIBRARY_PATH_ORIG": "/theirs"}
    assert frozen.clean_environment(environ) == {"LD_LIBRARY_PATH": "/theirs"}


def test_from_source_nothing_changes():
    environ = {"LD_LIBRARY_PATH": "/theirs", "AGENT_STATE": "/var/lib/agent", "HOME": "/root"}
    clean = frozen.clean_environment(environ)
    assert clean == environ
    assert clean is not environ


def test_resources_lie_in_the_checkout_from_source_and_in_the_bundle_when_frozen(monkeypatch, tmp_path):
    assert frozen.resource_path("build.sh").is_file()
    monkeypatch.setattr("sys.frozen", True, raising=False)
    monkeypatch.setattr("sys._MEIPASS", str(tmp_path), raising=False)
    assert frozen.resource_path("build.json") == tmp_path / "build.json"


def test_the_called_file_is_known_only_when_frozen(monkeypatch, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "agent")
    monkeypatch.setenv("AGENT_BINARY", str(link))
    assert frozen.binary_path() is None
    assert frozen.own_command()[1:] == ["-m", "agent"]
    monkeypatch.setattr("sys.frozen", True, raising=False)
    assert frozen.own_command() == [str(tmp_path / "agent")]
