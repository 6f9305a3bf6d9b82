"""Which processes or machines a command is about: three patterns, compiled once.

    [REGION] [IP [NAME]]        start 大区1 192.168.1.* game1,gate*      start 192.168.1.10 all

Every word is a comma list of globs; `all` and `*` are everything. An ip pattern has a dot, or is everything;
a region and a name never have one: so which word is which needs no keyword. A whole process key is one word
too. Where a command takes a single word (`gm`, `events`), it is [REGION:][IP.]NAME:

    game1      game1,game2      大区1:*.chatserver      *:192.168.1.10.game*      大区1.192.168.1.10.game1
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from agent import names
from agent.errors import ConfigError, UsageError

EVERYTHING = "*"
_IP_PATTERN = re.compile(r"[0-9*?]+(\.[0-9*?]+){3}")


def alternatives(pattern: str) -> list[str]:
    """The members of a comma list, `all` spelled `*`; UsageError for an empty one."""
    words = [EVERYTHING if word == "all" else word for word in pattern.split(",")]
    if not all(words):
        raise UsageError(f'"{pattern}" has an empty place in its comma list')
    return words


def has_glob(word: str) -> bool:
    return any(c in word for c in "*?[")


def matcher(pattern: str) -> Callable[[str], object] | None:
    """A predicate for one comma list of globs; None where everything matches."""
    words = alternatives(pattern)
    if EVERYTHING in words:
        return None
    if not any(map(has_glob, words)):
        return frozenset(words).__contains__
    return re.compile("|".join(translate(word) for word in words)).match


@dataclass(frozen=True)
class Selection:
    """Patterns over region, machine ip and process name."""

    region: str = EVERYTHING
    machine: str = EVERYTHING
    name: str = EVERYTHING

    @classmethod
    def parse(cls, words: Sequence[str], regions: Iterable[str] = ()) -> "Selection":
        """From an operator's words; UsageError for a region that is none of `regions` (if given)."""
        if len(words) > 3:
            raise UsageError(f"too many words: {' '.join(words)} (REGION IP NAME at most)")
        if len(words) == 1 and ":" in words[0]:
            return cls.parse_target(words[0])
        region, machine, name = _place(list(words))
        known = list(regions)
        for word in alternatives(region):
            accepts = matcher(word)
            if known and accepts and not any(map(accepts, known)):
                hint = names.did_you_mean(word, known) or f" (there are: {', '.join(sorted(known)[:20])})"
                raise UsageError(f'no region "{word}"{hint}')
        alternatives(machine), alternatives(name)
        return cls(region, machine, name)

    @classmethod
    def parse_target(cls, word: str) -> "Selection":
        """From one word, [REGION:][IP.]NAME or a process key; a word alone is a name. Raises UsageError."""
        try:
            return cls(*names.split_key(word))
        except ConfigError:
            pass
        region, colon, target = word.rpartition(":")
        if (colon and not region) or not target or ":" in region:
            raise UsageError(f'"{word}" is not [REGION:][IP.]NAME, like game1 or 大区1:*.chatserver')
        machine, name = _target(target)
        for pattern in (region, machine, name):
            alternatives(pattern or EVERYTHING)
        return cls(_plain(region or EVERYTHING), _plain(machine), _plain(name))

    @cached_property
    def _region(self) -> Callable[[str], object] | None:
        return matcher(self.region)

    @cached_property
    def _machine(self) -> Callable[[str], object] | None:
        return matcher(self.machine)

    @cached_property
    def _name(self) -> Callable[[str], object] | None:
        return matcher(self.name)

    def matches(self, region: str, ip: str, name: str) -> bool:
        return bool(
            (self._name is None or self._name(name))
            and (self._machine is None or self._machine(ip))
            and (self._region is None or self._region(region))
        )

    def matches_machine(self, region: str, ip: str) -> bool:
        return bool(
            (self._machine is None or self._machine(ip)) and (self._region is None or self._region(region))
        )

    @property
    def is_wide(self) -> bool:
        """Whether it may reach over more than one machine (such commands ask first)."""
        return "," in self.machine or self.machine == "all" or has_glob(self.machine)

    @property
    def word(self) -> str:
        """As `parse_target` takes it."""
        region = "" if self.region == EVERYTHING else f"{self.region}:"
        machine = "" if self.machine == EVERYTHING and self.name != EVERYTHING else f"{self.machine}."
        return f"{region}{machine}{self.name}"

    def __str__(self) -> str:
        return f"{self.region} {self.machine} {self.name}"


def _place(words: list[str]) -> tuple[str, str, str]:
    """Which word is the region, which the machine, which the name."""
    if len(words) == 1:
        try:
            return names.split_key(words[0])
        except ConfigError:
            pass
    leads = bool(words) and not _reads_as_machine(words[0])
    if len(words) == 3 or leads or (len(words) == 2 and "." in words[1]):
        region, rest = words[0], words[1:]
    else:
        region, rest = EVERYTHING, words
    if len(rest) > 2:
        raise UsageError(f"too many words: {' '.join(words)} (REGION IP NAME at most)")
    if rest and not _reads_as_machine(rest[0]):
        hint = " (a pid is a word of kill and list only)" if rest[0].isdigit() else ""
        raise UsageError(f'"{rest[0]}" is not the ip of a machine{hint}')
    machine, name, *_ = [*rest, EVERYTHING, EVERYTHING]
    return _plain(region), _plain(machine), _plain(name)


def _target(target: str) -> tuple[str, str]:
    """(machine, name) of [IP.]NAME; an ip alone is all of that machine."""
    if "." not in target:
        return EVERYTHING, target
    if "," in target.rpartition(".")[0]:
        raise UsageError(f'"{target}": a comma list of machines does not go before a name in one word')
    if _IP_PATTERN.fullmatch(target):
        return target, EVERYTHING
    machine, _, name = target.rpartition(".")
    if not (machine and name):
        raise UsageError(f'"{target}" has an empty place before or behind a dot')
    return machine, name


def _plain(word: str) -> str:
    return EVERYTHING if word == "all" else word


def _reads_as_machine(word: str) -> bool:
    return "." in word or word in (EVERYTHING, "all")
