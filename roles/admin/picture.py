"""What a daemon has told about the group: the sum of its PictureChanged notices. Pure; monotonic `now` is passed in.

Rules for editors: a row is kept as it came (a group has 20,000 of them); what a newer daemon adds to a row is cut off,
what an older one leaves out is empty; nothing here decides what is healthy, only `verdict` says so.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from agent.errors import ConfigError
from agent.messages import PROCESS_COLUMNS, PictureChanged
from agent.names import process_key, split_key
from agent.selection import Selection

UP = ("RUNNING", "SILENT")  # their time in this state is an uptime
UNTOLD = "UNKNOWN"  # configured, and no row about it has come
# The order in which verdicts stand side by side; one that is not here comes last.
VERDICTS = (
    "RUNNING", "STARTING", "STOPPING", "BACKOFF", "STOPPED", "EXITED",
    "FATAL", "SILENT", "DEAD", "LOST", "FOREIGN", UNTOLD,
)  # fmt: skip


class Row(NamedTuple):
    """One process; the fields are PROCESS_COLUMNS, then when it came and what the group's clock said then."""

    key: str
    verdict: str = UNTOLD
    wanted: str = ""
    pid: int = 0
    age_s: float | None = None
    startcount: int = 0
    since_at: float = 0.0
    exit: str = ""
    info: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    started_at: float = 0.0
    heard: float = 0.0
    at: float = 0.0

    def age(self, now: float) -> float | None:
        """Seconds since its last report, as far as we know; None where it never reported."""
        return None if self.age_s is None or self.age_s < 0 else self.age_s + max(0.0, now - self.heard)

    def lasted(self, now: float) -> float | None:
        """Seconds it has been in its state, in the group's time."""
        return self._since(self.since_at, now)

    def uptime(self, now: float) -> float | None:
        """Seconds since the process was started, in the group's time; None where none runs."""
        if not self.pid:
            return None
        if self.started_at:
            return self._since(self.started_at, now)
        return self._since(self.since_at, now) if self.verdict in UP else None  # a daemon that tells no start

    def _since(self, moment_at: float, now: float) -> float | None:
        return max(0.0, self.at - moment_at + now - self.heard) if moment_at and self.at else None


class MachineRow(NamedTuple):
    ip: str
    online: bool | None = False  # None: nobody can know, the daemon has no link to the router
    age_s: float | None = None
    info: dict[str, Any] = {}  # noqa: RUF012 -- never written to
    heard: float = 0.0

    def age(self, now: float) -> float | None:
        return None if self.age_s is None or self.age_s < 0 else self.age_s + max(0.0, now - self.heard)


class Change(NamedTuple):
    """A process whose verdict or pid is another; `old` is None for a new one, `new` for one that is gone."""

    key: str
    old: Row | None
    new: Row | None


class Picture:
    def __init__(self) -> None:
        self.regions: dict[str, dict[str, Any]] = {}
        self.world: dict[
            tuple[str, str], dict[str, dict[str, Any]]
        ] = {}  # (region, ip) -> name -> its configuration
        self.machines: dict[str, MachineRow] = {}
        self.rows: dict[str, Row] = {}
        self.problems: list[str] = []
        self.at = 0.0
        self.heard: float | None = None
        self.limited = False  # to what this user may list
        self.trouble = ""  # why nothing newer comes: all of it is as of `heard` then

    # ---- what comes in --------------------------------------------------------------------------------------------

    def apply(self, notice: PictureChanged, now: float) -> None:
        """Merge one notice."""
        self.trouble = notice.trouble
        if notice.trouble:
            return
        if notice.reset:
            self.__init__()  # type: ignore[misc]
        self.heard = now
        self.at = notice.at or self.at
        self.regions.update(notice.regions)
        self._apply_world(notice)
        for entry in notice.machines:
            machine = MachineRow(*entry[:4])._replace(heard=now)
            self.machines[machine.ip] = machine
        self._apply_rows(notice, now)

    def _apply_world(self, notice: PictureChanged) -> None:
        emptied = set()
        for region, ip, processes in notice.world:
            self.regions.setdefault(region, {})
            if not processes and ip in notice.gone:
                self.world.pop((region, ip), None)
                emptied.add(ip)
                continue
            self.world[region, ip] = {str(process.get("name", "")): process for process in processes}
        for ip in notice.gone:
            if "." not in ip or _is_key(ip):
                continue
            for place in [place for place in self.world if place[1] == ip and ip not in emptied]:
                del self.world[place]
            if not any(place[1] == ip for place in self.world):
                self.machines.pop(ip, None)
        told = {region for region, _ip in self.world}
        for word in notice.gone:
            if word in self.regions and word not in told:
                del self.regions[word]

    def _apply_rows(self, notice: PictureChanged, now: float) -> None:
        at, width = self.at, len(PROCESS_COLUMNS)
        for entry in notice.processes:
            self.rows[entry[0]] = Row(*entry[:width])._replace(heard=now, at=at)
        for key in notice.gone:
            place = _split(key)
            if self.rows.pop(key, None) is not None and place is not None:
                self.world.get(place[:2], {}).pop(place[2], None)

    def is_complete(self) -> bool:
        """Whether all that is configured has its row: rows come after the world they belong to."""
        return bool(self.world) and len(self.rows) >= sum(map(len, self.world.values()))

    def until(self, now: float) -> float:
        """The moment up to which it is known to hold."""
        return self.heard if self.trouble and self.heard is not None else now

    # ---- what is asked --------------------------------------------------------------------------------------------

    def every_key(self) -> Iterator[str]:
        """Every process: all that rows have come for, and all that are configured."""
        yield from self.rows
        for (region, ip), names in self.world.items():
            for name in names:
                key = process_key(region, ip, name)
                if key not in self.rows:
                    yield key

    def row(self, key: str) -> Row:
        return self.rows.get(key) or Row(key)

    def configured(self, key: str) -> dict[str, Any]:
        """What the world says about a process; empty where it was not asked for."""
        region, ip, name = split_key(key)
        return self.world.get((region, ip), {}).get(name, {})

    def select(self, selection: Selection) -> list[Row]:
        """The processes of a selection: regions and names in their order, ips as numbers."""
        found = []
        for key in self.every_key():
            place = _split(key)
            if place is not None and selection.matches(*place):
                found.append((place_order(*place), self.row(key)))
        return [row for _order, row in sorted(found, key=lambda pair: pair[0])]

    def with_pid(self, pid: int) -> list[Row]:
        return sorted((row for row in self.rows.values() if row.pid == pid), key=lambda row: row.key)

    def ips(self) -> list[str]:
        """Every machine that is configured or known."""
        return sorted({ip for _region, ip in self.world} | self.machines.keys(), key=ip_order)

    def regions_of(self, ip: str) -> list[str]:
        """A machine may serve several regions."""
        return sorted(region for region, other in self.world if other == ip)

    def machines_of(self, region: str) -> list[str]:
        return sorted((ip for other, ip in self.world if other == region), key=ip_order)

    def names_on(self, ip: str, region: str = "") -> list[str]:
        places = (place for key in self.every_key() if (place := _split(key)) is not None)
        return sorted(
            {name for its_region, its_ip, name in places if its_ip == ip and region in ("", its_region)}
        )

    def pids_on(self, ip: str) -> list[int]:
        return sorted(row.pid for row in self.rows.values() if row.pid and f".{ip}." in row.key)

    def verdicts(self, rows: Iterable[Row] | None = None) -> Counter[str]:
        if rows is None:
            return Counter(self.row(key).verdict for key in self.every_key())
        return Counter(row.verdict for row in rows)

    def online(self) -> int:
        return sum(machine.online is True for machine in self.machines.values())


def changes(before: dict[str, Row], after: dict[str, Row]) -> list[Change]:
    """What a watcher wants to know of two states of `Picture.rows`."""
    found = [
        Change(key, before.get(key), row)
        for key, row in after.items()
        if (old := before.get(key)) is None or old.verdict != row.verdict or old.pid != row.pid
    ]
    found += [Change(key, row, None) for key, row in before.items() if key not in after]
    return sorted(found, key=lambda change: change.key)


def verdict_order(verdict: str) -> tuple[int, str]:
    return (VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS), verdict)


def ip_order(ip: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in ip.split("."))


def place_order(region: str, ip: str, name: str) -> tuple[Any, ...]:
    """game2 before game10."""
    digits = len(name) - len(name.rstrip("0123456789"))
    stem, number = (name[:-digits], int(name[-digits:])) if digits else (name, -1)
    return (region, ip_order(ip), stem, number)


def _split(key: str) -> tuple[str, str, str] | None:
    """The place in a key. A region and a name have no dot, so no pattern is needed for 20,000 of them."""
    region, _, rest = key.partition(".")
    ip, _, name = rest.rpartition(".")
    return (region, ip, name) if ip and name else None


def _is_key(word: str) -> bool:
    try:
        split_key(word)
    except ConfigError:
        return False
    return True
