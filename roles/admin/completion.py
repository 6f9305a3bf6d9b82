"""What Tab offers: commands, then what the picture knows at that place of the command. Pure.

The last member of a comma list is completed; what stands before it is kept.
"""

from collections.abc import Iterable

from roles.admin.grammar import OPERATIONS, VERBS
from roles.admin.picture import Picture

MOST = 500  # no operator reads more, and 20,000 would hold up the keyboard


def candidates(line: str, picture: Picture) -> tuple[str, list[str]]:
    """The part of `line` (up to the cursor) that a candidate replaces, and the candidates."""
    words = line.split(" ")
    done, typed = [word for word in words[:-1] if word], words[-1]
    before, comma, last = typed.rpartition(",")
    offered = _ahead(done, picture) if not comma else _plain(_ahead(done, picture))
    taken = set(before.split(",")) if comma else set()
    return last, [word for word in offered if word.startswith(last) and word not in taken][:MOST]


def _ahead(done: list[str], picture: Picture) -> list[str]:
    """Every word that may come next."""
    if not done:
        return [*VERBS, "quit"]
    verb, rest = done[0], done[1:]
    if verb == "help":
        return list(VERBS) if not rest else []
    if verb == "plan":
        return _ahead(rest, picture) if rest and rest[0] in OPERATIONS else [] if rest else list(OPERATIONS)
    if verb == "list":
        return _list(rest, picture)
    if verb == "kill":
        return _kill(rest, picture)
    if verb in ("start", "stop", "restart", "watch"):
        return _targets(rest, picture)
    return []


def _list(rest: list[str], picture: Picture) -> list[str]:
    if not rest:
        pids = sorted(row.pid for row in picture.rows.values() if row.pid)
        return ["world", "machine", *_places(picture), *map(str, pids)]
    if rest == ["world"]:
        return []
    if rest[0] == "machine":
        return _places(picture) if len(rest) == 1 else _machines(picture, rest[1]) if len(rest) == 2 else []
    return _targets(rest, picture)


def _targets(rest: list[str], picture: Picture) -> list[str]:
    """[REGION] IP [NAME]"""
    if not rest:
        return ["all", *_places(picture)]
    if "." in rest[-1] and len(rest) <= 2:
        return ["all", *_names(picture, rest[-1], rest[0] if len(rest) == 2 else "")]
    if len(rest) == 1:
        return ["all", *_machines(picture, rest[0])]
    return []


def _kill(rest: list[str], picture: Picture) -> list[str]:
    if not rest:
        return _places(picture)
    if "." in rest[-1] and len(rest) <= 2:
        return [str(pid) for pid in picture.pids_on(rest[-1])]
    return _machines(picture, rest[0]) if len(rest) == 1 else []


def _places(picture: Picture) -> list[str]:
    return [*sorted(picture.regions), *picture.ips()]


def _machines(picture: Picture, region: str) -> list[str]:
    return picture.machines_of(region) if region in picture.regions else picture.ips()


def _names(picture: Picture, ip: str, region: str) -> list[str]:
    """Of that machine; of every machine where the ip is a pattern."""
    if ip in picture.ips():
        return picture.names_on(ip, region if region in picture.regions else "")
    return sorted({name for processes in picture.world.values() for name in processes})


def _plain(words: Iterable[str]) -> list[str]:
    """What may stand in a comma list."""
    return [word for word in words if word not in ("all", "world", "machine")]
