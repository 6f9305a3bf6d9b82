"""The shell on a real terminal: tmux types, and what stands on the screen is read."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.roles.admin.conftest import ROOT, environment
from tests.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
PASSWORD = "secret words"


class Terminal:
    """One tmux server with one window, gone with its socket."""

    def __init__(self, folder, *words: str, state=None, **env: str) -> None:
        self._socket = str(folder / "tmux")
        self.state = state or folder / "state"
        wanted = environment(LANG="C.UTF-8", XDG_STATE_HOME=str(self.state), **env)
        wanted.pop("AGENT_PASSWORD")
        settings = [f"{name}={value}" for name, value in wanted.items()]
        command = shlex.join(["env", *settings, sys.executable, "-m", "agent", "admin", *words])
        self._tmux(
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "110",
            "-y",
            "30",
            f"cd {ROOT}; {command}; echo left with $?; cat",
        )

    def _tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._socket, *words], check=True, capture_output=True, text=True
        ).stdout

    def type(self, text: str, enter: bool = True) -> None:
        self._tmux("send-keys", "-l", text)
        if enter:
            self.press("Enter")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self, colours: bool = False) -> str:
        return self._tmux("capture-pane", "-p", "-J", *(["-e"] if colours else []))

    def shows(self, text: str, times: int = 1) -> str:
        try:
            until(lambda: self.screen().count(text) >= times, 15.0)
        except AssertionError:
            raise AssertionError(f"{text!r} is not on the screen:\n{self.screen()}") from None
        return self.screen()

    def close(self) -> None:
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(daemon, tmp_path):
    terminal = Terminal(tmp_path, daemon.address)
    yield terminal
    terminal.close()


@pytest.fixture
def shell(terminal):
    """Logged in."""
    terminal.shows("password of ada:")
    terminal.type(PASSWORD)
    terminal.shows("· picture")
    return terminal


def test_a_mistyped_password_may_be_typed_again_and_is_never_shown(terminal):
    for count in range(1, 3):
        terminal.shows("password of ada:", times=count)
        terminal.type("wrong words")
        terminal.shows("login refused", times=count)
    terminal.shows("password of ada:", times=3)
    terminal.type(PASSWORD)
    screen = terminal.shows("daemon 10.0.0.1 · machines 2/3 up · 8 RUNNING 1 EXITED · picture")
    assert "words" not in screen


def test_a_control_character_in_the_password_costs_no_try(terminal):
    terminal.shows("password of ada:")
    terminal.press("C-l")
    terminal.type("x")
    terminal.shows("type it again")
    for count in range(2, 4):
        terminal.shows("password of ada:", times=count)
        terminal.type("wrong words")
        terminal.shows("login refused", times=count - 1)
    terminal.shows("password of ada:", times=4)
    terminal.type(PASSWORD)
    terminal.shows("· picture")


def test_a_wait_for_one_slow_target_shows_that_it_goes_on(shell):
    shell.type("restart 大区2 10.0.0.1 slow1")
    shell.shows("restart: waiting 1 s …")
    shell.shows("restart: 1 ok")
    assert "waiting" not in shell.screen()


def test_an_old_picture_is_told_above_a_list_and_at_the_bottom(shell):
    shell.type("restart 10.0.0.2 mute1")  # the stand-in's globaldb is away from then on
    shell.shows("OLD PICTURE: globaldb is away ·")
    shell.type("list 10.0.0.1 game1")
    assert "agent: the picture is " in shell.shows("RUNNING?") and "s old: globaldb is away" in shell.screen()
    shell.type("watch 10.0.0.1")
    shell.shows("Ctrl-C ends it   OLD PICTURE: globaldb is away")
    shell.press("C-c")
    shell.type("start 10.0.0.1 game2")  # and here again
    shell.shows("start: 1 already")
    until(lambda: "OLD PICTURE" not in shell.screen(), 15)


def test_the_third_wrong_password_is_the_last(terminal):
    for count in range(1, 4):
        terminal.shows("password of ada:", times=count)
        terminal.type("wrong words")
        terminal.shows("login refused", times=count)
    terminal.shows("left with 3")


def test_tab_completes_from_live_data(shell):
    shell.type("sta", enter=False)
    shell.press("Tab")
    shell.shows("agent> start")
    shell.type(" 大区1 10.0.0.2 ", enter=False)
    shell.press("Tab")
    shell.shows("forbidden1")


def test_lists_are_tables_with_colours(shell):
    shell.type("list world")
    screen = shell.shows("total")
    assert "大区1          2          7        7" in screen
    assert "\x1b[32mRUNNING" in shell.screen(colours=True)


def test_a_wide_command_asks_and_shows_progress(shell):
    shell.type("restart 10.0.0.* all")
    shell.shows("9 processes on 2 machines. Go on? [y/N]")
    shell.type("n")
    shell.shows("nothing was done")
    shell.type("restart 10.0.0.* all")
    shell.shows("Go on? [y/N]", times=2)
    shell.type("y")
    shell.shows("8/9 done, 1 failed, 1 refused, 1 unknown")
    shell.shows("restart: 6 ok, 1 failed, 1 refused, 1 unknown")
    shell.shows("· 9 RUNNING ·")  # pushed by the daemon while the prompt waits


def test_ctrl_c_ends_the_wait_and_not_the_session(shell):
    shell.type("restart 10.0.0.1 game1,slow1")
    shell.shows("1 done")
    shell.press("C-c")
    shell.shows("the command goes on: `audit` shows its end")
    shell.shows("restart: 1 ok")  # what had come by then
    shell.type("list 102")
    shell.shows("./t --port 1")


def test_ctrl_c_ends_a_question_too(shell):
    shell.type("audit 5000")
    until(lambda: shell.press("C-c") or "cancelled" in shell.screen(), 15, "the question to be ended")
    shell.type("list 102")
    assert "stop all" not in shell.shows("./t --port 1")


def test_ctrl_c_at_the_prompt_empties_the_line_and_ctrl_d_leaves(shell):
    shell.type("start 10.0.0.1 all", enter=False)
    shell.press("C-c")
    shell.press("C-d")
    shell.shows("left with 0")


def test_an_error_is_told_and_the_session_goes_on(shell):
    shell.type("strat")
    shell.shows('unknown command "strat" (did you mean "start"?)')
    shell.type("list 10.0.0.9")
    shell.shows('no machine "10.0.0.9"')
    shell.type("exit")
    shell.shows("left with 0")


def test_a_daemon_that_restarts_is_noticed_and_found_again(shell, daemon):
    daemon.kill()
    shell.shows("was lost")
    shell.shows("NOT CONNECTED to daemon 10.0.0.1")
    shell.type("list 10.0.0.1 game1")
    shell.shows("s old")  # from the picture, and says how old
    shell.type("start 10.0.0.1 game1")
    shell.shows("nothing was sent")
    daemon.start()
    shell.shows("connected again to daemon 10.0.0.1")
    shell.type("list 102")
    shell.shows("./t --port 1")


def test_watch_draws_until_ctrl_c(shell, daemon):
    shell.type("watch 10.0.0.1")
    shell.shows("Ctrl-C ends it")
    shell.shows("5 processes: 4 RUNNING, 1 EXITED")
    shell.press("C-c")
    shell.shows("· picture")
    shell.type("exit")
    shell.shows("left with 0")


def test_history_lives_across_sessions_and_is_private(shell, daemon, tmp_path):
    shell.type("list world")
    shell.shows("total")
    shell.press("C-d")
    shell.shows("left with 0")
    file = shell.state / "agent" / "history"
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert "list world" in file.read_text() and "secret" not in file.read_text()
    (tmp_path / "again").mkdir()
    again = Terminal(tmp_path / "again", daemon.address, state=shell.state)
    try:
        again.shows("password of ada:")
        again.type(PASSWORD)
        again.shows("· picture")
        again.press("Up")
        again.shows("agent> list world")
    finally:
        again.close()


def test_no_colour_where_none_is_wanted(daemon, tmp_path):
    terminal = Terminal(tmp_path, daemon.address, NO_COLOR="1")
    try:
        terminal.shows("password of ada:")
        terminal.type(PASSWORD)
        terminal.shows("· picture")
        terminal.type("list world")
        terminal.shows("total")
        assert "\x1b[32mRUNNING" not in terminal.screen(colours=True)
    finally:
        terminal.close()
