"""The host for asyncio: everything happens in the loop, handlers too; they may be coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable
from typing import Any

from .call import Call
from .engine import Engine
from .host import Host

LOG = logging.getLogger("agentsdk")
LOOK_S = 0.02  # how often to look where the loop cannot watch sockets (Windows' proactor)


class LoopHost(Host):
    awaits = True

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0  # the loop's thread
        self._turn_is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._watched: list[tuple[int, bool]] = []
        self._tasks: set[asyncio.Future[Any]] = set()  # the loop itself forgets those that nobody holds

    def start(self) -> None:
        """In a coroutine the loop is known; else `attach` tells it."""
        try:
            self.attach(asyncio.get_running_loop())
        except RuntimeError:
            pass

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is None:
            self._loop = loop
            self.wake()

    def wake(self) -> None:
        if self._loop is not None and not self._turn_is_due:
            self._turn_is_due = True
            try:
                self._loop.call_soon_threadsafe(self._turn)
            except RuntimeError:
                pass  # the loop is closed, and with it all this

    def flush(self) -> None:
        if threading.get_ident() == self._owner:
            self._step_watching()

    def close(self) -> None:
        self._unwatch()
        super().close()

    def run(self, call: Call) -> None:
        awaitable = call.run()
        if awaitable is not None:
            task = asyncio.ensure_future(_awaited(awaitable))
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._finish(call, done))

    def _finish(self, call: Call, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            call.fail(asyncio.CancelledError())
            return
        error = task.exception()
        if error is not None:
            call.fail(error)
        else:
            call.settle(task.result())

    def _turn(self) -> None:
        self._owner = threading.get_ident()
        self._turn_is_due = False  # from here on an errand might come too late for this one
        self._step_watching()
        for call in self.engine.calls():
            self.run(call)

    def _step_watching(self) -> None:
        """Sockets are let go before a step, which may close them."""
        self._unwatch()
        self.step()
        if not self.engine.closed:
            self._watch()

    def _watch(self) -> None:
        assert self._loop is not None
        wait_s = self.engine.wait_s()
        try:
            for sock, write in self.engine.interests():
                self._watched.append((sock.fileno(), write))
                self._loop.add_reader(sock.fileno(), self._turn)
                if write:
                    self._loop.add_writer(sock.fileno(), self._turn)
        except NotImplementedError:
            wait_s = min(wait_s, LOOK_S)
        self._timer = self._loop.call_later(wait_s, self._turn)

    def _unwatch(self) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        if self._timer:
            self._timer.cancel()
        watched, self._watched = self._watched, []
        for descriptor, write in watched:
            try:
                self._loop.remove_reader(descriptor)
                if write:
                    self._loop.remove_writer(descriptor)
            except NotImplementedError:
                return


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
