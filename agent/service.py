"""A role that runs until it is told to stop: long-lived greenlets, signals, an orderly end.

Every long-lived greenlet is born through `Service.spawn`: if one fails, the role says so loudly and stops, for a
role that lost a part of itself and goes on is worse than one that its init system starts anew.
"""

import gc
import logging
import resource
import signal
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import AsyncResult

log = logging.getLogger("agent.service")

STOP_S = 10.0
GC_OBJECTS = (
    20_000  # made between two collections: one answer about a large group makes more than Python's usual 700
)


class Service:
    """`run` blocks until SIGTERM, SIGINT or the failure of a part, then calls what `at_stop` was given, last first."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._ending: AsyncResult = AsyncResult()
        self._closers: list[Callable[[], None]] = []
        self._greenlets: list[gevent.Greenlet] = []
        self._heeding = False
        raise_file_limit()

    def spawn(self, function: Callable[..., Any], *args: Any) -> gevent.Greenlet:
        """A part that lives as long as the role."""
        greenlet = gevent.spawn(function, *args)
        greenlet.link_exception(self._part_failed)
        self._greenlets.append(greenlet)
        return greenlet

    def at_stop(self, closer: Callable[[], None]) -> None:
        self._closers.append(closer)

    def stop(self, exit_code: int = 0) -> None:
        if not self._ending.ready():
            self._ending.set(exit_code)

    def first(self, function: Callable[[], Any]) -> bool:
        """Before serving: blocks until `function` has done its work, or until the end; whether to go on."""
        self._heed_signals()
        gevent.wait([self.spawn(function), self._ending], count=1)
        return not self._ending.ready()

    def run(self, serving: str) -> int:
        """Say `serving` and wait for the end; returns the exit code."""
        self._heed_signals()
        gc.collect()
        gc.freeze()  # what was imported stays: no collection need look at it again
        gc.set_threshold(GC_OBJECTS, 20, 20)
        log.info("%s", serving)
        return self.end()

    def end(self) -> int:
        """Wait for it and end in order; returns the exit code."""
        exit_code: int = self._ending.get()
        with gevent.Timeout(STOP_S, False):
            for closer in reversed(self._closers):
                try:
                    closer()
                except Exception:
                    log.exception("%s: a bug while stopping", self.name)
        gevent.killall(self._greenlets, block=False)
        log.info("%s stopped", self.name)
        return exit_code

    def _heed_signals(self) -> None:
        if self._heeding:
            return
        self._heeding = True
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._told_to_stop, number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal ends no group

    def _told_to_stop(self, number: int) -> None:
        log.info("%s: stopping on %s", self.name, signal.Signals(number).name)
        self.stop(0)

    def _part_failed(self, greenlet: gevent.Greenlet) -> None:
        log.critical(
            "%s: a part of it failed and it stops: %r", self.name, greenlet, exc_info=greenlet.exc_info
        )
        self.stop(1)


def raise_file_limit() -> None:
    """As many open files as the kernel lets us have: 1,000 daemons and 5,000 strangers are sockets."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
