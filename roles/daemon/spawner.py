"""The only place that starts processes.

What a process gets, and why:
- a session of its own, so that its whole tree can be stopped and no terminal or daemon signal reaches it;
- /dev/null as stdin; stdout and stderr are a *file* opened for append, so a daemon's death never breaks its pipe;
- no descriptor, no signal mask and no ignored signal of ours (exec resets handlers but keeps SIG_IGN);
- an environment without what the frozen binary, systemd and our own settings put there (keys, passwords).

stdlib subprocess, not gevent's: it starts by vfork and knows at once whether exec worked. Where a user is given it
forks; where limits are given Python code runs in the child (they must be set before the user is dropped).
"""

import errno
import fcntl
import os
import pwd
import resource
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError
from agent.frozen import clean_environment
from agent.program import LaunchSpec
from roles.daemon.seal import Seal

MARK_KEY = "AGENT_PROCESS"
MARK_INCARNATION = "AGENT_INCARNATION"
MARK_TOKEN = "AGENT_TOKEN"
MARK_DAEMON = "AGENT_DAEMON"
MARK_OWNER = "AGENT_OWNER"  # the daemon's state folder: two daemons of one host never share one

# A daemon raises its own limit of open files; its children get what it was started with, as programs that use
# select() or close every possible descriptor want it low.
STARTED_WITH_NOFILE = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

# What a program may come to ignore while it runs; looked at before each spawn.
SERVICES_IGNORE = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)

OURS = "AGENT_"  # every setting of ours is an environment variable that begins so; some are secrets
SERVICE_MANAGER = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
     "MAINPID", "MANAGERPID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"}
)  # fmt: skip

# It may work a moment later: no memory, no descriptors, disk full, the binary is being replaced.
TEMPORARY = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ETXTBSY}
)


class SpawnFailed(AgentError):
    """It could not be started; says which process, which field and what to do."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class Account:
    """The user a process runs as."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells a running process who it is, and a later daemon whose it is."""

    key: str
    incarnation: str
    token: str
    extra: Mapping[str, str] = field(default_factory=dict)


def release_ignored_signals(numbers: Iterable[int]) -> None:
    """Handle what we ignore (nohup, a shell's `&`, a service's SIGHUP), so that exec gives children the default.

    What Python itself ignores (SIGPIPE, SIGXFSZ) subprocess restores in the child. Main thread only.
    """
    for number in numbers:
        if number in (signal.SIGPIPE, signal.SIGXFSZ) or signal.getsignal(number) is not signal.SIG_IGN:
            continue
        try:
            # An ignored SIGCHLD would also have the kernel reap our children unseen.
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _ignore)
        except (OSError, ValueError):  # 32 and 33 are the C library's; ValueError: not the main thread
            continue


def _ignore(number: int, frame: object) -> None:
    return None


class Spawner:
    """Starts processes for one daemon."""

    def __init__(
        self,
        state_folder: Path,
        *,
        daemon_address: str = "",
        environ: Mapping[str, str] | None = None,
        clean: Callable[[Mapping[str, str]], Mapping[str, str]] = clean_environment,
    ) -> None:
        """`clean` takes out of `environ` what the frozen binary put in."""
        self.state_folder = Path(os.path.realpath(state_folder))
        self.seal = Seal(self.state_folder)
        self.daemon_address = daemon_address
        release_ignored_signals(range(1, signal.SIGRTMIN))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._environ = {
            name: value
            for name, value in clean(os.environ if environ is None else environ).items()
            if not name.startswith(OURS) and name not in SERVICE_MANAGER
        }

    @property
    def owner(self) -> str:
        return str(self.state_folder)

    def log_path(self, key: str, spec: LaunchSpec) -> Path:
        return (
            Path(spec.log["path"])
            if spec.log and "path" in spec.log
            else self.state_folder / "log" / f"{key}.log"
        )

    def spawn(self, spec: LaunchSpec, marks: Marks) -> int:
        """The pid, after exec succeeded. Never yields. Raises SpawnFailed."""
        account = self._account(spec, marks.key)
        self._check_limits(spec, marks.key)
        cwd = spec.cwd or self.owner
        handles: list[int] = []
        try:
            out = self._open_log(self.log_path(marks.key, spec), account, marks.key)
            handles.append(out)
            err = out
            if spec.log and "stderr" in spec.log:
                err = self._open_log(Path(spec.log["stderr"]), account, marks.key)
                handles.append(err)
            return self._start(spec, marks, account, cwd, out, err)
        except SpawnFailed:
            raise
        except subprocess.SubprocessError as error:
            if spec.limits:
                raise SpawnFailed(
                    f"process {marks.key}: this system refused its limits {_said(spec.limits)} or its user "
                    f"{spec.user!r}: a hard limit above the daemon's own (ulimit -Ha) needs a right that root has "
                    "outside of containers; nofile cannot be above fs.nr_open"
                ) from None
            raise SpawnFailed(f"process {marks.key}: user {spec.user!r} refused: {error}") from None
        except OSError as error:
            raise self._explained(error, spec, marks.key, cwd) from None
        except ValueError as error:  # a NUL in a word
            raise SpawnFailed(f"process {marks.key}: command {spec.command}: {error}") from None
        finally:
            for handle in handles:
                os.close(handle)

    def _start(
        self, spec: LaunchSpec, marks: Marks, account: Account | None, cwd: str, out: int, err: int
    ) -> int:
        options: dict = {}
        if spec.limits:
            options["preexec_fn"] = _prepare_child(spec.limits, account)
        elif account is not None:
            options.update(user=account.uid, group=account.gid, extra_groups=account.groups)
        release_ignored_signals(SERVICES_IGNORE)
        options.update(
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=self.environment(spec, marks, account),
            close_fds=True,
            start_new_session=True,
        )
        try:
            with _soft_file_limit(STARTED_WITH_NOFILE):
                started = subprocess.Popen(spec.command, **options)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            # We hold more files than a child may: it is told a moment late.
            started = subprocess.Popen(spec.command, **options)
            if "nofile" not in spec.limits:
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.prlimit(started.pid, resource.RLIMIT_NOFILE, (STARTED_WITH_NOFILE, hard))
        # The keeper waits for this pid. Without a returncode Popen would put it on a list of its own when it is
        # collected, and take the exit status away at some later spawn.
        started.returncode = 0
        return started.pid

    def environment(self, spec: LaunchSpec, marks: Marks, account: Account | None = None) -> dict[str, str]:
        """Ours cleaned, then the user's, then the specification's, then the marks: nobody overrides those."""
        whose = (
            {} if account is None else {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
        )
        mine = {
            MARK_KEY: marks.key,
            MARK_INCARNATION: marks.incarnation,
            MARK_TOKEN: marks.token,
            MARK_OWNER: self.owner,
        }
        if self.daemon_address:
            mine[MARK_DAEMON] = self.daemon_address
        return {**self._environ, **whose, **spec.env, **marks.extra, **mine}

    def _account(self, spec: LaunchSpec, key: str) -> Account | None:
        """None where it is to run as we do."""
        if not spec.user:
            return None
        try:
            entry = pwd.getpwuid(int(spec.user)) if spec.user.isdigit() else pwd.getpwnam(spec.user)
        except KeyError:
            raise SpawnFailed(
                f'process {key}: user "{spec.user}" is unknown on this machine; create it or change "user"'
            ) from None
        if entry.pw_uid == os.geteuid():
            return None
        if os.geteuid() != 0:
            raise SpawnFailed(
                f'process {key}: user "{spec.user}": the daemon runs as uid {os.geteuid()} and only root can start '
                f'processes of another user; run the daemon as root or take "user" out'
            )
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)

    def _check_limits(self, spec: LaunchSpec, key: str) -> None:
        """What the child could not say in words if it failed there."""
        for name, (_soft, hard) in spec.limits.items():
            number = getattr(resource, f"RLIMIT_{name.upper()}", None)
            if number is None:
                raise SpawnFailed(f'process {key}: limits: this system has no limit "{name}"')
            present = resource.getrlimit(number)[1]
            above = present != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or hard > present)
            if above and os.geteuid() != 0:
                raise SpawnFailed(
                    f"process {key}: limits: {name} {hard} is above the daemon's own {present} and it is not root"
                )

    def _open_log(self, path: Path, account: Account | None, key: str) -> int:
        """For append. A fifo would block us and a device is no log; a link is not followed where the file is
        another user's, who could point it at a file of root's."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        if account is not None:
            flags |= os.O_NOFOLLOW
        try:
            try:
                handle = os.open(path, flags, 0o640)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, flags, 0o640)
        except OSError as error:
            raise SpawnFailed(
                f"process {key}: log {path} cannot be opened for writing: {error.strerror}",
                temporary=error.errno in TEMPORARY,
            ) from None
        about = os.fstat(handle)
        if not (stat.S_ISREG(about.st_mode) or os.path.samestat(about, os.stat(os.devnull))):
            os.close(handle)
            raise SpawnFailed(f"process {key}: log {path} is not a regular file; name another path in log")
        if (
            account is not None
            and stat.S_ISREG(about.st_mode)
            and about.st_uid == os.geteuid()
            and about.st_size == 0
        ):
            os.fchown(handle, account.uid, account.gid)
        fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        return handle

    def _explained(self, error: OSError, spec: LaunchSpec, key: str, cwd: str) -> SpawnFailed:
        command, temporary = spec.command[0], error.errno in TEMPORARY
        if error.filename == cwd and not isinstance(error, BlockingIOError) and not os.path.isdir(cwd):
            text = f"cwd {cwd}: {error.strerror}; create the folder or change cwd"
        elif error.errno == errno.ENOENT and os.path.exists(os.path.join(cwd, command)):
            text = f"command {command}: its interpreter (first line) or loader is missing on this machine"
        elif error.errno == errno.ENOENT:
            text = f"command {command} not found; install it on this machine or change command"
        elif error.errno == errno.EACCES and error.filename == cwd:
            text = f"cwd {cwd}: {error.strerror}"
        elif error.errno == errno.EACCES:
            text = (
                f"command {command} is not executable"
                + (f' for user "{spec.user}"' if spec.user else "")
                + " (chmod +x, or a noexec mount?)"
            )
        elif error.errno == errno.ENOEXEC:
            text = f"command {command} is not a program for this machine (wrong architecture, or no #! line)"
        elif error.errno == errno.EAGAIN:
            text = "the system has no process to spare (limit nproc or pids cgroup); end some or raise it"
        elif error.errno == errno.E2BIG:
            text = "command and env are too long together"
        else:
            text = f"cannot be started: {error.strerror}"
        return SpawnFailed(f"process {key}: {text}", temporary=temporary)


@contextmanager
def _soft_file_limit(soft: int) -> Iterator[None]:
    """Ours for the moment of a spawn, which never yields; children inherit it. Files already open stay so."""
    mine, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if mine == soft:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (mine, hard))


def _said(limits: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} {'unlimited' if hard < 0 else hard}" for name, (_soft, hard) in limits.items())


def _prepare_child(limits: Mapping[str, tuple[int, int]], account: Account | None) -> Callable[[], None]:
    """Runs between fork and exec: first the limits, which only root may raise, then the user."""
    wanted = [(getattr(resource, f"RLIMIT_{name.upper()}"), pair) for name, pair in limits.items()]

    def prepare() -> None:
        for number, pair in wanted:
            resource.setrlimit(number, pair)
        if account is not None:
            os.setgroups(account.groups)
            os.setgid(account.gid)
            os.setuid(account.uid)

    return prepare
