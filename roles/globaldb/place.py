"""The address to serve on: checked before the server starts, for it would only say `bind: Address already in use`."""

import errno
import ipaddress
import socket

import psutil

from agent.address import Address
from agent.errors import AgentError, UsageError


def usable(wanted: Address) -> Address:
    """The same with the host as a number and a free port in place of port 0. Raises AgentError if taken."""
    host = number_of(wanted.host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted.port))
            probe.listen(1)  # a second bind may pass with SO_REUSEADDR, a second listen does not
        except OSError as error:
            raise AgentError(explain(error, wanted)) from None
        return Address(host, probe.getsockname()[1])


def is_loopback(host: str) -> bool:
    return bool(host) and ipaddress.ip_address(host).is_loopback


def number_of(host: str) -> str:
    if host in ("", "*"):
        return "0.0.0.0"
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        raise UsageError(f"--listen {host}: no such host") from None


def explain(error: OSError, wanted: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{wanted} is in use by {holder(wanted.port)}: stop it, or choose another address with --listen"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {wanted.host}: choose one of its own with --listen"
    if error.errno == errno.EACCES:
        return f"port {wanted.port} is for root only: choose one above 1023 with --listen"
    return f"cannot listen on {wanted}: {error.strerror}"


def holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another program (of another user)"
