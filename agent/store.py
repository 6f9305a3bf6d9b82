"""globaldb's commands: those that Redis, Valkey and SSDB answer alike, and nothing else. agent/pool.py sends them.

Rules for whoever adds a command here:
- It must be in COMMON, or have a plain way around it that is taken when the server refuses (clock,
  atomically). tests/globaldb_servers.py has a server that refuses everything else.
- Never HSET with several pairs (SSDB silently keeps the first), DEL/EXPIRE/TTL on a hash, SET with options,
  LPOP with a count. HMSET is not atomic on SSDB: no meaning may hang on two fields changing together.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.errors import StoreRefused
from agent.pool import MAX_UNANSWERED, Blob, Command, Pool
from agent.url import DEFAULT_URL, parse_url

COMMON = frozenset(
    "PING AUTH HGET HSET HMSET HMGET HGETALL HKEYS HLEN HEXISTS HDEL HINCRBY GET SET SETNX SETEX EXPIRE TTL DEL"
    " INCR RPUSH LRANGE LLEN LPOP".split()
)


class Store:
    """One globaldb. Raises StoreDown (no answer; it may or may not have happened) and StoreRefused (it said no)."""

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = 3.0) -> None:
        self._pool = Pool(parse_url(url), timeout_s)
        self.place = self._pool.place
        self._has_clock: bool | None = None  # None: not asked yet
        self._has_transactions: bool | None = None
        self._packed: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Blob]] = {}

    # ---- plain commands

    def ping(self) -> None:
        self.command("PING")

    def hget(self, key: str, field: str) -> str | None:
        return self.command("HGET", key, field)

    def hset(self, key: str, field: str, value: str | int | float) -> None:
        self.command("HSET", key, field, value)

    def hmset(self, key: str, values: dict[str, Any]) -> None:
        """Not atomic on SSDB."""
        self.pipeline(hmset_commands(key, values))

    def hmget(self, key: str, fields: Sequence[str]) -> list[str | None]:
        return self.command("HMGET", key, *fields)

    def hgetall(self, key: str) -> dict[str, str]:
        return as_dict(self.command("HGETALL", key))

    def hkeys(self, key: str) -> list[str]:
        return self.command("HKEYS", key)

    def hlen(self, key: str) -> int:
        return self.command("HLEN", key)

    def hexists(self, key: str, field: str) -> bool:
        return bool(self.command("HEXISTS", key, field))

    def hdel(self, key: str, *fields: str) -> None:
        self.pipeline(hdel_commands(key, fields))

    def hincrby(self, key: str, field: str, by: int) -> int:
        """After StoreDown it may or may not have been added: never simply repeat it."""
        return int(self.command("HINCRBY", key, field, by))

    def delete_hash(self, key: str) -> None:
        """Every field there is now; DEL does not remove a hash on SSDB."""
        self.hdel(key, *self.hkeys(key))

    def get(self, key: str) -> str | None:
        return self.command("GET", key)

    def set(self, key: str, value: str | int | float) -> None:
        self.command("SET", key, value)

    def setnx(self, key: str, value: str | int | float) -> bool:
        return bool(self.command("SETNX", key, value))

    def expire(self, key: str, seconds: int) -> bool:
        """String keys only."""
        return bool(self.command("EXPIRE", key, seconds))

    def ttl(self, key: str) -> int:
        """String keys only; below 0 where there is none."""
        return int(self.command("TTL", key))

    def delete(self, key: str) -> None:
        """String keys only; see delete_hash."""
        self.command("DEL", key)

    def rpush(self, key: str, value: str) -> int:
        return int(self.command("RPUSH", key, value))

    def lrange(self, key: str, first: int, last: int) -> list[str]:
        return self.command("LRANGE", key, first, last)

    def llen(self, key: str) -> int:
        return int(self.command("LLEN", key))

    def lpop(self, key: str) -> str | None:
        return self.command("LPOP", key)

    # ---- many at once

    def command(self, *words: str | int | float | bytes) -> Any:
        """One command, one reply."""
        return self._pool.exchange([self._pool.pack([words])])[0]

    def pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """In order, in chunks, not atomic. A StoreRefused comes after all were sent: the others have happened."""
        return self._pool.exchange(list(self._pool.blobs(commands)))

    def hmget_many(self, keys: Sequence[str], fields: Sequence[str]) -> list[tuple[str | None, ...]]:
        """HMGET of every key, as tuples in the order of `fields`.

        The packed commands of the last few (keys, fields) are kept: a tick that asks the same again only
        reads.
        """
        if not keys:
            return []
        wanted = (tuple(keys), tuple(fields))
        blobs = self._packed.pop(wanted, None)
        if blobs is None:
            blobs = list(self._pool.blobs(("HMGET", key, *fields) for key in keys))
            while len(self._packed) >= 4:
                self._packed.pop(next(iter(self._packed)))
        self._packed[wanted] = blobs  # now the newest
        return self._pool.exchange(blobs, tuple)

    def atomically(self, commands: Iterable[Command]) -> list[Any]:
        """All or nothing where the server has MULTI (`has_transactions`); elsewhere in the order given.

        A StoreDown may come after the server has done it all, but never after it has done a part.
        """
        todo = list(self._pool.blobs(commands))
        if not todo or not self.has_transactions():
            return self._pool.exchange(todo)
        return self._pool.transaction(todo)

    # ---- what only some servers have

    def has_transactions(self) -> bool:
        """Asks the server once, by opening and discarding an empty one."""
        if self._has_transactions is None:
            try:
                self.pipeline([("MULTI",), ("DISCARD",)])
                self._has_transactions = True
            except StoreRefused:
                self.ping()  # a refusal for another reason (a wrong password) is raised here
                self._has_transactions = False
        return self._has_transactions

    def clock(self) -> float | None:
        """globaldb's wall clock, None where it does not tell it."""
        if self._has_clock is False:
            return None
        try:
            seconds, microseconds = self.command("TIME")
        except StoreRefused:
            self.ping()
            self._has_clock = False
            return None
        self._has_clock = True
        return int(seconds) + int(microseconds) / 1e6

    def close(self) -> None:
        """Ends idle connections; the store can go on being used."""
        self._pool.close()


def as_dict(flat: list[str]) -> dict[str, str]:
    """HGETALL's reply."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def hmset_commands(key: str, values: dict[str, Any]) -> Iterator[Command]:
    """HMSET in chunks of fields."""
    pairs = list(values.items())
    for at in range(0, len(pairs), MAX_UNANSWERED):
        yield ("HMSET", key, *(word for pair in pairs[at : at + MAX_UNANSWERED] for word in pair))


def hdel_commands(key: str, fields: Sequence[str]) -> Iterator[Command]:
    for at in range(0, len(fields), MAX_UNANSWERED):
        yield ("HDEL", key, *fields[at : at + MAX_UNANSWERED])
