"""A line to the group: whichever of some daemons answers, made anew when it was lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from .client import Client, Ended, Noticed
from .dialer import dial
from .errors import ConnectFailed, LoginRefused
from .place import Place

CONNECT_S = 8.0
REFUSED_S = 10.0  # a "no" stands so long unasked: more tries would only fill the audit, and lock us out


class Line:
    """`places` are tried in turn, beginning with the one that answered last."""

    def __init__(self, places: Sequence[Place], user: str, password: str) -> None:
        self.user = user
        self._places = list(places)
        self._password = password
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._closed = False
        self._refusal: LoginRefused | None = None
        self._refused_at = 0.0

    def client(self, noticed: Noticed, timeout_s: float = CONNECT_S) -> Client:
        """The one that lives, or a new one. Raises ConnectFailed, LoginRefused: nothing was sent."""
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise ConnectFailed(f"somebody else has been connecting for {timeout_s:g} s: nothing was sent")
        try:
            if self._closed:
                raise ConnectFailed("it is closed: nothing was sent")
            client = self._client
            # a child's parent goes on with its own
            if client is None or client.lost or client.pid != os.getpid():
                client = self._client = self._again(noticed, deadline - time.monotonic())
            return client
        finally:
            self._lock.release()

    def _again(self, noticed: Noticed, timeout_s: float) -> Client:
        if self._refusal is not None and time.monotonic() < self._refused_at + REFUSED_S:
            raise LoginRefused(str(self._refusal))
        try:
            return self.dial(noticed, timeout_s)
        except LoginRefused as error:
            self._refusal, self._refused_at = error, time.monotonic()
            raise

    def dial(self, noticed: Noticed, timeout_s: float, ended: Ended = lambda _client: None) -> Client:
        """A connection of its own. Who says no is believed; who does not answer leaves it to the next."""
        troubles: list[str] = []
        deadline, places = time.monotonic() + timeout_s, self._places
        for tried, where in enumerate(places):
            left_s = (deadline - time.monotonic()) / (len(places) - tried)
            try:
                entered = dial(where, self.user, self._password, min(CONNECT_S, max(0.1, left_s)))
            except LoginRefused:
                raise
            except ConnectFailed as error:
                troubles.append(str(error))
                continue
            self._places = [where, *(place for place in places if place != where)]
            return Client(entered, noticed, ended)
        raise ConnectFailed("; ".join(troubles))

    def close(self) -> None:
        self._closed = True
        if self._client is not None and self._client.pid == os.getpid():
            self._client.close()

    @property
    def daemon(self) -> str:
        return self._client.daemon if self._client is not None else ""
