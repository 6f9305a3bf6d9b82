"""The daemon's memory: whole or as before, never fatal, never shared by two."""

import errno
import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import lifecycle
from agent.errors import ConfigError
from agent.lifecycle import Life
from agent.program import LaunchSpec
from roles.daemon import journal as journal_module
from roles.daemon.identity import Identity
from roles.daemon.journal import Entry, Journal, JournalFailed, dump, load, spec_of, terms_of
from roles.daemon.startcount import StartCount

KEY = "大区1.192.168.1.10.game1"
ENTRY = Entry(
    key=KEY,
    life=Life(lifecycle.RUNNING, lifecycle.UP, unready=1, failures=2, automatic=True),
    since_at=1.5,
    reason="some",
    exit="code 3",
    incarnation="ab",
    token="cd",
    identity=Identity("boot", 42, 4242),
    started_at=1.25,
    ended=False,
    signalled=True,
    starts=StartCount(7, 1),
    terms={"stop_signal": "INT"},
    digest="ef",
    host="0.0.0.0",
    port=8303,
    leftovers=[Identity("boot", 43, 4343)],
)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def test_an_entry_comes_back_as_it_was_written(journal):
    journal.write(Entry(key=KEY))
    journal.write(ENTRY)
    assert journal.read() == {KEY: ENTRY}


def test_only_we_may_read_it(journal):
    journal.write(ENTRY)
    assert journal.path(KEY).stat().st_mode & 0o777 == 0o600
    assert journal.folder.stat().st_mode & 0o777 == 0o700


def test_command_and_environment_are_not_on_our_disk():
    spec = LaunchSpec(command=["secret"], env={"PASSWORD": "secret"}, stop_signal="INT", restart="always")
    assert "secret" not in str(terms_of(spec))
    back = spec_of(terms_of(spec))
    assert (back.stop_signal, back.restart, back.stop_timeout_s) == ("INT", "always", 30.0)


def test_terms_of_another_version_are_no_problem():
    assert spec_of({"stop_signal": "INT", "of_a_later_version": 1}).stop_signal == "INT"
    assert spec_of({}).stop_signal == "TERM"


def test_fields_of_a_later_version_are_kept():
    line = dump(ENTRY).replace(b'{"key"', b'{"from_the_future":[1],"key"', 1)
    entry = load(line)
    assert entry.later == {"from_the_future": [1]}
    assert load(dump(entry)) == entry
    assert load(line.replace(b'"version":1', b'"version":2')).key == KEY


@pytest.mark.parametrize("left", range(0, len(dump(ENTRY)), 37))
def test_a_half_last_line_leaves_the_one_before(journal, left):
    journal.write(Entry(key=KEY, exit="before"))
    with open(journal.path(KEY), "ab") as file:
        file.write(dump(ENTRY)[:left])
    assert journal.read()[KEY].exit == "before"
    journal.write(ENTRY)
    assert journal.read() == {KEY: ENTRY}, "and what is written after it is whole"


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"\0" * 100, b"\0" * 100 + b"\n",
                                  b'{"key":1}\n',
                                  b'{"key":"x","life":{"state":"DANCING"},"starts":{"base":0,"pending":0}}\n',
                                  b"[" * 100000 + b"\n", b"\xff\xfe\n"])  # fmt: skip
def test_an_unreadable_file_is_reported_and_set_aside_and_the_others_are_read(journal, caplog, data):
    journal.write(ENTRY)
    bad = journal.folder / "大区1.192.168.1.10.game2.jsonl"
    bad.write_bytes(data)
    assert journal.read() == {KEY: ENTRY}
    assert "game2" in caplog.text
    assert not bad.exists()
    assert [path.read_bytes() for path in journal.folder.glob("*.bad")] == [data]


def test_a_file_that_is_about_another_process_is_set_aside(journal):
    journal.write(ENTRY)
    journal.path(KEY).rename(journal.folder / "大区1.192.168.1.10.other.jsonl")
    assert journal.read() == {}


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_value_error(data):
    try:
        load(data)
    except ValueError:
        pass


def test_a_file_does_not_grow_for_ever(journal):
    for _ in range(400):
        journal.write(ENTRY)
    assert journal.path(KEY).stat().st_size < journal_module.LONGEST_BYTES + 2 * len(dump(ENTRY))
    assert journal.read() == {KEY: ENTRY}


def test_a_full_disk_is_said_and_the_entry_before_still_counts(journal, monkeypatch):
    """A real short write: the file may not grow beyond a few bytes more."""
    journal.write(Entry(key=KEY, exit="before"))
    size = journal.path(KEY).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(JournalFailed, match=f"{KEY}: cannot be remembered"):
            journal.write(ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.path(KEY).stat().st_size == size
    assert journal.read()[KEY].exit == "before"


def test_no_space_at_all_is_said(journal, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalFailed, match="No space left"):
        journal.write(ENTRY)


@pytest.mark.parametrize("key", ["../x", "a/b", ".hidden", "a\0b"])
def test_a_key_that_is_no_file_name_is_refused(journal, key):
    with pytest.raises(JournalFailed):
        journal.write(Entry(key=key))


def test_a_second_daemon_is_told_who_has_the_folder(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "LOCK_WAIT_S", 0.1)
    with pytest.raises(ConfigError, match=rf"another daemon \(pid {os.getpid()}\)"):
        Journal(tmp_path)


def test_the_lock_ends_with_its_holder(tmp_path):
    script = f"import sys; sys.path.insert(0, {os.getcwd()!r})\n" + (
        "from pathlib import Path\nfrom roles.daemon.journal import Journal\n"
        "import os, signal\nj = Journal(Path(sys.argv[1]))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    Journal(tmp_path).close()
