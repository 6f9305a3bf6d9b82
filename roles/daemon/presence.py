"""Who is online, as the router says; None for "nobody can know" while there is no link to it."""

from typing import Any

from agent.dialer import Dialer
from agent.errors import LinkLost, NoReply, Refused
from agent.link import Link
from agent.messages import PresenceChanged, ReadPresence

ASK_S = 10.0


class Presence:
    def __init__(self, own_ip: str) -> None:
        self.own_ip = own_ip
        self.dialer: Dialer | None = None
        self._machines: dict[str, dict[str, Any]] | None = None
        self._left: set[str] | None = None  # while we ask

    @property
    def link(self) -> Link | None:
        return self.dialer.link if self.dialer else None

    @property
    def trouble(self) -> str:
        return self.dialer.trouble if self.dialer else "no router is configured"

    @property
    def admitted(self) -> bool:
        """The router has let us in and has answered."""
        return self.link is not None and self._machines is not None and self._left is None

    @property
    def replaced(self) -> bool:
        """The router holds another daemon for the one of this ip."""
        return self.dialer is not None and self.dialer.replaced

    def joined(self, link: Link) -> None:
        """A new link to the router: what we knew is void; what it tells while we ask is newer than its answer."""
        self._machines, self._left = {}, set()
        try:
            known = link.call(ReadPresence(), ASK_S).machines
            known = {ip: about for ip, about in known.items() if isinstance(about, dict)}
        except (Refused, LinkLost, NoReply) as error:
            self._machines = None
            link.close(f"the router did not tell who is online: {error}")
            return
        self._machines = {ip: known[ip] for ip in known if ip not in self._left} | self._machines
        self._left = None

    def lost(self) -> None:
        self._machines = None

    def changed(self, notice: PresenceChanged) -> set[str]:
        """The machines whose link, as we knew it, is no more: they are gone, or have come back with another one."""
        if self._machines is None:
            return set()
        before = dict(self._machines)
        for ip in notice.left:
            self._machines.pop(ip, None)
        joined = {ip: about for ip, about in notice.joined.items() if isinstance(about, dict)}
        self._machines.update(joined)
        if self._left is not None:
            self._left = (self._left | set(notice.left)) - set(joined)
        return {
            ip
            for ip in before
            if ip not in self._machines or _link_of(self._machines[ip]) != _link_of(before[ip])
        }

    def online(self, ip: str) -> bool | None:
        if ip == self.own_ip:
            return True
        if self.link is None or self._machines is None:
            return None
        return ip in self._machines

    def about(self, ip: str) -> dict[str, Any]:
        return (self._machines or {}).get(ip, {}) if self.link else {}

    def others(self) -> list[str]:
        """Every other machine that is online."""
        return sorted(ip for ip in (self._machines or {}) if ip != self.own_ip) if self.link else []


def _link_of(about: dict[str, Any]) -> tuple[Any, Any]:
    return about.get("since_at"), about.get("address")
