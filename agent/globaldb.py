"""The data contract with game servers in every language (docs/globaldb.md), as methods.

    world                          hash   region -> JSON of attributes: the index of regions
    world:<region>                 hash   ip -> JSON list of processes
    program                        hash   type -> JSON launch fields
    process                        hash   <region>.<ip>.<name> -> time first inserted: the index of records
    process:<region>.<ip>.<name>   hash   info pid lastupdate startcount; by the daemon: wanted state since exit
                                          started incarnation usage (JSON, where the application reports)
    machine:<ip>                   hash   info lastupdate
    user                           hash   name -> JSON verifier and grants
    audit                          list   JSON lines, oldest first
    events:<region>.<ip>.<name>    list   JSON [at, name, data], oldest first: what an application had to tell
    task                           hash   <region>.<ip>.<name> -> JSON (agent.task): what goes on behind a command
    salt                           string random, hex: daemons make up the salts of unknown users from it

What is read may have been written by anybody: the world comes with `problems` instead of an exception,
`info` is handed on as the text it is, and numbers are the caller's to parse. Everything may raise StoreDown
or StoreRefused.
"""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent import names
from agent.errors import ConfigError
from agent.pool import CHUNK, Command
from agent.store import Store, as_dict, hdel_commands, hmset_commands
from agent.task import Task, read_task
from agent.user import User
from agent.world import World

RECORD_FIELDS = (
    "info", "pid", "lastupdate", "startcount", "wanted", "state", "since", "exit", "incarnation", "usage",
    "started",
)  # fmt: skip
MOST_READ = 1024
KEPT_EVENTS = 1000  # of one process
EVENTS_SLACK = 64
EVENTS_AT_ONCE = 50  # processes
EVENTS_READ = 5000  # lines in memory at a time
LAST_AT = 253402128000.0  # two days before the year 10000: later ones are no date in some time zone
AUDIT_LINES = 100_000
AUDIT_SLACK = 256  # trimmed only when it is so much too long, to spare most appends the trouble

Parts = tuple[dict[str, str], dict[str, dict[str, str]], dict[str, str]]  # world, world:<region>, program


class GlobalDb:
    """One group's data."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._regions: list[str] = []  # as they were read last
        self._read: dict[str, tuple[Parts, World]] = {}  # "" or ip -> what was read last, and what it meant

    @property
    def place(self) -> str:
        return self.store.place

    def clock(self) -> float | None:
        return self.store.clock()

    # ---- the world

    def read_world(self) -> World:
        """Everything configured. The very same object as the last time, if nothing has changed since."""
        regions = self.store.hgetall("world")
        *per_region, programs = self.store.pipeline(
            [*(("HGETALL", f"world:{region}") for region in regions), ("HGETALL", "program")]
        )
        machines = {region: as_dict(flat) for region, flat in zip(regions, per_region, strict=True)}
        return self._world("", (regions, machines, as_dict(programs)))

    def read_machine(self, ip: str) -> World:
        """The part of the world that concerns one machine; the same object if unchanged.

        One short exchange as long as the regions are among those of the last time, two when there is a new one.
        """
        asked = self._regions
        while True:
            regions, *per_region, programs = self.store.pipeline(
                [
                    ("HKEYS", "world"),
                    *(("HGET", f"world:{region}", ip) for region in asked),
                    ("HGETALL", "program"),
                ]
            )
            found = dict(zip(asked, per_region, strict=True))
            asked = self._regions = regions
            if found.keys() >= set(regions):
                break
        texts = {region: found[region] for region in regions if found[region] is not None}
        machines = {region: {ip: text} for region, text in texts.items()}
        return self._world(ip, (dict.fromkeys(texts, "{}"), machines, as_dict(programs)))

    def read_ips(self) -> set[str]:
        """The machines of all regions."""
        regions = self.store.hkeys("world")
        per_region = self.store.pipeline(("HKEYS", f"world:{region}") for region in regions)
        return {ip for ips in per_region for ip in ips if names.is_ip(ip)}

    def write_world(self, new: World, old: World) -> bool:
        """Makes globaldb, which holds `old`, hold `new`; True if that was all or nothing.

        Where it cannot be (SSDB), the order is such that no reader sees a process without its program, or a
        region before its machines; a repetition completes what broke off half-way.
        """
        commands = list(self._write_commands(new, old))
        atomic = self.store.has_transactions()
        self.store.atomically(commands)
        return atomic

    def _write_commands(self, new: World, old: World) -> Iterator[Command]:
        regions, machines, programs = self._parts_of(old)
        new_regions, new_machines, new_programs = _texts(new)
        yield from hmset_commands("program", _changed(programs, new_programs))
        for region, texts in new_machines.items():
            yield from hmset_commands(f"world:{region}", _changed(machines.get(region, {}), texts))
        yield from hmset_commands("world", _changed(regions, new_regions))
        yield from hdel_commands("world", _gone(regions, new_regions))
        for region, texts in machines.items():
            yield from hdel_commands(f"world:{region}", _gone(texts, new_machines.get(region, {})))
        yield from hdel_commands("program", _gone(programs, new_programs))

    def _parts_of(self, world: World) -> Parts:
        """The texts `world` was read from, unreadable ones included, if it was the last one read here."""
        parts, last = self._read.get("", (None, None))
        return parts if parts is not None and last is world else _texts(world)

    def _world(self, of: str, parts: Parts) -> World:
        last_parts, last = self._read.get(of, (None, None))
        if last is not None and last_parts == parts:
            return last
        world = World.from_parts(*parts)
        self._read[of] = (parts, world)
        while (
            len(self._read) > MOST_READ
        ):  # somebody asks for machine after machine: the oldest but the whole goes
            del self._read[next(key for key in self._read if key)]
        return world

    # ---- records of processes

    def read_records(
        self, keys: Sequence[str], fields: Sequence[str] = RECORD_FIELDS
    ) -> list[tuple[str | None, ...]]:
        """One tuple per key in the order of `fields`; None where nothing stands. 20,000 in well under 0.1 s."""
        return self.store.hmget_many([f"process:{key}" for key in keys], fields)

    def write_records(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """key -> fields to set; the other fields stay."""
        self.store.pipeline(
            command
            for key, values in records.items()
            for command in hmset_commands(f"process:{key}", dict(values))
        )

    def raise_startcounts(self, targets: Mapping[str, int]) -> None:
        """Raises every `startcount` that is below its target, in two exchanges.

        Only the daemon of the process's machine may call this, and it keeps the targets on its disk: so after a lost
        reply the same call again is harmless, and no start is counted twice or not at all.
        """
        texts = self._startcounts(targets)
        self.store.pipeline(
            ("HINCRBY", f"process:{key}", "startcount", target - _whole(text))
            if _is_whole(text)
            else ("HSET", f"process:{key}", "startcount", target)  # somebody wrote rubbish: nothing to add to
            for (key, target), text in zip(targets.items(), texts, strict=True)
            if _whole(text) < target
        )

    def read_startcounts(self, keys: Sequence[str]) -> dict[str, int]:
        return {key: _whole(text) for key, text in zip(keys, self._startcounts(keys), strict=True)}

    def _startcounts(self, keys: Iterable[str]) -> list[str | None]:
        return self.store.pipeline(("HGET", f"process:{key}", "startcount") for key in keys)

    def add_to_index(self, keys: Sequence[str], at: float) -> None:
        """Enters each process into the index, unless it is there already."""
        there = self.store.pipeline(("HEXISTS", "process", key) for key in keys)
        missing = [key for key, is_there in zip(keys, there, strict=True) if not is_there]
        self.store.pipeline(("HSET", "process", key, at) for key in missing)

    def read_index(self) -> dict[str, str]:
        """Every process that ever had a record -> time first inserted."""
        return self.store.hgetall("process")

    def forget_record(self, key: str) -> None:
        """Removes record and index entry, startcount, events and task included."""
        self.store.delete_hash(f"process:{key}")
        self.store.pipeline([("LPOP", f"events:{key}")] * self.store.llen(f"events:{key}"))
        self.store.hdel("task", key)
        self.store.hdel("process", key)

    # ---- machines

    def read_machines(self, ips: Sequence[str]) -> dict[str, tuple[str | None, str | None]]:
        """ip -> (info, lastupdate)."""
        rows = self.store.hmget_many([f"machine:{ip}" for ip in ips], ("info", "lastupdate"))
        return dict(zip(ips, rows, strict=True))  # type: ignore[arg-type]

    def write_machine(self, ip: str, info: str, at: float) -> None:
        self.store.hmset(f"machine:{ip}", {"info": info, "lastupdate": at})

    # ---- users

    def read_user(self, name: str) -> User | None:
        """ConfigError if the entry is damaged."""
        text = self.store.hget("user", name) if not names.user_problem(name) else None
        return None if text is None else User.from_json(name, text)

    def read_users(self) -> tuple[list[User], list[str]]:
        """All that can be read, by name, and what is wrong with the others."""
        users, problems = [], []
        for name, text in sorted(self.store.hgetall("user").items()):
            try:
                users.append(User.from_json(name, text))
            except ConfigError as error:
                problems.append(str(error))
        return users, problems

    def write_user(self, user: User) -> None:
        self.store.hset("user", user.name, user.json())

    def remove_user(self, name: str) -> None:
        self.store.hdel("user", name)

    def salt_key(self) -> bytes:
        """The same for every daemon: made by whoever comes first."""
        text = self.store.get("salt")
        if not text:
            self.store.setnx("salt", secrets.token_hex(32))
            text = self.store.get("salt") or ""
        return text.encode()

    # ---- events of applications

    def append_events(self, events: Mapping[str, Sequence[str]]) -> None:
        """key -> JSON texts, oldest first. The oldest of a process go when it has more than KEPT_EVENTS."""
        commands: list[Command] = []
        for key, texts in events.items():
            commands += [("RPUSH", f"events:{key}", text) for text in texts]
            commands.append(("LLEN", f"events:{key}"))
        replies = iter(self.store.pipeline(commands))
        surplus: list[Command] = []
        for key, texts in events.items():
            *_, length = [next(replies) for _ in range(len(texts) + 1)]
            if int(length) > KEPT_EVENTS + EVENTS_SLACK:
                surplus += [("LPOP", f"events:{key}")] * min(int(length) - KEPT_EVENTS, 4 * CHUNK)
        if surplus:
            self.store.pipeline(surplus)

    def read_events(self, keys: Sequence[str], count: int) -> list[list[Any]]:
        """The newest `count` of all of them, as [key, at, name, data], oldest first; what is none of ours is left out.

        So many processes at a time that the events of a large group never are in memory together.
        """
        count = min(count, KEPT_EVENTS)
        newest: list[list[Any]] = []
        at_once = max(1, min(EVENTS_AT_ONCE, EVENTS_READ // max(1, count)))
        for at in range(0, len(keys), at_once):
            newest = sorted(newest + self._events_of(keys[at : at + at_once], count), key=_when)[-count:]
        return newest

    def _events_of(self, keys: Sequence[str], count: int) -> list[list[Any]]:
        lists = self.store.pipeline(("LRANGE", f"events:{key}", -count, -1) for key in keys)
        return [
            [key, *row] for key, texts in zip(keys, lists, strict=True) for row in map(_event, texts) if row
        ]

    # ---- tasks

    def read_tasks(self) -> dict[str, Task]:
        """By process key."""
        read = {key: read_task(text) for key, text in self.store.hgetall("task").items()}
        return {
            key: task for key, task in read.items() if task is not None and task.key == key and _is_key(key)
        }

    def write_task(self, task: Task) -> None:
        self.store.hset("task", task.key, task.json())

    def forget_task(self, key: str) -> None:
        self.store.hdel("task", key)

    # ---- audit

    def append_audit(self, *entries: Mapping[str, Any]) -> None:
        """One line each; the oldest go when there are more than AUDIT_LINES.

        Two daemons that trim at the same moment may drop a few lines more than needed, never new ones.
        """
        lines = [json.dumps(entry, ensure_ascii=False, default=str) for entry in entries]
        if not lines:
            return
        *_, length = self.store.pipeline([*(("RPUSH", "audit", line) for line in lines), ("LLEN", "audit")])
        excess = int(length) - AUDIT_LINES
        if excess > AUDIT_SLACK:
            self.store.pipeline([("LPOP", "audit")] * min(excess, 4 * CHUNK))

    def read_audit(self, count: int) -> list[dict[str, Any]]:
        """The newest, oldest first. A line that is no JSON object comes as {"text": line}."""
        return [_entry(line) for line in self.store.lrange("audit", -count, -1)] if count > 0 else []


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    return entry if isinstance(entry, dict) else {"text": line}


def _is_key(text: str) -> bool:
    try:
        names.split_key(text)
    except ConfigError:
        return False
    return True


def _when(row: list[Any]) -> float:
    at: float = row[1]
    return at


def _event(text: str) -> list[Any] | None:
    try:
        at, name, data = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    good = isinstance(at, int | float) and 0 <= at < LAST_AT and isinstance(name, str)
    return [float(at), name, data] if good else None


def _is_whole(text: str | None) -> bool:
    return text is None or re.fullmatch("-?[0-9]{1,18}", text) is not None


def _whole(text: str | None) -> int:
    """A count that anybody may have written."""
    return int(text) if text and _is_whole(text) else 0


def _texts(world: World) -> Parts:
    """As it stands in globaldb."""
    document = world.document()
    return (
        _dump(document["regions"]),
        {region: _dump(ips) for region, ips in document["world"].items()},
        _dump(document["programs"]),
    )


def _dump(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for name, value in values.items()
    }


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in new.items() if old.get(name) != text}


def _gone(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return sorted(old.keys() - new.keys())
