"""Router: one per group; relays messages between daemons and knows who is online.

Usage:
  agent router [options]

Options:
  --listen ADDR    Where daemons reach it. [default: 0.0.0.0:8888]
  --globaldb URL   redis://[:password@]host[:port] or rediss://… [default: redis://127.0.0.1:6379]
  --key FILE       The group's key, made by: agent key group > FILE [default: /etc/agent/group.key]
  --state DIR      Where it keeps its certificate and verifiers. [default: /var/lib/agent/router]
  --any-address    Admit a daemon that does not come from its own ip (address translation in between).
  --config FILE    TOML file with these options. [default: /etc/agent.toml]
  -h --help        This text.

Every option is also an environment variable (AGENT_LISTEN, …) and a key of the TOML file's [router] table.
A daemon is admitted only if its ip is in the world and its key is good for that ip.
"""

import logging
from pathlib import Path
from typing import Any

from agent import __version__, address, certificate, disk, logs, settings
from agent.globaldb import GlobalDb
from agent.handshake import Identity
from agent.key import read_group_key
from agent.listener import Listener
from agent.reception import Gate
from agent.service import Service
from agent.store import Store
from roles.router.handlers import TABLE
from roles.router.relay import RelayLink
from roles.router.state import RouterState
from roles.router.verifier import Verifiers

log = logging.getLogger("agent.router")
PORT = 8888


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "router")
    logs.begin()
    listen = address.parse(options["--listen"], PORT)
    secret = read_group_key(Path(options["--key"]))
    folder = disk.private_folder(Path(options["--state"]))
    disk.lock_folder(folder, "router")
    state = RouterState(
        GlobalDb(Store(options["--globaldb"])), Verifiers(secret, folder), not options["--any-address"]
    )
    service = Service("router")
    if not service.first(state.wait_for_world):
        return service.end()

    def serve(sock: Any, identity: Identity, peer_address: str) -> None:
        link = RelayLink(
            sock,
            local=b"",
            role=identity.role,
            name=identity.name,
            address=peer_address,
            version=identity.version,
            incarnation=identity.incarnation,
            table=TABLE,
            state=state,
        )
        state.enter(link)
        state.leave(link, link.run())

    gate = Gate(state.greet, state.verifier, state.failed, state.admit)
    listener = Listener(
        listen, certificate.own_certificate(folder), gate, Identity("router", "", __version__, 0), serve
    )
    service.at_stop(listener.stop)
    service.spawn(state.follow_world)
    service.spawn(state.announce)
    return service.run(f"router serving {listen.host}:{listener.port}")
