"""The host for any program: a daemon thread steps the engine, a second one runs handlers, one after the other.

Under gevent's monkey patching the two are greenlets. The second is born with the first request.
"""

from __future__ import annotations

import logging
import math
import queue
import select
import socket
import threading
import time

from .call import Call
from .engine import Engine
from .host import Host

LOG = logging.getLogger("agentsdk")
CLOSE_S = 0.5
BREATH_S = 0.5  # after a step that failed: never a busy loop


class ThreadHost(Host):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._ear: socket.socket | None = None
        self._bell: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="agentsdk", daemon=True)
        self._worker: threading.Thread | None = None
        self._closing = False

    def start(self) -> None:
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._thread.start()

    def wake(self) -> None:
        try:
            if self._bell:
                self._bell.send(b"!")
        except OSError:
            pass  # it rings already, or nobody is there any more

    def close(self) -> None:
        """Waits at most 0.5 s for what is to be sent."""
        self._closing = True
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def run(self, call: Call) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="agentsdk-handlers", daemon=True)
            self._worker.start()
        self._calls.put(call)

    def _run(self) -> None:
        while not self._closing:
            try:
                self.engine.step()
                for call in self.engine.calls():
                    self.run(call)
                self._wait()
            except Exception:
                LOG.exception("a step failed")
                time.sleep(BREATH_S)
        super().close()

    def _wait(self) -> None:
        assert self._ear is not None
        wait([(self._ear, False), *self.engine.interests()], self.engine.wait_s())
        try:
            while self._ear.recv(4096):
                pass
        except OSError:
            pass

    def _work(self) -> None:
        while True:
            try:
                super().run(self._calls.get())
            except BaseException as error:
                LOG.warning("%s in a handler does not end the process", type(error).__name__)


def wait(sockets: list[tuple[socket.socket, bool]], seconds: float) -> None:
    """Until one of them can be read (or written, where that is asked), or time is up."""
    if not hasattr(select, "poll"):  # Windows
        select.select([sock for sock, _ in sockets], [sock for sock, write in sockets if write], [], seconds)
        return
    poll = select.poll()
    for sock, write in sockets:
        poll.register(sock, select.POLLIN | (select.POLLOUT if write else 0))
    poll.poll(math.ceil(seconds * 1000))
