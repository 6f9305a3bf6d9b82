"""Daemon: one per machine; starts, stops and watches its processes, serves admins, obeys other daemons.

Usage:
  agent daemon [options]

Options:
  --ip IP          This machine's inner ip, as in the world. Without it: the ip in the key file.
  --listen ADDR    Where admins reach it. [default: 0.0.0.0:8889]
  --router ADDR    The group's router. [default: 127.0.0.1:8888]
  --globaldb URL   redis://[:password@]host[:port] or rediss://… [default: redis://127.0.0.1:6379]
  --app-globaldb URL  What application processes are told as globaldb: "same", "none", or a URL with a user who may
                   do less. [default: same]
  --key FILE       This machine's key: agent key machine IP --key GROUPFILE > FILE [default: /etc/agent/machine.key]
  --state DIR      What it remembers of its processes, their logs, its certificate. [default: /var/lib/agent/daemon]
  --config FILE    TOML file with these options. [default: /etc/agent.toml]
  -h --help        This text.

Every option is also an environment variable (AGENT_ROUTER, …) and a key of the TOML file's [daemon] table.
When the daemon ends, however it ends, the processes it started go on; the next daemon finds them again.
"""

import logging
import time
from pathlib import Path
from typing import Any

from agent import __version__, address, certificate, disk, logs, settings
from agent.dialer import Dialer
from agent.errors import ConfigError
from agent.globaldb import GlobalDb
from agent.handshake import Identity
from agent.key import read_machine_key
from agent.link import Link
from agent.listener import Listener
from agent.process import ANY_HOST
from agent.reception import Gate
from agent.service import Service
from agent.store import Store
from agent.url import parse_url
from roles.daemon import machine
from roles.daemon.admission import ApplicationAdmission
from roles.daemon.application import link_options
from roles.daemon.handlers import TABLE
from roles.daemon.state import DaemonState

log = logging.getLogger("agent.daemon")

PORT, ROUTER_PORT = 8889, 8888


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "daemon")
    logs.begin()
    ip, key = _identity(options)
    listen = address.parse(options["--listen"], PORT)
    router = address.parse(options["--router"], ROUTER_PORT)
    folder = disk.private_folder(Path(options["--state"]).absolute())
    state = DaemonState(ip, GlobalDb(Store(options["--globaldb"])), folder, _own_address(listen))
    incarnation = _next_incarnation(state, folder)
    service = Service("daemon")
    state.adopt()
    state.refresh_configuration()

    def serve(sock: Any, identity: Identity, peer_address: str) -> None:
        if identity.role == "app":
            _serve_application(state, sock, identity, peer_address)
            return
        link = _link(sock, state, identity.role, identity.name, peer_address, identity.version)
        state.sessions.add(link)
        log.info("%s: logged in", link)
        try:
            why = link.run()
        finally:
            state.sessions.discard(link)
            state.gallery.forget(link)
            state.events.forget(link)
        log.info("%s: left (%s)", link, why)

    rights = state.rights
    gate = Gate(rights.greet, rights.verifier, rights.failed, rights.admit)
    own = Identity("daemon", ip, __version__, incarnation)
    admission = ApplicationAdmission(
        ip, __version__, state.keepers.get, state.seal, _told_to_applications(options)
    )
    listener = Listener(listen, certificate.own_certificate(folder), gate, own, serve, admission)
    state.presence.dialer = Dialer(
        "router",
        router,
        own,
        key,
        open_link=lambda sock, _server: _link(sock, state, "router", "", str(router)),
        joined=state.presence.joined,
        source_ip=ip if machine.is_local(ip) else "",
    )
    service.at_stop(state.close)
    service.at_stop(listener.stop)
    service.spawn(state.presence.dialer.run)
    service.spawn(state.follow_configuration)
    service.spawn(state.recorder.record)
    service.spawn(state.audit.write)
    service.spawn(state.gallery.follow)
    service.spawn(state.events.follow)
    service.spawn(state.agenda.follow)
    return service.run(f"daemon {ip} serving {listen.host}:{listener.port}")


def _serve_application(state: DaemonState, sock: Any, identity: Identity, peer_address: str) -> None:
    keeper = state.keepers.get(identity.name)
    if keeper is None or keeper.incarnation != f"{identity.incarnation:016x}":  # over since it was admitted
        sock.close()
        return
    link = _link(sock, state, "app", identity.name, peer_address, identity.version, **link_options())
    application = state.applications.enter(link, keeper.incarnation)
    try:
        why = link.run()
    finally:
        state.applications.leave(application, link.closed_why)
    log.debug("%s: left (%s)", link, why)


def _own_address(listen: address.Address) -> str:
    """Where this machine's applications reach us."""
    return f"{'127.0.0.1' if listen.host in ('', ANY_HOST) else listen.host}:{listen.port}"


def _told_to_applications(options: settings.Settings) -> str:
    """Raises ConfigError."""
    told: str = options["--app-globaldb"]
    if told == "none":
        return ""
    url: str = options["--globaldb"] if told == "same" else told
    parse_url(url)
    return url


def _link(
    sock: Any,
    state: DaemonState,
    role: str,
    name: str,
    peer_address: str,
    version: str = "",
    **more: Any,
) -> Link:
    return Link(
        sock,
        local=state.ip.encode(),
        role=role,
        name=name,
        address=peer_address,
        version=version,
        table=TABLE,
        state=state,
        **more,
    )


def _identity(options: settings.Settings) -> tuple[str, str]:
    """Our ip and machine key. Raises ConfigError."""
    wanted = options["--ip"]
    if wanted:
        machine.check_ip(wanted)
    ip, key = read_machine_key(Path(options["--key"]), wanted or "")
    if not wanted and not machine.is_local(ip):
        raise ConfigError(
            f"{options['--key']} is the key of {ip}, which is no address of this machine: give the right key, "
            f"or --ip {ip} if this machine is reached by that address all the same"
        )
    return ip, key


def _next_incarnation(state: DaemonState, folder: Path) -> int:
    """Greater at every start, even if the clock was set back meanwhile: the router lets the newer daemon win."""
    path = folder / "incarnation"
    try:
        last = int(path.read_text())
    except (FileNotFoundError, ValueError):
        last = 0
    incarnation = max(last + 1, time.time_ns() // 1000)
    disk.write_private(path, f"{incarnation}\n".encode())
    state.tenure.begin(incarnation, last)
    return incarnation
