"""What a user may do: verbs × selection, an allow-list.

    start,stop on 大区1:*              every process of 大区1
    gm:kick on *:192.168.1.10.game*    one GM request, processes by glob over "ip.name"
    * on *                             everything, users and the world included

A selection is `*`, or a comma list of REGION:TARGET globs. TARGET is matched against "ip.name", and against
"ip" where a verb concerns a whole machine. A plain ip without glob characters covers that machine's processes
too; a glob never does by its ip alone (`*.1*` must not quietly become "everything on .10").
Nothing granted means nothing allowed. What concerns no machine (user, world, audit) needs a selection of `*`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from agent import names
from agent.errors import ConfigError

VERBS = {
    "list": "see regions, machines, processes",
    "start": "start processes",
    "stop": "stop processes politely",
    "restart": "stop and start processes",
    "kill": "kill a process by pid",
    "tail": "read a process's log",
    "events": "see what applications tell",
    "gm": "send GM requests (gm:NAME for one only)",
    "who": "see who is logged in",
    "audit": "read the audit",
    "user": "manage users and grants",
    "world": "change the world",
    "upgrade": "replace daemons' binaries",
}


@dataclass(frozen=True)
class Grant:
    """One line of an allow-list."""

    verbs: frozenset[str]
    selection: str

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """ConfigError names every problem of the text."""
        words = text.split()
        if len(words) != 3 or words[1] != "on":
            raise ConfigError(f'grant "{text}" is not VERBS on SELECTION, like "start,stop on 大区1:*"')
        verbs, selection = words[0].split(","), words[2]
        problems = [*_verb_problems(verbs), *_selection_problems(selection)]
        if problems:
            raise ConfigError(f'grant "{text}": {"; ".join(problems)}')
        return cls(frozenset(verbs), ",".join(sorted(set(selection.split(",")))))

    def __str__(self) -> str:
        return f"{','.join(sorted(self.verbs))} on {self.selection}"

    def has_verb(self, verb: str) -> bool:
        return "*" in self.verbs or verb in self.verbs or verb.split(":", 1)[0] in self.verbs

    def covers(self, region: str, ip: str, name: str) -> bool:
        target = f"{ip}.{name}" if name else ip
        return any(
            region_glob.match(region) and (target_glob.match(target) or (name and ip == plain_ip))
            for region_glob, target_glob, plain_ip in self._globs
        )

    @cached_property
    def _globs(self) -> list[tuple[re.Pattern[str], re.Pattern[str], str]]:
        """Per member: region pattern, target pattern, and the target itself where it is a plain ip."""
        globs = []
        for member in self.selection.split(","):
            region, _, target = ("*:*" if member == "*" else member).partition(":")
            plain_ip = target if names.is_ip(target) else ""
            globs.append((re.compile(translate(region)), re.compile(translate(target)), plain_ip))
        return globs


def allows(grants: Iterable[Grant], verb: str, region: str = "", ip: str = "", name: str = "") -> bool:
    """Whether any grant has the verb for this process (or for this machine, where `name` is empty)."""
    return any(grant.has_verb(verb) and grant.covers(region, ip, name) for grant in grants)


def parse_grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    """All of them, doubles left out; a ConfigError lists the problems of every text."""
    grants, problems = [], []
    for text in texts:
        try:
            grants.append(Grant.parse(text))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(dict.fromkeys(grants))


def known_grants(texts: Iterable[str]) -> tuple[Grant, ...]:
    """Of a stored user: verbs of a later version (a group is being upgraded) grant nothing here, and spoil nothing.

    ConfigError as of `parse_grants` for whatever else is wrong.
    """
    known = []
    for text in texts:
        verbs, on, selection = text.partition(" on ")
        kept = [verb for verb in verbs.split(",") if not _verb_problems([verb])]
        if kept or not on:
            known.append(f"{','.join(kept)} on {selection}" if on else text)
    return parse_grants(known)


def _verb_problems(verbs: list[str]) -> list[str]:
    problems = []
    for verb in verbs:
        head, colon, rest = verb.partition(":")
        if verb == "*" or (verb in VERBS) or (head == "gm" and colon and rest):
            continue
        hint = names.did_you_mean(verb, VERBS) or f" (there are: {', '.join(VERBS)}, *)"
        problems.append(f'no verb "{verb}"{hint}')
    return problems


def _selection_problems(selection: str) -> list[str]:
    problems = []
    for member in selection.split(","):
        region, colon, target = member.partition(":")
        if member == "*" or (region and colon and target and ":" not in target):
            continue
        problems.append(f'"{member}" is neither * nor REGION:TARGET, like 大区1:* or *:192.168.1.10')
    return problems
