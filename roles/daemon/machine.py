"""This machine: whether an ip is its own, and how it is doing."""

import os
import socket

import psutil

from agent.errors import UsageError
from agent.names import ip_problem


def check_ip(ip: str) -> None:
    """Raises UsageError."""
    problem = ip_problem(ip)
    if problem:
        raise UsageError(f'--ip "{ip}" {problem}')


def is_local(ip: str) -> bool:
    """Whether we may call from this address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((ip, 0))
            return True
        except OSError:
            return False


def statistics(folder: str) -> dict[str, float | int]:
    """The machine's part of `machine:<ip>` info; disk is the one that `folder` (state and logs) lies on."""
    load1, load5, _load15 = os.getloadavg()
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage(folder)
    return {
        "load1": round(load1, 2),
        "load5": round(load5, 2),
        "cpus": os.cpu_count() or 1,
        "cpu_percent": psutil.cpu_percent(),
        "mem_total": memory.total,
        "mem_available": memory.available,
        "disk_total": disk.total,
        "disk_free": disk.free,
        "boot_at": int(psutil.boot_time()),
    }
