"""What an operator types -> a Command. Pure; the one list of commands, with their usage and help.

Which word is a region, an ip or a name shows by its shape (agent.selection): an ip has a dot, a region and a name never
have one, a number is a pid. So no live data is needed to read a command; whether the things it names exist is found
out when it runs.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from agent.errors import UsageError
from agent.names import did_you_mean, is_ip
from agent.selection import Selection
from roles.admin import quantity


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
        ("stop [REGION] IP all", "stop [REGION] IP NAME", "stop REGION all", "stop … --force"),
        "stop processes politely, and wait until they are gone",
        "A process whose application says that it can is asked to save first, and is stopped when it has; one that\n"
        "declines goes on. One that is still ending when its time is up is not killed: the outcome says so.\n"
        "--force goes on to SIGKILL, asks first, and says which had not acknowledged that they saved.\n"
        + TARGETS,
    ),
    "restart": Verb(
        (
            "restart [REGION] IP all",
            "restart [REGION] IP NAME",
            "restart REGION all",
            "restart … --when-empty [--deadline 2h]",
        ),
        "stop, then start",
        "--when-empty waits until nobody is on it, behind the scenes (`tasks`); at the deadline it is left as it is.\n"
        + TARGETS,
    ),
    "drain": Verb(
        (
            "drain NAME [--deadline 30m] [--notice TEXT]",
            "drain [REGION] IP NAME [--deadline 30m] [--notice TEXT]",
        ),
        "close its entry, tell its players, wait until they have left, stop it",
        "Goes on behind the scenes, whatever daemons and router do: `tasks` lists, `cancel` ends it and opens the\n"
        "entry again. At the deadline it is stopped with whoever is left; without one it waits for ever.\n"
        + TARGETS,
    ),
    "tasks": Verb(("tasks",), "what goes on behind drain and restart --when-empty"),
    "cancel": Verb(
        ("cancel NAME", "cancel [REGION] IP NAME"), "end what goes on behind a process, and open its entry"
    ),
    "gm": Verb(
        ("gm [--any] TARGET COMMAND [WORDS]", "gm help [TARGET] [COMMAND]", "gm --again ID TARGET COMMAND"),
        "run a GM command in applications; one verdict for each",
        "TARGET is [REGION:][IP.]NAME, where NAME is a name or a type, with globs and comma lists: game1,\n"
        "大区1:*.chatserver, *:192.168.1.10.game*. --any: one of them, whichever can be reached. Words go to the\n"
        'arguments in their order, or by name (--reason "dirty play"); `gm help` has what applications declare.\n'
        "A red command, and one over more than one machine, asks first (--yes in a script). --timeout 60s waits\n"
        "longer than 30 s. What a call without an answer came to: --again with its id; that never runs it twice.",
    ),
    "events": Verb(
        ("events [TARGET] [-n N]",), "what applications had to tell, the newest N (50); live: watch events"
    ),
    "kill": Verb(
        ("kill [REGION] IP PID",),
        "kill one managed process at once (SIGKILL); it saves nothing",
        "The pid must be that of a process the agent keeps on that machine.",
    ),
    "plan": Verb(
        ("plan start|stop|restart|drain [REGION] IP all|NAME", "plan kill [REGION] IP PID"),
        "say what a command would do, and do nothing",
    ),
    "watch": Verb(
        ("watch [[REGION] IP [NAME]]", "watch events [TARGET]"),
        "processes as they change, or what applications tell, until Ctrl-C",
        "In a script it prints one line per change.\n" + TARGETS,
    ),
    "who": Verb(("who",), "who is logged in, on every daemon"),
    "audit": Verb(("audit [N]",), "the newest N commands (50) and what became of them"),
    "help": Verb(("help [COMMAND]",), "this list, or more about one command"),
    "exit": Verb(("exit | quit",), "leave the shell (Ctrl-D too)"),
}
OPERATIONS = ("start", "stop", "restart", "kill", "drain")
AUDIT_LINES = 50
EVENT_LINES = 50


@dataclass(frozen=True)
class Command:
    """One parsed line. `what` tells forms apart: of `list` world, machine, process, key, pid; of `gm` call, help; of
    `watch` processes, events. `operation` is the verb as daemons know it; `options` as messages have them."""

    text: str
    verb: str
    what: str = ""
    selection: Selection = field(default_factory=Selection)
    pid: int = 0
    count: int = 0
    topic: str = ""
    plan: bool = False
    operation: str = ""
    words: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def parse(text: str) -> Command:
    """Raises UsageError with what is wrong and how the command is used."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise UsageError("a quote is not closed") from None
    if not words:
        raise UsageError("no command; `help` lists them")
    verb, rest = words[0], words[1:]
    verb = {"quit": "exit", "?": "help"}.get(verb, verb)
    if verb not in VERBS:
        raise UsageError(f'unknown command "{verb}"{did_you_mean(verb, VERBS)}; `help` lists the commands')
    try:
        return _PARSERS.get(verb, _parse_operation)(" ".join(text.split()), verb, rest)
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
    words, options = _options(words, *OPTIONS.get(verb, ((), ())))
    if not words:
        raise UsageError(f"{verb} what?")
    if verb in ("drain", "cancel") and len(words) == 1:
        selection = Selection.parse_target(words[0])
    else:
        selection = Selection.parse(words)
    if selection.name == "*" and words[-1] not in ("all", "*"):
        raise UsageError(f"{verb} which processes of {' '.join(words)}? name them, or write: {text} all")
    if _is_number(selection.name):
        raise UsageError(
            f'"{selection.name}" is a number, and no process is named so; by its pid one can `kill`'
        )
    operation = verb
    if options.pop("force", False):
        operation = "force-stop"
    elif options.pop("when-empty", False):
        operation = "restart-when-empty"
    elif "deadline" in options and verb == "restart":
        raise UsageError("--deadline goes with --when-empty")
    if "deadline" in options:
        options["deadline_s"] = quantity.seconds(options.pop("deadline"))
    return Command(text, verb, selection=selection, operation=operation, options=options)


# verb -> flags, options with a value
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "stop": (("force",), ()),
    "restart": (("when-empty",), ("deadline",)),
    "drain": ((), ("deadline", "notice")),
}


def _options(
    words: list[str], flags: Iterable[str], valued: Iterable[str]
) -> tuple[list[str], dict[str, Any]]:
    """The other words, and what was found: flag -> True, option -> its text."""
    rest: list[str] = []
    found: dict[str, Any] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            rest.append(word)
        elif name in flags and not equals:
            found[name] = True
        elif name in valued:
            if not equals and not waiting:
                raise UsageError(f"--{name} wants a value")
            found[name] = value if equals else waiting.pop(0)
        else:
            known = [*flags, *valued]
            raise UsageError(f'no option "{word}"{did_you_mean(name, known)}')
    return rest, found


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
    return Command(text, "kill", selection=Selection(region, ip, "*"), pid=_pid(pid), operation="kill")


def _parse_plan(text: str, _verb: str, words: list[str]) -> Command:
    if not words:
        raise UsageError("plan what?")
    if words[0] not in OPERATIONS:
        raise UsageError(f'"{words[0]}" cannot be planned{did_you_mean(words[0], OPERATIONS)}')
    planned = _parse_operation(" ".join(words), words[0], words[1:])
    return replace(planned, text=text, plan=True)


def _parse_watch(text: str, verb: str, words: list[str]) -> Command:
    if words[:1] == ["events"]:
        return Command(text, verb, "events", _event_selection(words[1:]))
    return Command(text, verb, "processes", selection=Selection.parse(words))


def _parse_events(text: str, verb: str, words: list[str]) -> Command:
    count = EVENT_LINES
    if "-n" in words:
        at = words.index("-n")
        if len(words) == at + 1 or not _is_number(words[at + 1]):
            raise UsageError("-n wants a number of lines")
        count = int(words[at + 1][:6])
        words = words[:at] + words[at + 2 :]
    return Command(text, verb, selection=_event_selection(words), count=count)


def _event_selection(words: list[str]) -> Selection:
    return Selection.parse_target(words[0]) if len(words) == 1 else Selection.parse(words)


def _parse_gm(text: str, verb: str, words: list[str]) -> Command:
    """Our own options stand before the target: what is behind it is the application's."""
    if words[:1] == ["help"]:
        if len(words) > 3:
            raise UsageError("gm help takes a target and a command")
        selection = Selection.parse_target(words[1]) if len(words) > 1 else Selection()
        return Command(text, verb, "help", selection, topic=words[2] if len(words) > 2 else "")
    ahead = 0
    while ahead < len(words) and words[ahead].startswith("--"):
        ahead += 1 if words[ahead] == "--any" or "=" in words[ahead] else 2
    _, options = _options(words[:ahead], ("any",), ("again", "timeout"))
    rest = words[ahead:]
    if not rest:
        raise UsageError("gm whom?")
    if len(rest) < 2:
        raise UsageError(f"gm {rest[0]} what? (`gm help {rest[0]}` lists its commands)")
    if "timeout" in options:
        options["timeout"] = quantity.seconds(options["timeout"])
    selection = Selection.parse_target(rest[0])
    return Command(text, verb, "call", selection, topic=rest[1], words=tuple(rest[2:]), options=options)


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
    "events": _parse_events,
    "gm": _parse_gm,
    "tasks": _parse_bare,
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
