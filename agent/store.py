"""globaldb's connection: the commands that Redis, Valkey and SSDB answer alike, and nothing else.

Rules for whoever adds a command here:
- It must be in COMMON, or have a plain way around it that is taken when the server refuses (clock,
  atomically). tests/globaldb_servers.py has a server that refuses everything else.
- Never HSET with several pairs (SSDB silently keeps the first), DEL/EXPIRE/TTL on a hash, SET with options,
  LPOP with a count. HMSET is not atomic on SSDB: no meaning may hang on two fields changing together.
- Nothing is ever sent twice on its own account: redis-py's retries applied an HINCRBY twice when a reply
  was late.
- At most MAX_UNANSWERED commands are under way at once (a giant pipeline dead-locks SSDB).
- What was given up does not arrive later: closing drops what the kernel has not delivered yet.
- A connection is used again only if every reply was read to its end. Whatever interrupts (a time-out, a
  killed greenlet), it is thrown away: half a reply would answer the next question.

Blocks the greenlet (or, unpatched, the thread) that asks; several may ask at once, each has its own
connection.
"""

import fcntl
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis
import redis.connection
import redis.exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser

from agent import address
from agent.errors import ConfigError, StoreDown, StoreRefused, UsageError

DEFAULT_URL = "redis://127.0.0.1:6379"
DEFAULT_PORT = 6379
MAX_UNANSWERED = 500
CHUNK = MAX_UNANSWERED // 2  # the next one is under way while the replies of the last are read
CONNECTIONS = 4
TCP_ESTABLISHED = 1  # linux/tcp_states.h
NOTHING = bytes(4)  # FIONREAD's int

COMMON = frozenset(
    "PING AUTH HGET HSET HMSET HMGET HGETALL HKEYS HLEN HEXISTS HDEL HINCRBY GET SET SETNX SETEX EXPIRE TTL DEL"
    " INCR RPUSH LRANGE LLEN LPOP".split()
)

Command = Sequence[str | int | float | bytes]
Blob = tuple[bytes, int]  # packed commands, and how many


DROP_UNSENT = struct.pack("ii", 1, 0)


class _Parser(_HiredisParser):
    """redis-py's parser, and many replies in one call: its own way costs more per reply than hiredis itself."""

    def on_connect(self, connection: redis.connection.Connection, **options: Any) -> None:
        super().on_connect(connection, **options)
        # A request that was given up must not arrive later: without this the kernel would go on resending it after
        # close, and an HINCRBY could be applied after we had looked whether it was.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, DROP_UNSENT)

    def read_many(self, count: int) -> list[Any]:
        """Replies as they come; an error reply is an exception in the list."""
        replies: list[Any] = []
        gets = self._reader.gets
        while len(replies) < count:
            reply = gets()
            if reply is NOT_ENOUGH_DATA:
                self.read_from_socket()
            else:
                replies.append(reply)
        return replies


class Store:
    """One globaldb. Raises StoreDown (no answer; it may or may not have happened) and StoreRefused (it said no)."""

    def __init__(self, url: str = DEFAULT_URL, *, timeout_s: float = 3.0) -> None:
        self.place, self._kind, self._options = parse_url(url)
        self._timeout_s = timeout_s
        self._idle: list[redis.connection.Connection] = []
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
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
        return self._exchange([self._pack([words])])[0]

    def pipeline(self, commands: Iterable[Command]) -> list[Any]:
        """In order, in chunks, not atomic. A StoreRefused comes after all were sent: the others have happened."""
        return self._exchange(list(self._blobs(commands)))

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
            blobs = list(self._blobs(("HMGET", key, *fields) for key in keys))
            while len(self._packed) >= 4:
                self._packed.pop(next(iter(self._packed)))
        self._packed[wanted] = blobs  # now the newest
        return self._exchange(blobs, tuple)

    def atomically(self, commands: Iterable[Command]) -> list[Any]:
        """All or nothing where the server has MULTI (`has_transactions`); elsewhere in the order given.

        A StoreDown may come after the server has done it all, but never after it has done a part.
        """
        todo = list(self._blobs(commands))
        if not todo or not self.has_transactions():
            return self._exchange(todo)
        with self._connection() as connection:
            try:
                self._converse(connection, [self._pack([("MULTI",)]), *todo], _as_it_is)
                replies = self._converse(connection, [self._pack([("EXEC",)])], _as_it_is)[0]
            except StoreRefused:
                connection.disconnect()  # the server forgets what was queued
                raise
            self._raise_refusal(replies)
            return replies

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
        while self._idle:
            self._idle.pop().disconnect()

    # ---- connections

    @contextmanager
    def _connection(self) -> Iterator[redis.connection.Connection]:
        """A connection of one's own. It goes back to the others only if nothing but a refusal came up."""
        if not self._slots.acquire(timeout=self._timeout_s):
            raise StoreDown(
                f"globaldb {self.place}: all {CONNECTIONS} connections were busy for {self._timeout_s:g} s"
            )
        connection = None
        clean = False
        try:
            connection = self._idle_connection() or self._connect()
            yield connection
            clean = True
        except StoreRefused:
            clean = True
            raise
        except redis.exceptions.ResponseError as error:
            raise self._refused(error) from None
        except redis.exceptions.AuthenticationError as error:
            raise self._refused(error) from None
        except (redis.exceptions.RedisError, OSError) as error:
            raise self._down(error) from None
        finally:
            if connection is not None:
                if clean and connection.is_connected:
                    self._idle.append(connection)
                else:
                    connection.disconnect()
            self._slots.release()

    def _idle_connection(self) -> redis.connection.Connection | None:
        """One that the server has not closed meanwhile (its restart shall not cost anyone an error)."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if _is_quiet(connection) or not connection.can_read(0):
                    return connection
            except (redis.exceptions.RedisError, OSError):
                pass
            connection.disconnect()
        return None

    def _connect(self) -> redis.connection.Connection:
        connection = self._kind(
            protocol=2,
            db=0,
            client_name=None,
            driver_info=None,
            retry=None,  # means none: Retry(NoBackoff(), 0)
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            parser_class=_Parser,
            decode_responses=True,
            encoding_errors="replace",
            **self._options,
        )
        connection.connect()
        return connection

    def _exchange(self, blobs: list[Blob], convert: Callable[[Any], Any] | None = None) -> list[Any]:
        if not blobs:
            return []
        with self._connection() as connection:
            return self._converse(connection, blobs, convert or _as_it_is)

    def _converse(
        self, connection: redis.connection.Connection, blobs: list[Blob], convert: Callable[[Any], Any]
    ) -> list[Any]:
        """Sends and reads, two chunks under way; lets other greenlets run between chunks."""
        replies: list[Any] = []
        refusal = None
        sent = 0
        for at, (_, count) in enumerate(blobs):
            while sent < len(blobs) and sent < at + 2:
                connection.send_packed_command([blobs[sent][0]], check_health=False)
                sent += 1
            chunk = connection._parser.read_many(count)
            refusal = refusal or next((reply for reply in chunk if isinstance(reply, Exception)), None)
            if refusal is None:
                replies += chunk if convert is _as_it_is else map(convert, chunk)
            if len(blobs) > 1:
                time.sleep(0)
        if refusal is not None:
            self._raise_refusal([refusal])
        return replies

    def _pack(self, commands: Sequence[Command]) -> Blob:
        try:
            return b"".join(hiredis.pack_command(tuple(command)) for command in commands), len(commands)  # type: ignore[arg-type]
        except UnicodeEncodeError:
            raise StoreRefused(
                f"globaldb {self.place}: half a surrogate pair is no text; nothing was sent"
            ) from None

    def _blobs(self, commands: Iterable[Command]) -> Iterator[Blob]:
        chunk: list[Command] = []
        for command in commands:
            chunk.append(command)
            if len(chunk) == CHUNK:
                yield self._pack(chunk)
                chunk = []
        if chunk:
            yield self._pack(chunk)

    # ---- errors

    def _raise_refusal(self, replies: Iterable[Any]) -> None:
        for reply in replies:
            if isinstance(reply, redis.exceptions.AuthenticationError):
                raise self._refused(reply)
            if isinstance(reply, redis.exceptions.ConnectionError):  # LOADING and the like
                raise self._down(reply)
            if isinstance(reply, Exception):
                raise self._refused(reply)

    def _refused(self, error: Exception) -> StoreRefused:
        if isinstance(error, redis.exceptions.AuthenticationError) or "AUTH" in str(error)[:12]:
            return StoreRefused(
                f"globaldb {self.place}: its password is wrong or missing ({error});"
                " the URL is redis://:PASSWORD@HOST:PORT"
            )
        return StoreRefused(f"globaldb {self.place}: it refused: {error}")

    def _down(self, error: Exception) -> StoreDown:
        if isinstance(error, (redis.exceptions.TimeoutError, TimeoutError)):
            what = f"no answer within {self._timeout_s:g} s"
        else:
            cause = error if isinstance(error, OSError) else error.__context__
            what = (isinstance(cause, OSError) and cause.strerror) or str(error).rstrip(".")
        return StoreDown(
            f"globaldb {self.place}: {what} (is it running? the URL comes from --globaldb or AGENT_GLOBALDB)"
        )


def _is_quiet(connection: redis.connection.Connection) -> bool:
    """Connected, and nothing has come unasked: two short system calls, where can_read(0) costs as much as a command."""
    sock = connection._sock
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
        return False
    return fcntl.ioctl(sock.fileno(), termios.FIONREAD, NOTHING) == NOTHING


def _as_it_is(reply: Any) -> Any:
    return reply


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


def parse_url(url: str) -> tuple[str, type[redis.connection.Connection], dict[str, Any]]:
    """`(the URL without its password, connection class, its options)`; ConfigError says what is wrong with it.

    redis://[[user]:password@]host[:port]        rediss://… the same over TLS; ?ca=FILE trusts that authority
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(
            "the globaldb URL cannot be read; like redis://:PASSWORD@192.168.1.5:6379"
        ) from None
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ConfigError(
            f"the globaldb URL is not redis://… or rediss://HOST[:PORT] (it begins with {url[:8]!r})"
        )
    place = f"{parts.scheme}://{address.Address(host, DEFAULT_PORT if port is None else port)}"
    if parts.path not in ("", "/", "/0"):
        raise ConfigError(f"globaldb {place}: only database 0 is used, {parts.path} cannot be asked for")
    query = parse_qs(parts.query)
    if unknown := sorted(query.keys() - {"ca"}) or (["ca"] if query and parts.scheme != "rediss" else []):
        raise ConfigError(f"globaldb {place}: no option {', '.join(unknown)} (rediss://… knows ca)")
    try:
        address.parse(str(address.Address(host, port or DEFAULT_PORT)), DEFAULT_PORT)
    except UsageError as error:
        raise ConfigError(f"globaldb {place}: {error}") from None
    options: dict[str, Any] = {"host": host, "port": DEFAULT_PORT if port is None else port}
    if parts.password is not None:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    if "ca" in query:
        options["ssl_ca_certs"] = query["ca"][0]
    return (
        place,
        redis.connection.SSLConnection if parts.scheme == "rediss" else redis.connection.Connection,
        options,
    )
