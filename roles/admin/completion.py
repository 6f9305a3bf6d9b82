"""What Tab offers: commands, then what the picture knows at that place of the command. Pure.

The last member of a comma list is completed; what stands before it is kept.
"""

from collections.abc import Iterable
from typing import Any

from agent.errors import UsageError
from agent.messages import GmCatalogue
from agent.names import split_key
from agent.selection import Selection, matcher
from roles.admin.grammar import OPERATIONS, OPTIONS, VERBS
from roles.admin.picture import Picture

MOST = 500  # no operator reads more, and 20,000 would hold up the keyboard


def candidates(line: str, picture: Picture, catalogue: GmCatalogue | None = None) -> tuple[str, list[str]]:
    """The part of `line` (up to the cursor) that a candidate replaces, and the candidates."""
    words = line.split(" ")
    if words[0] == "gm" and len(words) > 1 and catalogue is not None:
        typed = words[-1]
        return typed, [word for word in _gm(words[1:-1], catalogue) if word.startswith(typed)][:MOST]
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
    if verb in ("drain", "cancel", "events") and not rest:
        return [*_names(picture, "*", ""), *_places(picture)]
    if verb in ("start", "stop", "restart", "watch", "drain", "cancel"):
        return _operands(verb, rest, picture)
    return []


def _gm(done: list[str], catalogue: GmCatalogue) -> list[str]:
    """[--any] TARGET COMMAND --argument, as applications have declared them."""
    helps = done[:1] == ["help"]
    rest = [word for word in done if word and word not in ("--any", "help")]
    if not rest:
        names = {key.rpartition(".")[2] for key, *_ in catalogue.processes}
        types = {type_ for _, type_, *_ in catalogue.processes}
        return [*([] if done else ["help", "--any"]), *sorted(names | types)]
    commands = _commands_of(rest[0], catalogue)
    if len(rest) == 1:
        return sorted(commands)
    arguments = commands.get(rest[1], {}).get("arguments", [])
    given = {word.partition("=")[0] for word in rest[2:]}
    return [] if helps else [f"--{each['name']}" for each in arguments if f"--{each['name']}" not in given]


def _commands_of(target: str, catalogue: GmCatalogue) -> dict[str, dict[str, Any]]:
    """Name -> declaration, of every application that the target means."""
    try:
        selection = Selection.parse_target(target)
    except UsageError:
        return {}
    accepts, place = matcher(selection.name), Selection(selection.region, selection.machine)
    commands: dict[str, dict[str, Any]] = {}
    for key, type_, digest, *_ in catalogue.processes:
        region, ip, name = split_key(key)
        if place.matches(region, ip, name) and (accepts is None or accepts(name) or accepts(type_)):
            commands.update({entry["name"]: entry for entry in catalogue.commands.get(digest, [])})
    return commands


def _list(rest: list[str], picture: Picture) -> list[str]:
    if not rest:
        pids = sorted(row.pid for row in picture.rows.values() if row.pid)
        return ["world", "machine", *_places(picture), *map(str, pids)]
    if rest == ["world"]:
        return []
    if rest[0] == "machine":
        return _places(picture) if len(rest) == 1 else _machines(picture, rest[1]) if len(rest) == 2 else []
    return _targets(rest, picture)


def _operands(verb: str, rest: list[str], picture: Picture) -> list[str]:
    """Targets, and behind them options."""
    plain = [word for word in rest if not word.startswith("--")]
    options = [f"--{option}" for group in OPTIONS.get(verb, ()) for option in group] if plain else []
    ahead = ["events"] if verb == "watch" and not rest else []
    return [*ahead, *_targets(plain, picture), *(option for option in options if option not in rest)]


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
