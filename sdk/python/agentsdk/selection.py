"""A target in one word, as operators write it too: [REGION:][IP.]NAME, or a whole process key. Pure.

    game1      game1,game2      大区1:*.chatserver      *:192.168.1.10.game*      大区1.192.168.1.10.game1      *

Each part is a comma list of globs, but for the ip, which is one glob; `all` is `*`; an ip alone is all of its machine.
"""

from __future__ import annotations

import re
from typing import NamedTuple

OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
KEY = re.compile(rf"([^.:,*?\[\]]+)\.({OCTET}(?:\.{OCTET}){{3}})\.([^.:,*?\[\]]+)")
IP_PATTERN = re.compile(r"[0-9*?]+(\.[0-9*?]+){3}")


class Selection(NamedTuple):
    """Patterns over region, machine and name."""

    region: str = "*"
    machine: str = "*"
    name: str = "*"

    def fields(self) -> dict[str, str]:
        return self._asdict()


def parsed(target: str) -> Selection:
    """ValueError for what is no target."""
    key = KEY.fullmatch(target)
    if key:
        return Selection(*key.groups())
    region, colon, rest = target.rpartition(":")
    if (colon and not region) or not rest or ":" in region:
        raise ValueError(f"{target!r} is not [REGION:][IP.]NAME, like game1 or 大区1:*.chatserver")
    machine, name = _place(rest)
    for part in (region or "*", machine, name):
        if not all(part.split(",")):
            raise ValueError(f"{target!r} has an empty place in its comma list")
    return Selection(_plain(region or "*"), _plain(machine), _plain(name))


def of_key(key: str) -> Selection:
    """The parts of a process key; empty where it is none, which a newer agent may have."""
    region, _, rest = key.partition(".")
    machine, _, name = rest.rpartition(".")
    return Selection(region, machine, name)


def _place(rest: str) -> tuple[str, str]:
    if "." not in rest:
        return "*", rest
    if IP_PATTERN.fullmatch(rest):
        return rest, "*"
    machine, _, name = rest.rpartition(".")
    if "," in machine:
        raise ValueError(f"{rest!r}: a comma list of machines does not go before a name in one word")
    return machine, name


def _plain(word: str) -> str:
    return "*" if word == "all" else word
