"""What the router knows: which machines are configured, which daemons are online, and who claims another's place.

A new connection for an ip wins over an old one unless it is of an older incarnation; a daemon that has been replaced
and comes back is a second daemon for one ip, and is reported as such for RIVAL_S.
"""

import logging
import time
from typing import NamedTuple

import gevent

from agent import messages, names
from agent.errors import Refused, StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.handshake import Identity, Verifier
from agent.throttle import Throttle
from agent.trouble import Trouble
from roles.router.relay import RelayLink
from roles.router.verifier import Verifiers

log = logging.getLogger("agent.router")

WORLD_S = 2.0  # how soon a change of the world counts without anybody asking
FRESH_S = 0.5  # a stranger makes us look again, but not more often than this
ANNOUNCE_S = 0.05  # 1,000 daemons that come back together make tens of notices, not a million
RIVAL_S = 60.0
TRIES, TRIES_S = 20, 60.0


class Rival(NamedTuple):
    address: str
    seen: float  # monotonic


class RouterState:
    def __init__(self, globaldb: GlobalDb, verifiers: Verifiers, check_address: bool = True) -> None:
        self.links: dict[str, RelayLink] = {}
        self._globaldb = globaldb
        self._verifiers = verifiers
        self._check_address = check_address
        self._ips: frozenset[str] = frozenset()
        self._read_at = 0.0
        self._trouble = Trouble()
        self._unsaved = Trouble()
        self._rivals: dict[str, Rival] = {}
        self._throttle = Throttle(TRIES, TRIES_S)
        self._joined: set[str] = set()
        self._left: set[str] = set()

    # ---- the world ------------------------------------------------------------------------------------------------

    def read_world(self) -> None:
        """Which ips are configured. Raises StoreDown, StoreRefused."""
        ips = frozenset(self._globaldb.read_ips())
        self._read_at = time.monotonic()
        if self.links and not ips:
            log.error(
                "the world in globaldb is empty: was it emptied by mistake? keeping the %d known machines",
                len(self._ips),
            )
            return
        self._ips = ips

    def wait_for_world(self) -> None:
        """Before serving: without the world nobody can be admitted."""
        while not self._try_world():
            gevent.sleep(1.0)

    def follow_world(self) -> None:
        """For ever: machines added are admitted, machines removed are let go."""
        while True:
            gevent.sleep(WORLD_S)
            if self._try_world():
                for ip in [ip for ip in self.links if ip not in self._ips]:
                    log.warning("machine %s: no longer in the world, let go", ip)
                    self.links[ip].retire()
                    gevent.spawn(self.links[ip].goodbye, f"machine {ip} is no longer in the world", "removed")
                self._save_verifiers()
            self._forget_rivals()

    def _save_verifiers(self) -> None:
        """A full disk costs the next start some key stretching, and nothing else."""
        try:
            self._verifiers.save()
        except OSError as error:
            if self._unsaved.is_news(error):
                log.warning("verifiers of machines are not kept: %s", error)

    def _forget_rivals(self) -> None:
        for ip in [ip for ip, rival in self._rivals.items() if time.monotonic() - rival.seen >= RIVAL_S]:
            del self._rivals[ip]
            self._joined.add(ip)

    def _try_world(self) -> bool:
        try:
            self.read_world()
        except (StoreDown, StoreRefused) as error:
            if self._trouble.is_news(error):
                log.warning("%s; going on with %d known machines, trying on", error, len(self._ips))
            return False
        if self._trouble.is_over():
            log.info("globaldb is back: %d machines", len(self._ips))
        return True

    def _configured(self, ip: str) -> bool:
        if ip not in self._ips and time.monotonic() - self._read_at > FRESH_S and names.is_ip(ip):
            self._read_at = time.monotonic()
            self._try_world()
        return ip in self._ips

    # ---- the gate (agent.reception.Gate) --------------------------------------------------------------------------

    def greet(self, hello: messages.Hello, address: str) -> None:
        if hello.role != "daemon":
            raise Refused(
                "forbidden", f"the router serves daemons only; an {hello.role} goes to a daemon (port 8889)"
            )
        wait_s = self._throttle.wait_s(_host(address), time.monotonic())
        if wait_s:
            raise Refused("too_many", f"too many failed logins from your address; wait {wait_s:.0f} s")

    def verifier(self, _role: str, name: str) -> Verifier:
        return self._verifiers.of(name) if self._configured(name) else self._verifiers.nobody(name)

    def failed(self, _role: str, name: str, address: str) -> None:
        self._throttle.failed(_host(address), time.monotonic())
        why = "wrong machine key" if name in self._ips else "no machine of the world has this ip"
        log.warning("daemon %.64r from %s: refused, %s", name, address, why)

    def admit(self, identity: Identity, address: str) -> None:
        ip = identity.name
        if self._check_address and _host(address) != ip:
            log.warning("daemon %s from %s: refused, it does not come from its own ip", ip, address)
            raise Refused(
                "forbidden",
                f"this connection comes from {_host(address)}, not from {ip}; "
                "behind address translation start the router with --any-address",
            )
        now = self.links.get(ip)
        if now is not None and identity.incarnation < now.peer.incarnation:
            self._rivals[ip] = Rival(address, time.monotonic())
            self._joined.add(ip)  # announced anew, with its rival
            log.error("machine %s: TWO DAEMONS: one from %s was replaced by the one from %s and came back; "
                      "stop one of them", ip, address, now.peer.address)  # fmt: skip
            raise Refused(
                "forbidden",
                f"a newer daemon for {ip} is connected from {now.peer.address}: stop one of the two",
            )

    # ---- links ----------------------------------------------------------------------------------------------------

    def enter(self, link: RelayLink) -> None:
        """After its login; an older link for the same ip is let go."""
        ip = link.peer.name
        old = self.links.get(ip)
        if old is not None and link.peer.incarnation < old.peer.incarnation:
            # Both were admitted while neither was here yet: the newer daemon wins all the same.
            link.retire()
            gevent.spawn(link.goodbye, f"replaced by a newer connection from {old.peer.address}", "replaced")
            return
        self.links[ip] = link
        link.relay_between(self.links)
        self._changed(ip, self._joined, self._left)
        log.info("machine %s: online from %s (agent %s)", ip, link.peer.address, link.peer.version)
        if old is not None:
            old.retire()
            replaced = old.peer.incarnation != link.peer.incarnation
            gevent.spawn(old.goodbye, f"replaced by a newer connection from {link.peer.address}",
                         "replaced" if replaced else "")  # fmt: skip

    def leave(self, link: RelayLink, why: str) -> None:
        ip = link.peer.name
        if self.links.get(ip) is link:
            del self.links[ip]
            self._changed(ip, self._left, self._joined)
            log.info("machine %s: offline (%s)", ip, why)

    def presence(self) -> dict[str, dict[str, object]]:
        return {ip: self._entry(ip) for ip in list(self.links)}

    def announce(self) -> None:
        """For ever: tell all daemons who came and went, in one notice for what happened at the same time."""
        while True:
            gevent.sleep(ANNOUNCE_S)
            if not self._joined and not self._left:
                continue
            joined, left = self._joined, self._left
            self._joined, self._left = set(), set()
            notice = messages.PresenceChanged(
                {ip: self._entry(ip) for ip in joined if ip in self.links}, sorted(left)
            )
            for link in list(self.links.values()):
                link.notify(notice)

    def _changed(self, ip: str, into: set[str], out_of: set[str]) -> None:
        into.add(ip)
        out_of.discard(ip)
        for link in self.links.values():
            link.forget_routes()

    def _entry(self, ip: str) -> dict[str, object]:
        peer = self.links[ip].peer
        rival = self._rivals.get(ip)
        return {
            "since_at": round(peer.since_at, 3),
            "version": peer.version,
            "address": peer.address,
            "rival": rival.address if rival is not None else "",
        }


def _host(address: str) -> str:
    return address.rpartition(":")[0]
