"""The relay: frames from one daemon's link to another's, by their fixed prefix alone.

    data = [frame][frame][frame]…        one dict look-up a frame: (dst_len, src_len, dst, src) -> target link
            └──── same target ────┘      appended to the target's queue as one slice

Never the JSON, never a copy of a body of its own. The look-up key holds `src` too, so a forged one is never found and
falls to the slow path, which ends the link. What may not reach a target unseen is checked here because a target would
hold it against *us*: length, kind and address lengths.
"""

import logging
from collections.abc import Mapping

from agent import messages, names, wire
from agent.errors import ConfigError, WireError
from agent.link import Link

log = logging.getLogger("agent.relay")

MAX_ROUTES = 16_384


class RelayLink(Link):
    """The router's link to one daemon."""

    daemons: Mapping[str, "RelayLink"] = {}  # ip -> link, of the whole router

    def relay_between(self, daemons: Mapping[str, "RelayLink"]) -> None:
        self.daemons = daemons
        self._routes: dict[bytes, RelayLink] = {}
        self._retired = False

    def retire(self) -> None:
        """Another link has taken its place, or it is being let go: what it still says is dropped."""
        self._retired = True

    def forget_routes(self) -> None:
        """After a link came or went."""
        self._routes.clear()

    def consume(self, data: bytes) -> None:
        if self._retired:
            return
        data = self._decoder.join(data)
        size = len(data)
        limit = self._decoder.limit
        unpack, routes = wire.PREFIX.unpack_from, self._routes
        start = offset = 0  # data[start:offset] are whole frames for `target`, not yet passed on
        target: RelayLink | None = None
        try:
            while size - offset >= 11:
                length, kind, _seq, dst_len, src_len = unpack(data, offset)
                if not 7 + dst_len + src_len <= length <= limit or not 1 <= kind <= 4:
                    wire.frame_end(data, offset, limit)  # says what is wrong
                end = offset + 4 + length
                if end > size:
                    break
                found = routes.get(data[offset + 9 : offset + 11 + dst_len + src_len])
                if found is None:
                    found = self._find_route(wire.unpack(data, offset, end))
                if found is not target:
                    if target is not None:
                        self._pass_on(target, data, start, offset)
                    target, start = found, offset
                if found is self:  # for the router itself
                    target, start = None, end
                    self.receive(wire.unpack(data, offset, end))
                offset = end
        finally:  # also when the peer breaks the protocol: what it said before that holds, however the bytes were cut
            if target is not None:
                self._pass_on(target, data, start, offset)
        self._decoder.keep(data, offset)

    def _pass_on(self, target: "RelayLink", data: bytes, start: int, end: int) -> None:
        if not target.push(data[start:end]):
            self._refuse(
                data, start, end, "overloaded", f"the link to {target} is full or gone: nothing was sent"
            )

    def _find_route(self, frame: wire.Frame) -> "RelayLink | None":
        """The link a frame goes to, remembered; None when it has been refused. WireError for a forged `src`."""
        own = self.peer.name
        if not frame.dst:
            return self
        if not self._speaks_for(frame.src):
            raise WireError(f"a frame in the name of {frame.src!r} came over the link of {own}")
        ip = _ip_of(frame.dst)
        target = self.daemons.get(ip)
        if target is None:
            self._refuse(
                wire.pack(*frame), 0, None, "unreachable", f"machine {ip} is not connected to the router"
            )
            return None
        if len(self._routes) >= MAX_ROUTES:  # a machine may make up as many names as it likes
            self._routes.clear()
        self._routes[wire.address_key(frame.dst, frame.src)] = target
        return target

    def _speaks_for(self, src: bytes) -> bool:
        return _ip_of(src) == self.peer.name

    def _refuse(self, data: bytes, start: int, end: int | None, code: str, text: str) -> None:
        """Tell the asker of each request among these frames; whoever does not wait is not told."""
        end = len(data) if end is None else end
        while start < end:
            stop = wire.frame_end(data, start, self._decoder.limit)
            frame = wire.unpack(data, start, stop)
            if frame.kind == wire.REQUEST:
                body = messages.encode(messages.Error(code, text))
                self.push(wire.pack(wire.ERROR, frame.seq, frame.src, b"", body))
            start = stop


def _ip_of(address: bytes) -> str:
    """The machine of an address: an ip, or a process key with an ip in it; what is neither comes back as it is."""
    text = address.decode(errors="replace")
    if names.is_ip(text):
        return text
    try:
        return names.split_key(text)[1]
    except ConfigError:
        return text
