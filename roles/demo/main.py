"""Demo: a small group on this machine, ready to type into; gone without a trace when you leave it.

Usage:
  agent demo [-c COMMAND]... [--machines N] [--keep] [--json] [--config FILE]
  agent demo --stop DIR [--config FILE]

Options:
  --machines N          How many machines, 127.0.0.2 and up. [default: 3]
  -c --command COMMAND  Run a command of the shell and leave; several run in order until one fails. Asks nothing.
  --json                With -c: one JSON document per command.
  --keep                Leave everything running, and say how to reach it and how to stop it.
  --stop DIR            Stop a demo that was kept, or whose starter was killed, and remove its folder.
  --config FILE         TOML file with these options. [default: /etc/agent.toml]
  -h --help             This text.

Without -c it is the admin's shell, logged in; if its input is no terminal, every line of it is a command.
The exit code is that of the commands, as with agent admin.
"""

import contextlib
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent import frozen, settings
from agent.errors import AgentError
from roles.demo import ending, scene
from roles.demo import folder as places
from roles.demo.group import Group

BANNER = """
Three commands to begin with. Tab completes, `help` lists all, `exit` {end}.

  start all         every process of the group; asks first: several machines
  list {ip}    what runs there: pid, uptime, cpu, memory, players
  watch             the group as it changes, until Ctrl-C

The games take commands of their own, and are asked to save before they are stopped:

  gm help gameserver
  gm gameserver broadcast "maintenance in 15 minutes"
  drain game2 --deadline 1m --notice "please leave"       then: tasks

Then hurt it from another terminal and watch; try `hang` instead of `crash` too:

  bash -c 'echo crash > /dev/tcp/{place}'
"""
SHELL_ENDS_S = 3.0


class Told(Exception):
    """A signal wants us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "demo")
    if options["--stop"]:
        return stop(places.check(options["--stop"]))
    machines = int(options.number("--machines", 1, scene.MOST_MACHINES))
    for old in places.abandoned():
        say(f"a demo that was killed left {old}; get rid of it with: {own('demo', '--stop', str(old))}")
    with terminal_as_it_was():
        try:
            listen_to_signals()
            return play(machines, options["--command"], options["--json"], options["--keep"])
        except Told as told:
            return 128 + told.number


def play(machines: int, commands: list[str], as_json: bool, keep: bool) -> int:
    """The exit code of the shell. Whatever happens, nothing is left behind; with `keep`, nothing half done is."""
    folder, _lock = places.make()
    kept = False
    try:
        group = Group(folder, machines, say if not commands else lambda _line: None)
        group.start()
        kept = keep
        if sys.stdin.isatty() and not commands:
            print(banner(group, keep), file=sys.stderr)
        return run_shell(lambda: group.shell(commands, as_json))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what follows is short, and must be done
        if kept:
            (folder / places.KEPT).touch()
            say(how_to_go_on(folder, group))
        else:
            clear(folder)


def run_shell(start: Callable[[], subprocess.Popen]) -> int:
    if sys.stdin.isatty():
        signal.signal(signal.SIGINT, leave_it_to_the_shell)
    shell = start()
    try:
        code = shell.wait()
    except BaseException:
        with contextlib.suppress(subprocess.TimeoutExpired):
            shell.terminate()
            shell.wait(SHELL_ENDS_S)
        shell.kill()
        raise
    return code if code >= 0 else 128 - code


def stop(folder: Path) -> int:
    clear(folder)
    print(f"{folder}: stopped and removed")
    return 0


def clear(folder: Path) -> None:
    left = ending.end(folder)
    if left:
        again = own("demo", "--stop", str(folder))
        raise AgentError(f"demo: {left} processes do not end even on SIGKILL; try later: {again}")
    places.remove(folder)


def leave_it_to_the_shell(_number: int, _frame: Any) -> None:
    """Ctrl-C at a terminal reaches the shell as well. A handler, since a child would inherit SIG_IGN."""


def listen_to_signals() -> None:
    def end(number: int, _frame: Any) -> None:
        raise Told(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)


@contextlib.contextmanager
def terminal_as_it_was() -> Iterator[None]:
    """A shell that had to be killed leaves the terminal without echo."""
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError):
        before = None
    try:
        yield
    finally:
        if before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def banner(group: Group, keep: bool) -> str:
    end = "leaves it running" if keep else "ends it all"
    return BANNER.format(end=end, ip=group.ips[0], place="{}/{}".format(*group.place_of("game1")))


def how_to_go_on(folder: Path, group: Group) -> str:
    variable = f"AGENT_CONFIG={shlex.quote(str(group.settings))}"
    return (
        f"it goes on in {folder}\n"
        f"  settings:   export {variable}\n"
        f"  come back:  {own('admin', str(group.entrance))}\n"
        f"  its world:  {own('world', 'export')}\n"
        f"  stop it:    {own('demo', '--stop', str(folder))}"
    )


def own(*words: str) -> str:
    return shlex.join([*frozen.own_command(), *words])


def say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        print(f"demo: {line}", file=sys.stderr, flush=True)
