"""Notices the end of one process, a child of ours or an adopted one, without polling where the kernel has pidfd.

A pidfd becomes readable when the process has ended, so gevent's loop waits on it like on a socket. Never
waitpid(-1), never SIGCHLD: each watch asks for its own pid only, and other children of this program are left alone.
How an adopted process ended is its parent's to know; we read it from its zombie if we are quick (and root), and
from Linux 6.15 on from the pidfd.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Callable

from gevent import get_hub

from roles.daemon import identity as proc
from roles.daemon.identity import Identity, signal_name

UNKNOWN = "unknown"
UNKNOWN_AWAY = "unknown (while the daemon was away)"
UNKNOWN_ADOPTED = "unknown (started by an earlier daemon)"
CLEAN = "code 0"

POLL_S = 1.0  # without pidfd
REAP_PAUSE_S = 0.02  # between the end and the moment its parent has reaped it
REAP_TRIES = 25

READABLE = 1
# linux/pidfd.h: struct pidfd_info { mask u64, cgroupid u64, 12 x u32/s32 of ids, exit_code s32 }, 64 bytes
_INFO = struct.Struct("=QQ11Ii")
_INFO_EXIT = 1 << 3
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, struct pidfd_info)


def exit_text(status: int) -> str:
    """`code 3` or `signal SEGV`, from a wait status."""
    if os.WIFSIGNALED(status):
        return f"signal {signal_name(os.WTERMSIG(status))}"
    return f"code {os.WEXITSTATUS(status)}"


def reap(pid: int) -> str | None:
    """How our child ended, and it is a zombie no more; None while it lives; UNKNOWN if it is no child of ours."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return UNKNOWN
    return exit_text(status) if done else None


def missed_end(identity: Identity | None) -> str:
    """How a process ended that nobody watched: known if it was our child (this very process became a newer binary by
    exec), and then reaped."""
    if identity is None or identity.boot_id != proc.boot_id():
        return UNKNOWN_AWAY
    text = reap(identity.pid)
    return UNKNOWN_AWAY if text in (None, UNKNOWN) else text


class Watch:
    """Calls `on_end(exit text)` once, in the hub: it must not block."""

    def __init__(self, identity: Identity, *, child: bool, on_end: Callable[[str], None]) -> None:
        self._identity = identity
        self._child = child
        self._on_end = on_end
        self._pidfd: int | None = None
        self._watcher = None
        self._tries = 0
        try:
            # Our child keeps its pid until we reap it, so the pid is enough, a zombie's too.
            self._pidfd = self._open()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV, errno.ENOSYS):
                raise
            self._later(0.0, self._poll)
            return
        if self._pidfd is None:
            self._later(0.0, self._ended)
            return
        self._watcher = get_hub().loop.io(self._pidfd, READABLE)
        self._watcher.start(self._ended)

    def close(self) -> None:
        """Never calls again."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _open(self) -> int | None:
        if not proc.HAS_PIDFD:
            raise OSError(errno.ENOSYS, "no pidfd")
        if self._child:
            try:
                return os.pidfd_open(self._identity.pid)
            except ProcessLookupError:  # reaped by another hand
                return None
        return proc.open_pidfd(self._identity)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
        self._watcher = get_hub().loop.timer(seconds)
        self._watcher.start(function)

    def _poll(self) -> None:
        text = reap(self._identity.pid) if self._child else None
        if text is None and self._identity.alive():
            self._later(POLL_S, self._poll)
        else:
            self._tell(text or UNKNOWN_ADOPTED)

    def _ended(self) -> None:
        text = reap(self._identity.pid) if self._child else self._seen_from_outside()
        if text is None and self._tries < REAP_TRIES:
            self._tries += 1
            self._later(REAP_PAUSE_S, self._ended)
            return
        self._tell(text or UNKNOWN_ADOPTED)

    def _seen_from_outside(self) -> str | None:
        """From the zombie as long as there is one, from the pidfd afterwards; None: try again."""
        stat = proc.read_stat(self._identity.pid)
        if stat is not None and stat.start_ticks == self._identity.start_ticks:
            may_look = os.geteuid() == 0
            return exit_text(stat.exit_status) if stat.gone and may_look else None
        if self._pidfd is None:
            return UNKNOWN_ADOPTED
        info = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._pidfd, _GET_INFO, info)
        except OSError:  # an older kernel
            return UNKNOWN_ADOPTED
        mask, *_, status = _INFO.unpack(info)
        return exit_text(status) if mask & _INFO_EXIT else None

    def _tell(self, text: str) -> None:
        self.close()
        self._on_end(text)
