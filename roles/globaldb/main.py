"""agent globaldb — the bundled Valkey with the group's data in a folder.

Usage:
    agent globaldb [--dir DIR] [--listen ADDR] [--config FILE]
    agent globaldb --help

Options:
    --dir DIR       folder of the data; made if it is not there
    --listen ADDR   where to serve [default: 127.0.0.1:6379]
    --config FILE   TOML file with these options (default /etc/agent.toml)

Every acknowledged write is on the disk. Elsewhere than on loopback a password is asked for: it is made at the first
start and lies in DIR/password; a file of that name is honoured on loopback too. Clients then connect to
redis://:PASSWORD@HOST:PORT. Each option is also an environment variable: AGENT_DIR, AGENT_LISTEN.
"""

import os
import signal
from pathlib import Path

from agent import address, settings
from agent.errors import AgentError, UsageError
from agent.frozen import clean_environment
from roles.globaldb import announcer, configuration, folder, place, server

DEFAULT_PORT = 6379


def main(argv: list[str]) -> int:
    options = settings.load(__doc__, argv, "globaldb")
    if not options["--dir"]:
        raise UsageError("agent globaldb needs --dir DIR (or AGENT_DIR): the folder of the group's data")
    listen = place.usable(address.parse(options["--listen"], DEFAULT_PORT))
    data = folder.prepare(Path(options["--dir"]))
    lock = folder.lock(data)
    password = folder.password(data, required=not place.is_loopback(listen.host))
    config = folder.write_config(data, configuration.text(data, listen, password))
    binary = server.install(data)
    announcer.start(listen, password, data, server_pid=os.getpid(), inherited=[lock])
    become(binary, config, lock)
    return 1  # not reached


def become(binary: Path, config: Path, lock: int) -> None:
    """The pid stays, so a service manager watches Valkey itself, and SIGKILL leaves nothing behind."""
    os.set_inheritable(lock, True)  # the folder stays locked for as long as Valkey lives
    os.dup2(2, 1)  # its log goes to stdout
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(
            number, signal.SIG_DFL
        )  # Python ignores or catches them, and exec keeps what is ignored
    try:
        os.execve(binary, [str(binary), str(config)], clean_environment(os.environ))
    except PermissionError:
        raise AgentError(
            f"cannot execute {binary}: is {config.parent} mounted noexec? Choose another folder with --dir"
        ) from None
    except OSError as error:
        raise AgentError(f"cannot execute {binary}: {error.strerror}") from None
