"""Everything about one process of this machine, for `list PID`: as configured, as the daemon knows it, from /proc."""

import os
import shlex
import time
from typing import Any

from agent.errors import AgentError, Refused
from roles.daemon.identity import read_stat
from roles.daemon.state import DaemonState

MAX_WORDS_CHARS = 2000


def facts(state: DaemonState, key: str) -> dict[str, Any]:
    """Ordered, for reading. Raises Refused for a process that is not here."""
    keeper = state.keepers.get(key)
    if keeper is None:
        raise Refused("unknown_target", f"process {key} is not configured on {state.ip}")
    told: dict[str, Any] = {
        "state": keeper.state + (f" ({keeper.reason})" if keeper.reason else ""),
        "wanted": keeper.wanted,
        "pid": keeper.pid or "",
        "since_at": round(keeper.since_at, 3),
        "started_at": round(keeper.started_at, 3),
        "last exit": keeper.exit,
        "last_exit_at": round(keeper.entry.crashed_at, 3) or "",
        "incarnation": keeper.incarnation,
        "starts": keeper.starts.target
        if keeper.starts.target is not None
        else f"{keeper.starts.pending} not counted yet",
        "foreign": keeper.foreign,
        "leftovers": ", ".join(f"pid {each.pid}" for each in keeper.leftovers),
    }
    told.update(_configured(state, key))
    told["application"] = _application(state, key) if keeper.pid else ""
    if keeper.pid:
        told.update(_live(keeper.pid))
        told["processes in its session"] = len(keeper.members())
    return {name: value for name, value in told.items() if value not in ("", None)}


def _configured(state: DaemonState, key: str) -> dict[str, Any]:
    keeper = state.keepers[key]
    try:
        process, spec = state.configuration.launch_of(key)()
    except AgentError as error:
        return {"configuration": str(error)}
    changed = bool(keeper.pid) and keeper.entry.digest != spec.digest()
    return {
        "type": process.type,
        "listens on": f"{process.host}:{process.port} ({spec.protocol})" if process.port else "",
        "command": shlex.join(spec.command)[:MAX_WORDS_CHARS],
        "cwd": spec.cwd,
        "user": spec.user,
        "log": state.log_path(key, spec),
        "stop": f"SIG{spec.stop_signal}, {spec.stop_timeout_s:g} s"
        + (", then SIGKILL" if spec.kill_after_stop else ", never killed unasked"),
        "restart": spec.restart,
        "report": f"{spec.report}, every {spec.heartbeat_s:g} s, silent after {spec.silent_after_s:g} s",
        "configuration": "has changed since its start: a restart takes it up"
        if changed
        else "as at its start",
    }


def _application(state: DaemonState, key: str) -> str:
    """What has joined, and what it can do."""
    application = state.applications.get(key)
    if application is None:
        return "has not joined its daemon"
    able = [
        word
        for word, can in (("saves when asked", application.saves), ("closes its entry", application.entry))
        if can
    ]
    return ", ".join([f"joined ({application.link.peer.version or 'SDK unknown'})", *able,
                      f"{len(application.declarations.commands)} GM commands"])  # fmt: skip


def _live(pid: int) -> dict[str, Any]:
    stat = read_stat(pid)
    if stat is None:
        return {}
    told: dict[str, Any] = {
        "kernel state": stat.state,
        "threads": stat.threads,
        "cpu_s": round(stat.cpu_s, 2),
        "rss": stat.rss_bytes,
        "parent": stat.ppid,
    }
    try:
        told["open files"] = len(os.listdir(f"/proc/{pid}/fd"))
        told["running program"] = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        pass  # another user's, and we are not root
    told["asked_at"] = round(time.time(), 3)
    return told
