"""What an operator types -> a Command. Pure; the one list of commands, with their usage and help.

Which word is a region, an ip or a name shows by its shape (agent.selection): an ip has a dot, a region and a name never
have one, a number is a pid. So no live data is needed to read a command; whether the things it names exist is found
out when it runs.
"""

from dataclasses import dataclass, field

from agent.errors import UsageError
from agent.names import did_you_mean, is_ip
from agent.selection import Selection


@dataclass(frozen=True)
class Verb:
    """A row of the help."""

    usage: tuple[str, ...]
    help: str
    more: str = ""


TARGETS = (
    "IP and NAME take globs and comma lists (192.168.1.* game1,gate*); a region may stand before the ip;\n"
    "`all` is every machine, or every process. A command over more than one machine asks first (--yes in a script)."
)

VERBS = {
    "list": Verb(
        ("list world", "list machine [REGION] [IP]", "list [REGION] IP [NAME]", "list REGION", "list PID"),
        "regions, machines, processes, or everything about one process",
        "A number is a pid. `list REGION.IP.NAME` tells everything about one process too.\n" + TARGETS,
    ),
    "start": Verb(
        ("start [REGION] IP all", "start [REGION] IP NAME", "start REGION all"),
        "start processes; one that runs already is left alone",
        TARGETS,
    ),
    "stop": Verb(
        ("stop [REGION] IP all", "stop [REGION] IP NAME", "stop REGION all"),
        "stop processes politely, and wait until they are gone",
        f"A process that is still saving when its time is up is not killed: the outcome says so.\n{TARGETS}",
    ),
    "restart": Verb(
        ("restart [REGION] IP all", "restart [REGION] IP NAME", "restart REGION all"),
        "stop, then start",
        TARGETS,
    ),
    "kill": Verb(
        ("kill [REGION] IP PID",),
        "kill one managed process at once (SIGKILL); it saves nothing",
        "The pid must be that of a process the agent keeps on that machine.",
    ),
    "plan": Verb(
        ("plan start|stop|restart [REGION] IP all|NAME", "plan kill [REGION] IP PID"),
        "say what a command would do, and do nothing",
    ),
    "watch": Verb(
        ("watch [[REGION] IP [NAME]]",),
        "processes as they change, until Ctrl-C",
        "In a script it prints one line per change.\n" + TARGETS,
    ),
    "who": Verb(("who",), "who is logged in, on every daemon"),
    "audit": Verb(("audit [N]",), "the newest N commands (50) and what became of them"),
    "help": Verb(("help [COMMAND]",), "this list, or more about one command"),
    "exit": Verb(("exit | quit",), "leave the shell (Ctrl-D too)"),
}
OPERATIONS = ("start", "stop", "restart", "kill")
AUDIT_LINES = 50


@dataclass(frozen=True)
class Command:
    """One parsed line. `what` tells the forms of `list` apart: world, machine, process, key, pid."""

    text: str
    verb: str
    what: str = ""
    selection: Selection = field(default_factory=Selection)
    pid: int = 0
    count: int = 0
    topic: str = ""
    plan: bool = False


def parse(text: str) -> Command:
    """Raises UsageError with what is wrong and how the command is used."""
    words = text.split()
    if not words:
        raise UsageError("no command; `help` lists them")
    verb, rest = words[0], words[1:]
    verb = {"quit": "exit", "?": "help"}.get(verb, verb)
    if verb not in VERBS:
        raise UsageError(f'unknown command "{verb}"{did_you_mean(verb, VERBS)}; `help` lists the commands')
    try:
        return _PARSERS.get(verb, _parse_operation)(" ".join(words), verb, rest)
    except UsageError as error:
        raise UsageError(f"{error}\nusage: {usage(verb)}") from None


def usage(verb: str) -> str:
    return "\n       ".join(VERBS[verb].usage)


def _parse_list(text: str, verb: str, words: list[str]) -> Command:
    if not words:
        raise UsageError("list what?")
    if words == ["world"]:
        return Command(text, verb, "world")
    if words[0] == "machine":
        selection = Selection.parse(words[1:])
        if len(words) > 3:
            raise UsageError(f"too many words: {text}")
        return Command(text, verb, "machine", selection)
    if len(words) == 1 and _is_number(words[0]):
        return Command(text, verb, "pid", pid=_pid(words[0]))
    selection = Selection.parse(words)
    return Command(text, verb, "key" if _is_one(selection) and len(words) == 1 else "process", selection)


def _parse_operation(text: str, verb: str, words: list[str]) -> Command:
    if verb == "kill":
        return _parse_kill(text, words)
    if not words:
        raise UsageError(f"{verb} what?")
    selection = Selection.parse(words)
    if selection.name == "*" and words[-1] not in ("all", "*"):
        raise UsageError(f"{verb} which processes of {' '.join(words)}? name them, or write: {text} all")
    if _is_number(selection.name):
        raise UsageError(
            f'"{selection.name}" is a number, and no process is named so; by its pid one can `kill`'
        )
    return Command(text, verb, selection=selection)


def _parse_kill(text: str, words: list[str]) -> Command:
    if len(words) not in (2, 3):
        raise UsageError("kill takes the ip of one machine and a pid")
    region, ip, pid = words if len(words) == 3 else ("*", *words)
    if not is_ip(ip):
        raise UsageError(f'"{ip}" is not the ip of one machine: kill takes one')
    if not _is_number(pid):
        raise UsageError(f'"{pid}" is not a pid; to stop a process by its name: stop {ip} {pid}')
    if _pid(pid) == 1:
        raise UsageError("pid 1 is the first process of the machine, and never one that the agent started")
    return Command(text, "kill", selection=Selection(region, ip, "*"), pid=_pid(pid))


def _parse_plan(text: str, _verb: str, words: list[str]) -> Command:
    if not words:
        raise UsageError("plan what?")
    if words[0] not in OPERATIONS:
        raise UsageError(f'"{words[0]}" cannot be planned{did_you_mean(words[0], OPERATIONS)}')
    planned = _parse_operation(" ".join(words), words[0], words[1:])
    return Command(text, planned.verb, selection=planned.selection, pid=planned.pid, plan=True)


def _parse_watch(text: str, verb: str, words: list[str]) -> Command:
    return Command(text, verb, selection=Selection.parse(words))


def _parse_audit(text: str, verb: str, words: list[str]) -> Command:
    if len(words) > 1 or (words and not _is_number(words[0])):
        raise UsageError("audit takes a number of lines")
    return Command(text, verb, count=int(words[0]) if words else AUDIT_LINES)


def _parse_help(text: str, verb: str, words: list[str]) -> Command:
    topic = "exit" if words == ["quit"] else " ".join(words)
    if topic and topic not in VERBS:
        raise UsageError(f'no command "{topic}"{did_you_mean(topic, VERBS)}; there are {", ".join(VERBS)}')
    return Command(text, verb, topic=topic)


def _parse_bare(text: str, verb: str, words: list[str]) -> Command:
    if words:
        raise UsageError(f"{verb} takes nothing behind it")
    return Command(text, verb)


_PARSERS = {
    "list": _parse_list,
    "plan": _parse_plan,
    "watch": _parse_watch,
    "audit": _parse_audit,
    "help": _parse_help,
    "who": _parse_bare,
    "exit": _parse_bare,
}


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _pid(word: str) -> int:
    pid = int(word[:20])
    if not 0 < pid < 2**31:
        raise UsageError(f'"{word}" is not a pid')
    return pid


def _is_one(selection: Selection) -> bool:
    """Whether the selection is one process by its whole key."""
    return is_ip(selection.machine) and not any(c in selection.region + selection.name for c in "*?[,")
