"""Admin: the operator's shell, and one-shot commands for scripts.

Usage:
  agent admin [options] [-c COMMAND]... [<addr>]

Arguments:
  <addr>               Any daemon of the group, host[:port]. Default: 127.0.0.1:8889

Options:
  -c --command COMMAND  Run a command and leave; several run in order until one fails. `-c help` lists them.
  --user NAME           Who logs in. Default: $USER, or asked for.
  --password-file FILE  Its first line is the password; nobody else may read it. Or set AGENT_PASSWORD.
  --json                One JSON document per command, on one line.
  --yes                 Do not ask before a command over more than one machine.
  --timeout S           Longest wait for the outcomes of a command. [default: 120]
  --config FILE         TOML file with these options. [default: /etc/agent.toml]
  -h --help             This text.

Without -c it is a shell; if its input is no terminal, every line of it is a command.
Every option is also an environment variable (AGENT_USER, …) and a key of the TOML file's [admin] table.

Exit codes: 0 every target has what was asked · 1 some target failed · 2 wrong usage, or a word that names nothing ·
3 could not connect or log in · 4 forbidden · 5 outcome unknown for some target.
Results go to stdout, errors to stderr; where stdout is no terminal, targets that went wrong stand on stderr too.
"""

import logging
import os
import sys

from agent import address, logs, settings
from agent.errors import AgentError, ConnectFailed, LoginRefused
from roles.admin import grammar, login, oneshot
from roles.admin.interrupt import Interrupt
from roles.admin.screen import Screen
from roles.admin.session import Session

PORT = 8889
HERE = "127.0.0.1"
TRIES = 3


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "admin")
    _begin_logs()
    daemon = address.parse(options["<addr>"] or HERE, PORT)
    daemon = daemon._replace(host=daemon.host or HERE)
    timeout_s = options.number("--timeout", 0.1, 24 * 3600)
    lines = options["--command"] or _piped_lines()
    screen = Screen(as_json=options["--json"])
    script, session = _begin(daemon, options, screen, lines)
    try:
        desk_options = (session, screen, Interrupt(), timeout_s, options["--yes"])
        if lines is not None:
            return oneshot.run(oneshot.ScriptDesk(*desk_options), script)
        # Only here: prompt_toolkit costs 100 ms that a script must not pay.
        from roles.admin.repl import run as run_shell

        return run_shell(*desk_options)
    finally:
        session.close()


def _begin(
    daemon: address.Address, options: settings.Settings, screen: Screen, lines: list[str] | None
) -> tuple[list[grammar.Command], Session]:
    """Read the commands and log in. Raises AgentError, and with --json has said it as a document then."""
    line, script = "", []
    try:
        # All of them are read before the first one runs: a typing error in the last one is found in time.
        for line in lines or []:
            script.append(grammar.parse(line))
        if script and all(command.verb == "help" for command in script):
            return script, Session(daemon, "", "")  # help needs nobody
        line = script[0].text if script else ""
        return script, _log_in(daemon, options, shell=lines is None)
    except AgentError as error:
        if screen.as_json and lines:
            screen.document({"command": line, "exit_code": error.exit_code, "error": str(error)})
        raise


def _piped_lines() -> list[str] | None:
    """The commands in stdin; None where a person sits there."""
    if sys.stdin.isatty():
        return None
    return [line for line in map(str.strip, sys.stdin) if line and not line.startswith("#")]


def _log_in(daemon: address.Address, options: settings.Settings, *, shell: bool) -> Session:
    """A person who types the password may mistype it twice. Raises ConnectFailed."""
    for tries_left in range(TRIES - 1, -1, -1):
        found = login.find(options["--user"], options["--password-file"], ask=input if shell else None)
        session = Session(daemon, found.user, found.password)
        try:
            session.open()
            return session
        except LoginRefused as error:
            if not (found.typed and tries_left):
                raise
            print(f"agent: {error}", file=sys.stderr)
        except ConnectFailed as error:
            raise ConnectFailed(
                f"{error}; is its daemon running? any other daemon of the group will do"
            ) from None
    raise AssertionError("unreachable")


def _begin_logs() -> None:
    """An operator's screen is no log: what concerns him he is told as an error. AGENT_LOG_LEVEL=debug shows the log."""
    if os.environ.get("AGENT_LOG_LEVEL"):
        logs.begin()
    else:
        logging.getLogger("agent").addHandler(logging.NullHandler())
