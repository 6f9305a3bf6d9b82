"""World: the regions, machines, processes and programs that a group is made of.

Usage:
  agent world import FILE [options]
  agent world export [FILE] [options]
  agent world check FILE [options]
  agent world diff FILE [options]

Commands:
  import   Make globaldb hold what FILE says, all or nothing; shows the difference first.
  export   Write what globaldb holds as JSON, to stdout or to FILE.
  check    Tell everything that is wrong with FILE; needs no globaldb.
  diff     What an import of FILE would change; changes nothing.

Options:
  --globaldb URL    redis://[:password@]host[:port] or rediss://… [default: redis://127.0.0.1:6379]
  --remove-running  Let an import remove processes that run or are wanted up. They are not stopped by that.
  --exit-code       diff: end with 1 if there is a difference.
  --config FILE     TOML file with these options. [default: /etc/agent.toml]
  -h --help         This text.

FILE is JSON, or TOML if its name ends in .toml; - is stdin (JSON):
  {"programs": {type: {"command": […], …}}, "world": {region: {ip: [{"name", "type", "port", …}]}}, "regions": {}}
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from agent import console, settings
from agent.difference import REMOVED, Change, difference
from agent.disk import write_private
from agent.document import read_document, render_document
from agent.errors import ConfigError, StoreDown
from agent.globaldb import GlobalDb
from agent.lifecycle import ALIVE, BACKOFF, UP
from agent.process import Process
from agent.store import Store
from agent.table import safe
from agent.world import World


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "world")
    path = options["FILE"]
    if options["check"]:
        return check(path)
    globaldb = GlobalDb(Store(options["--globaldb"]))
    if options["import"]:
        return import_(globaldb, path, remove_running=options["--remove-running"])
    if options["diff"]:
        changes = show_difference(globaldb.read_world(), read_file(path))
        return 1 if changes and options["--exit-code"] else 0
    return export(globaldb, path)


def check(path: str) -> int:
    print(f"{path}: good: {summary(read_file(path))}")
    return 0


def import_(globaldb: GlobalDb, path: str, remove_running: bool = False) -> int:
    new = read_file(path)
    old = globaldb.read_world()
    for problem in old.problems:
        print(f"in globaldb, will be replaced: {safe(str(problem))}", file=sys.stderr)
    changes = show_difference(old, new)
    if not changes and not old.problems:
        return 0
    running = running_processes(globaldb, removed_processes(old, changes))
    for process, why in running:
        print(f"REMOVES {process.key}, which {why}", file=sys.stderr)
    if running and not remove_running:
        print(
            f"nothing was changed: {len(running)} processes that run or are wanted up would be removed;"
            " stop them first, or say --remove-running (that does not stop them)",
            file=sys.stderr,
        )
        return 1
    atomic = write(globaldb, new, old)
    how = "all at once" if atomic else "one after another, this globaldb has no transactions"
    print(f"imported {len(changes)} changes ({how}): {summary(new)}")
    console.note(globaldb, f"world import {path}", f"{len(changes)} changes")
    return 0


def write(globaldb: GlobalDb, new: World, old: World) -> bool:
    try:
        return globaldb.write_world(new, old)
    except StoreDown as error:
        raise StoreDown(
            f"{error}\nthe import broke off: all, nothing or (on SSDB) a part of it was done;"
            " agent world diff shows what is missing, and the same import again completes it"
        ) from None


def export(globaldb: GlobalDb, path: str | None) -> int:
    world = globaldb.read_world()
    text = render_document(world.document())
    for problem in world.problems:
        print(f"in globaldb, may be left out: {safe(str(problem))}", file=sys.stderr)
    if path in (None, "-"):
        sys.stdout.write(text)
    else:
        try:
            write_private(Path(str(path)), text.encode())
        except OSError as error:
            raise ConfigError(error.strerror or str(error)) from None
        print(f"{path}: {summary(world)}", file=sys.stderr)
    return 1 if world.problems else 0


def read_file(path: str) -> World:
    """A good world; ConfigError with every problem."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    source = "stdin" if path == "-" else path
    return World.from_document(read_document(data, source, toml=path.endswith(".toml")), source)


def show_difference(old: World, new: World) -> list[Change]:
    changes = difference(old, new)
    for change in changes:
        print(safe(str(change)))
    if not changes:
        print(f"no difference: {summary(new)}")
    return changes


def summary(world: World) -> str:
    return (
        f"{len(world.regions)} regions, {len(world.ips())} machines,"
        f" {sum(1 for _ in world.processes())} processes, {len(world.programs)} programs"
    )


def removed_processes(old: World, changes: Sequence[Change]) -> list[Process]:
    keys = (".".join(change.path) for change in changes if change.kind == REMOVED and len(change.path) == 3)
    return [process for process in map(old.process, keys) if process is not None]


def running_processes(globaldb: GlobalDb, processes: Sequence[Process]) -> list[tuple[Process, str]]:
    """Which of them globaldb takes for running, or somebody wants up, and why."""
    found = []
    records = globaldb.read_records([process.key for process in processes], ("state", "wanted", "pid"))
    for process, (state, wanted, pid) in zip(processes, records, strict=True):
        if state in (*ALIVE, BACKOFF):
            found.append((process, f"is {state}" + (f" (pid {safe(pid)})" if pid and pid != "0" else "")))
        elif wanted == UP:
            found.append((process, "is wanted up"))
    return found
