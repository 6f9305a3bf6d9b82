"""agent — keeps a group of game servers running.

    agent ROLE [OPTIONS]      `agent ROLE --help` explains the options
    agent --version | --help | licenses

This is the only module that names roles. Each role is imported inside a function of its own: one binary plays them
all, and `agent admin` run from cron must not pay for redis-py (50-140 ms) nor an interactive role for gevent's patched
standard library. They are real import statements, because the frozen binary follows nothing else.
"""

import os
import sys
import traceback
from collections.abc import Callable

from agent.errors import AgentError

Main = Callable[[list[str]], int]


def patch_standard_library() -> None:
    """Before a role that serves is imported: blocking calls of libraries become greenlet switches.

    Left alone: subprocess and os, since children are started by vfork and each awaited by its owner; signal, since
    the service installs its own handlers.
    """
    from gevent import monkey

    monkey.patch_all(subprocess=False, os=False, signal=False)


def load_router() -> Main:
    patch_standard_library()
    from roles.router.main import main

    return main


def load_daemon() -> Main:
    patch_standard_library()
    from roles.daemon.main import main

    return main


def load_admin() -> Main:
    from roles.admin.main import main

    return main


def load_globaldb() -> Main:
    from roles.globaldb.main import main

    return main


def load_world() -> Main:
    from roles.world.main import main

    return main


def load_user() -> Main:
    from roles.user.main import main

    return main


def load_key() -> Main:
    from roles.key.main import main

    return main


def load_demo() -> Main:
    from roles.demo.main import main

    return main


def load_demo_server() -> Main:
    from roles.demo.server import main

    return main


ROLES: dict[str, tuple[Callable[[], Main], str]] = {
    "globaldb": (load_globaldb, "the bundled Valkey, for newcomers and small groups"),
    "router": (load_router, "one per group: admits the daemons and relays between them"),
    "daemon": (load_daemon, "one per machine: starts, stops and watches its processes"),
    "admin": (load_admin, "the operator's shell, and one-shot commands for scripts"),
    "world": (load_world, "imports, exports, checks the group's configuration"),
    "user": (load_user, "operators and what they may do"),
    "key": (load_key, "makes the keys of the group and of its machines"),
    "demo": (load_demo, "a small group on this machine, ready to try"),
}
HIDDEN = {"demo-server": load_demo_server}  # the demo's game processes: the binary plays them too


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    try:
        code = run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader of our output is gone (`agent licenses | head`): keep the interpreter's own flush quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first in ROLES:
        return run_role(first, ROLES[first][0], words[1:])
    if first in HIDDEN:
        return run_role(first, HIDDEN[first], words[1:])
    if first in ("--version", "version"):
        return print_version()
    if first == "licenses":
        return print_licences()
    if first in ("--help", "-h", "help"):
        print(usage())
        return 0 if words else 2
    print(f"agent: unknown role {first!r}\n\n{usage()}", file=sys.stderr)
    return 2


def usage() -> str:
    roles = "\n".join(f"    {name:<10}{summary}" for name, (_, summary) in ROLES.items())
    return f"Usage: agent ROLE [OPTIONS]\n\n{roles}\n\n    agent ROLE --help | --version | licenses"


def run_role(role: str, load: Callable[[], Main], argv: list[str]) -> int:
    try:
        return load()(argv)
    except AgentError as error:
        print(f"agent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except SystemExit as wish:
        return exit_code(wish)
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("AGENT_DEBUG"):
            traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        print(f"agent {role}: internal error: {reason}; set AGENT_DEBUG=1 for the traceback", file=sys.stderr)
        return 1


def exit_code(wish: SystemExit) -> int:
    """docopt leaves by SystemExit: with the usage as a text for a wrong command line, with None after --help."""
    if isinstance(wish.code, str):
        print(wish.code, file=sys.stderr)
        return 2
    return wish.code or 0


def print_version() -> int:
    from agent.build import this_build

    print(this_build())
    return 0


def print_licences() -> int:
    from agent.licence import licence_text

    print(licence_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
