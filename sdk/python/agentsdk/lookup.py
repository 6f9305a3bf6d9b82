"""Names to addresses, and TLS contexts, without holding anybody up: what may block is done in a thread of its own.

A resolver that hangs keeps one thread, however often it is asked again.
"""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

from .place import Place

Address = Any  # (family, sockaddr)


class Lookup:
    """`done` becomes true; then there are `addresses` and a `context`, or an `error`."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.addresses: list[Address] = []
        self.context: ssl.SSLContext | None = None
        self.error = ""
        self.done = not place.tls and self._is_numeric()
        if not self.done:
            threading.Thread(target=self._run, name="agentsdk-lookup", daemon=True).start()

    def _is_numeric(self) -> bool:
        try:
            self._resolve(socket.AI_NUMERICHOST)
        except (OSError, ValueError):
            return False
        return True

    def _run(self) -> None:
        try:
            if self.place.tls:
                self.context = ssl.create_default_context(cafile=self.place.ca or None)
            self._resolve(0)
        except Exception as error:
            self.error = f"{error}"
        self.done = True

    def _resolve(self, flags: int) -> None:
        place = self.place
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=flags)
        self.addresses = [(family, address) for family, _type, _proto, _name, address in found]
