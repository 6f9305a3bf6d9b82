"""The connections to globaldb. The only module that imports redis-py, of which connections and parsing are used.

    pack ─► blobs ─► exchange, transaction ─► a connection of one's own ─► replies, StoreRefused or StoreDown

Rules for the next editor:
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

import hiredis
import redis.connection
import redis.exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser

from agent.errors import StoreDown, StoreRefused
from agent.url import Url

MAX_UNANSWERED = 500
CHUNK = MAX_UNANSWERED // 2  # the next one is under way while the replies of the last are read
HUNG_S = (
    2.0  # after a time-out all are told at once: a command asks several things, and each would wait in vain
)
CONNECTIONS = 4
TCP_ESTABLISHED = 1  # linux/tcp_states.h
NOTHING = bytes(4)  # FIONREAD's int
DROP_UNSENT = struct.pack("ii", 1, 0)

Command = Sequence[str | int | float | bytes]
Blob = tuple[bytes, int]  # packed commands, and how many


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


def as_it_is(reply: Any) -> Any:
    return reply


class Pool:
    """Up to CONNECTIONS connections to one globaldb."""

    def __init__(self, url: Url, timeout_s: float) -> None:
        self.place = url.place
        self._url = url
        self._timeout_s = timeout_s
        self._idle: list[redis.connection.Connection] = []
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._hung: StoreDown | None = None  # the last time-out
        self._hung_until = 0.0  # monotonic

    def pack(self, commands: Sequence[Command]) -> Blob:
        try:
            return b"".join(hiredis.pack_command(tuple(command)) for command in commands), len(commands)  # type: ignore[arg-type]
        except UnicodeEncodeError:
            raise StoreRefused(
                f"globaldb {self.place}: half a surrogate pair is no text; nothing was sent"
            ) from None

    def blobs(self, commands: Iterable[Command]) -> Iterator[Blob]:
        chunk: list[Command] = []
        for command in commands:
            chunk.append(command)
            if len(chunk) == CHUNK:
                yield self.pack(chunk)
                chunk = []
        if chunk:
            yield self.pack(chunk)

    def exchange(self, blobs: list[Blob], convert: Callable[[Any], Any] = as_it_is) -> list[Any]:
        """The replies in order, each converted. A StoreRefused comes after all were sent: the others have happened."""
        if not blobs:
            return []
        with self._connection() as connection:
            return self._converse(connection, blobs, convert)

    def transaction(self, blobs: list[Blob]) -> list[Any]:
        """All of it or nothing. A StoreDown may come after all, never after a part."""
        with self._connection() as connection:
            try:
                self._converse(connection, [self.pack([("MULTI",)]), *blobs], as_it_is)
                replies = self._converse(connection, [self.pack([("EXEC",)])], as_it_is)[0]
            except StoreRefused:
                connection.disconnect()  # the server forgets what was queued
                raise
            self._raise_refusal(replies)
            return replies

    def close(self) -> None:
        """Ends idle connections; the pool can go on being used."""
        while self._idle:
            self._idle.pop().disconnect()

    # ---- connections

    @contextmanager
    def _connection(self) -> Iterator[redis.connection.Connection]:
        """A connection of one's own. It goes back to the others only if nothing but a refusal came up."""
        if self._hung is not None and time.monotonic() < self._hung_until:
            raise StoreDown(str(self._hung))
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
        kind = redis.connection.SSLConnection if self._url.tls else redis.connection.Connection
        connection = kind(
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
            **self._url.options,
        )
        connection.connect()
        return connection

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
                replies += chunk if convert is as_it_is else map(convert, chunk)
            if len(blobs) > 1:
                time.sleep(0)
        if refusal is not None:
            self._raise_refusal([refusal])
        return replies

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
        timed_out = isinstance(error, (redis.exceptions.TimeoutError, TimeoutError))
        if timed_out:
            what = f"no answer within {self._timeout_s:g} s"
        else:
            cause = error if isinstance(error, OSError) else error.__context__
            what = (isinstance(cause, OSError) and cause.strerror) or str(error).rstrip(".")
        down = StoreDown(
            f"globaldb {self.place}: {what} (is it running? the URL comes from --globaldb or AGENT_GLOBALDB)"
        )
        if timed_out:
            self._hung, self._hung_until = down, time.monotonic() + HUNG_S
        return down


def _is_quiet(connection: redis.connection.Connection) -> bool:
    """Connected, and nothing has come unasked: two short system calls, where can_read(0) costs as much as a command."""
    sock: Any = connection._sock
    if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
        return False
    return fcntl.ioctl(sock.fileno(), termios.FIONREAD, NOTHING) == NOTHING
