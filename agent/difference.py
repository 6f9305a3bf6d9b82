"""What differs between two worlds, process by process: what an import would change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.problem import shown
from agent.world import World

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
SIGNS = {ADDED: "+", REMOVED: "-", CHANGED: "~"}


@dataclass(frozen=True)
class Change:
    """One entry that came, went or became another; `old` and `new` are its raw fields (None: not there).

    `path`: ("program", type), ("region", region), (region, ip) of a machine, (region, ip, name) of a process.
    """

    kind: str
    path: tuple[str, ...]
    old: Mapping[str, Any] | None = None
    new: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return " ".join((SIGNS[self.kind], *self.path, *self._details()))

    def _details(self) -> Iterator[str]:
        if self.kind == CHANGED:
            old, new = self.old or {}, self.new or {}
            for name in dict.fromkeys((*old, *new)):
                if name not in new:
                    yield f"{name}={shown(old[name])} → (none)"
                elif name not in old:
                    yield f"{name}=(none) → {shown(new[name])}"
                elif not same(old[name], new[name]):
                    yield f"{name}={shown(old[name])} → {shown(new[name])}"
        elif (entry := self.new or self.old) and len(self.path) == 3:
            port = f" {entry.get('host', '')}:{entry['port']}" if entry.get("port") else ""
            yield f"{entry.get('type', '?')}{port}"


def same(old: Any, new: Any) -> bool:
    """Equality as JSON has it: 1 and true differ, and so do 1 and 1.0."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    return type(old) is type(new) and old == new


def difference(old: World, new: World) -> list[Change]:
    """Programs first, then regions, then machines with their processes, each sorted by name."""
    changes = list(_compare(("program",), old.programs, new.programs))
    changes += _compare(("region",), old.regions, new.regions)
    for region in sorted({*old.machines, *new.machines}):
        before, after = old.machines.get(region, {}), new.machines.get(region, {})
        for ip in sorted({*before, *after}):
            if ip not in before:
                changes.append(Change(ADDED, (region, ip)))
            changes += _compare(
                (region, ip),
                {process.name: process.fields for process in before.get(ip, ())},
                {process.name: process.fields for process in after.get(ip, ())},
            )
            if ip not in after:
                changes.append(Change(REMOVED, (region, ip)))
    return changes


def _compare(
    path: tuple[str, ...], old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield Change(ADDED, (*path, name), None, new[name])
        elif name not in new:
            yield Change(REMOVED, (*path, name), old[name], None)
        elif not same(old[name], new[name]):
            yield Change(CHANGED, (*path, name), old[name], new[name])
