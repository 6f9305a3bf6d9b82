"""The host for a main loop of one's own: everything happens in `app.poll()`, handlers too."""

from __future__ import annotations

import threading

from .engine import Engine
from .host import Host


class PollHost(Host):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._owner = 0  # the thread that polls

    def poll(self) -> None:
        self._owner = threading.get_ident()
        self.step()
        ran = False
        for call in self.engine.calls():
            ran = True
            self.run(call)
        if ran:
            self.step()  # their answers need not wait for the next turn

    def flush(self) -> None:
        if threading.get_ident() == self._owner:
            self.step()
