"""GM commands: the verdict per target, and an operator's words -> the whole arguments of a call. Pure.

    words         kick 1001 --reason "dirty play"          by place or by name: --name value, --name=value, --flag
    given         {"player": 1001, "reason": "dirty play"} from a tool, typed already
    arguments     exactly the declared ones (agent/declaration.py), defaults filled in: an application gets them whole

No word of an operator that may be a secret stands in an error, or in what the audit keeps.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from agent.declaration import TYPES, Argument, Declaration, Wrong
from agent.errors import UsageError
from agent.names import did_you_mean
from agent.problem import shown

MAX_ANSWER_BYTES = 64 * 1024
MASK = "***"


# ---- verdicts -----------------------------------------------------------------------------------------------------

ANSWERED = "answered"  # the application has run it, and this is its answer
REFUSED = "refused"  # the application said no; `text` is its reason
FORBIDDEN = "forbidden"  # this user may not; nothing was sent
INVALID = "invalid"  # no such command there, or arguments that do not fit it; nothing was run
ABSENT = "absent"  # the application has not joined its daemon; nothing was sent
UNREACHABLE = "unreachable"  # its machine cannot be reached, or is overloaded; nothing was sent
TIMED_OUT = "timed_out"  # sent, and the hop named in `text` waited in vain: it may have happened
UNKNOWN = "unknown"  # sent, and then the connection was lost: it may have happened

VERDICTS = (ANSWERED, REFUSED, FORBIDDEN, INVALID, ABSENT, UNREACHABLE, TIMED_OUT, UNKNOWN)
IN_DOUBT = frozenset({TIMED_OUT, UNKNOWN})


class Answer(NamedTuple):
    """What became of one target. `answer` is any JSON value, of ANSWERED only."""

    target: str
    verdict: str
    answer: Any = None
    text: str = ""

    @property
    def good(self) -> bool:
        return self.verdict == ANSWERED


def exit_code(answers: Iterable[Answer]) -> int:
    """As for other commands: 1 some target failed; else 5 in doubt for some; else 4 forbidden for some; else 0. 2 where
    the words fit no target. A verdict that this version does not know counts as in doubt, never as an answer."""
    verdicts = {answer.verdict for answer in answers}
    if verdicts == {INVALID}:
        return 2
    if verdicts & {REFUSED, INVALID, ABSENT, UNREACHABLE}:
        return 1
    if verdicts & IN_DOUBT or verdicts - set(VERDICTS):
        return 5
    return 4 if FORBIDDEN in verdicts else 0


# ---- words -> arguments -------------------------------------------------------------------------------------------


def bind(command: Declaration, words: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole arguments of a call, from an operator's words and a tool's values. UsageError has the usage."""
    try:
        return _bound(command, words, given)
    except Wrong as wrong:
        raise UsageError(f"{command.name}: {wrong}; usage: {command.usage()}") from None


def _bound(command: Declaration, words: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    known = {argument.name: argument for argument in command.arguments}
    secretive = any(
        argument.secret for argument in command.arguments
    )  # any word may be a secret out of its place
    bound: dict[str, Any] = {}
    for name, value in given.items():
        bound[name] = _fitting(_known(name, known), TYPES[_known(name, known).type].check, value)
    if not all(isinstance(word, str) for word in words):
        raise Wrong("its words are not all strings")
    loose: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            loose += rest
            break
        if word.startswith("--"):
            _take_option(word[2:], rest, known, bound, secretive)
        else:
            loose.append(word)
    free = [argument for argument in command.arguments if argument.name not in bound]
    if len(loose) > len(free):
        surplus = MASK if secretive else shown(loose[len(free)])
        raise Wrong(f"too many words from {surplus} on (a text with blanks wants quotes)")
    for argument, word in zip(free, loose, strict=False):
        bound[argument.name] = _fitting(argument, TYPES[argument.type].read, word, secretive)
    missing = [
        argument.name for argument in command.arguments if argument.required and argument.name not in bound
    ]
    if missing:
        raise Wrong(f"{', '.join(missing)} missing")
    return {name: bound.get(name, argument.default) for name, argument in known.items()}


def _take_option(
    option: str, rest: list[str], known: Mapping[str, Argument], bound: dict[str, Any], secretive: bool
) -> None:
    name, equals, value = option.partition("=")
    negated = name.removeprefix("no-")
    if name not in known and negated in known and known[negated].type == "bool" and not equals:
        name, equals, value = negated, "=", "false"
    argument = _known(name, known, secretive)
    if name in bound:
        raise Wrong(f"{name} is given twice")
    if not equals:
        if argument.type == "bool":
            value = "true"
        elif not rest:
            raise Wrong(f"--{name} wants a value")
        else:
            value = rest.pop(0)
    bound[name] = _fitting(argument, TYPES[argument.type].read, value)


def _known(name: str, known: Mapping[str, Argument], secretive: bool = False) -> Argument:
    if name not in known:
        raise Wrong(f"no argument {MASK if secretive else shown(name)}{did_you_mean(name, known)}")
    return known[name]


def _fitting(argument: Argument, take: Callable[[Any], Any], value: Any, secretive: bool = False) -> Any:
    try:
        return take(value)
    except Wrong as wrong:
        masked = f"{MASK} does not fit" if argument.secret or secretive else wrong
        raise Wrong(f"{argument.name}: {masked}") from None
    except RecursionError:  # of `shown`
        raise Wrong(f"{argument.name}: nested too deep") from None


def spoken(command: Declaration, arguments: Mapping[str, Any]) -> str:
    """The call as the audit keeps it: every argument by name, secrets masked."""
    told = [
        f"--{argument.name} {MASK if argument.secret else json.dumps(arguments.get(argument.name), ensure_ascii=False)}"
        for argument in command.arguments
    ]
    return " ".join([command.name, *told])


def agreed(told: Iterable[str], command: str) -> str:
    """One of what several declarations make of the same words; where one has a secret and another has not, a word may
    be either. "" where nobody knows."""
    ways = list(dict.fromkeys(filter(None, told)))
    if len(ways) > 1 and any(MASK in way for way in ways):
        return f"{command} {MASK}"
    return ways[0] if ways else ""


def unspoken(command: str, words: Sequence[Any], given: Mapping[str, Any]) -> str:
    """The same where no declaration is at hand: any argument may be a secret."""
    return f"{command} {MASK}" if words or given else command
