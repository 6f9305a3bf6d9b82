"""Which processes a command is about: all that its words name, or none.

    words ─► what they select ─► of it what the user may see ─► every plain word has its match? ─► targets

A word that matches nothing is a mistake, and beside words that do match it would go unseen: the whole command is
refused, before anything is done. What a user may neither see nor touch is for him as if it were not there.
"""

from collections.abc import Iterator

from agent.errors import Refused
from agent.grant import Grant
from agent.names import did_you_mean
from agent.process import Process
from agent.selection import EVERYTHING, Selection, alternatives, has_glob
from roles.daemon.rights import may
from roles.daemon.state import DaemonState

SHOWN = 5


def targets(
    state: DaemonState, user: str, grants: tuple[Grant, ...], verb: str, selection: Selection
) -> list[Process]:
    """What `selection` names, of what the user may see or do `verb` to. Raises Refused."""
    found = [process for process in state.select(selection) if _visible(grants, verb, process)]
    unmatched = list(_unmatched(selection, found))
    if found and not unmatched:
        return found
    if not found and not any(grant.has_verb(verb) for grant in grants):
        raise Refused("forbidden", f"user {user} may not {verb} anything")
    texts = _Known(state, grants, verb, selection).missing(unmatched)
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    raise Refused("unknown_target", f"{'; '.join(texts[:SHOWN])}{more}: nothing was done")


def forbidden(user: str, verb: str, processes: list[Process]) -> Refused:
    """He sees them, but may do it to none of them."""
    what = processes[0].key if len(processes) == 1 else f"any of these {len(processes)} processes"
    return Refused("forbidden", f"user {user} may not {verb} {what}")


def no_machine(state: DaemonState, grants: tuple[Grant, ...], verb: str, selection: Selection) -> Refused:
    (text,) = _Known(state, grants, verb, selection).missing([("ip", selection.machine)])
    return Refused("unknown_target", f"{text}: nothing was done")


def _visible(grants: tuple[Grant, ...], verb: str, process: Process) -> bool:
    return may(grants, verb, process) or may(grants, "list", process)


def _unmatched(selection: Selection, found: list[Process]) -> Iterator[tuple[str, str]]:
    """(column, plain word) that none of `found` has."""
    for column, pattern in (
        ("region", selection.region),
        ("ip", selection.machine),
        ("name", selection.name),
    ):
        words = [word for word in alternatives(pattern) if not has_glob(word)]
        if words:
            there = {getattr(process, column) for process in found}
            yield from ((column, word) for word in words if word not in there)


class _Known:
    """What there is of the world for this user: what a hint may name."""

    def __init__(
        self, state: DaemonState, grants: tuple[Grant, ...], verb: str, selection: Selection
    ) -> None:
        try:
            world = state.atlas.world()
        except Refused:
            world = state.atlas.world_of(selection.machine)
        self._selection = selection
        self._processes = [process for process in world.processes() if _visible(grants, verb, process)]
        self._ips = {process.ip for process in self._processes}
        self._regions = {process.region for process in self._processes}
        self._names = {process.name for process in self._processes}
        if any(grant.has_verb("list") and grant.selection == EVERYTHING for grant in grants):
            self._ips |= world.ips()
            self._regions |= set(world.regions)

    def missing(self, unmatched: list[tuple[str, str]]) -> list[str]:
        """What to say of words without a match: of places that are none, else of names, else what is empty."""
        nouns = {"region": ("region", self._regions), "ip": ("machine", self._ips)}
        return (
            [
                f"no {nouns[column][0]} {word}{did_you_mean(word, nouns[column][1])}"
                for column, word in unmatched
                if column in nouns and word not in nouns[column][1]
            ]
            or [self._no_name(word) for column, word in unmatched if column == "name"]
            or [self._nothing(**{column: word}) for column, word in unmatched]
            or [self._nothing()]
        )

    def _no_name(self, word: str) -> str:
        where = Selection(self._selection.region, self._selection.machine)
        near = {p.name for p in self._processes if where.matches(p.region, p.ip, p.name)}
        return f"no process {word}{self._place()}{did_you_mean(word, near or self._names)}"

    def _nothing(self, region: str = "", ip: str = "") -> str:
        name = self._selection.name
        return f"no process{'' if name == EVERYTHING else f' {name}'}{self._place(region, ip)}"

    def _place(self, region: str = "", ip: str = "") -> str:
        ip, region = ip or self._selection.machine, region or self._selection.region
        return (f" on {ip}" if ip != EVERYTHING else "") + (f" in {region}" if region != EVERYTHING else "")
