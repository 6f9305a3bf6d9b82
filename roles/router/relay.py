"""The relay: frames from one daemon's link to another's, by their fixed prefix alone.

    data = [frame][frame][frame]…        one dict look-up a frame: (dst_len, src_len, dst, src) -> target link
               └───────┴── same target   appended to the target's queue together, once for all of `data`

Never the JSON, never a copy of a body of its own. The look-up key holds `src` too, so a forged one is never found and
falls to the slow path, which ends the link. What may not reach a target unseen is checked here because a target would
hold it against *us*: length, kind and address lengths.
"""

import logging
from collections.abc import Callable, Mapping

from agent import codec, messages, names, wire
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
        size, limit = len(data), self._decoder.limit
        unpack, last = wire.PREFIX_NO_SEQ.unpack_from, len(data) - wire.PREFIX_BYTES
        frames: dict[RelayLink, list[bytes]] = {}  # of this data, for each target
        append_for: dict[
            bytes, Callable[[bytes], None]
        ] = {}  # addresses of a frame -> append to its target's list
        offset = 0
        try:
            while offset <= last:
                length, kind, dst_len, src_len = unpack(data, offset)
                end, body_at = offset + 4 + length, offset + 11 + dst_len + src_len
                if body_at > end or length > limit or not 1 <= kind <= 4:
                    wire.frame_end(data, offset, limit)  # says what is wrong
                if end > size:
                    break
                append = append_for.get(data[offset + 9 : body_at])
                if append is None:
                    target = self._routes.get(data[offset + 9 : body_at])
                    if target is None:
                        target = self._find_route(wire.unpack(data, offset, end))
                    if target is self:  # for the router itself
                        at, offset = offset, end
                        self.receive(wire.unpack(data, at, end))
                        continue
                    if target is None:
                        offset = end
                        continue
                    append = append_for[data[offset + 9 : body_at]] = frames.setdefault(target, []).append
                append(data[offset:end])
                offset = end
        finally:  # also when the peer breaks the protocol: what it said before that holds, however the bytes were cut
            for target, some in frames.items():
                if not target.push(*some):
                    self._refuse(
                        b"".join(some),
                        "overloaded",
                        f"the link to {target} is full or gone: nothing was sent",
                    )
        self._decoder.keep(data, offset)

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
            self._refuse(wire.pack(*frame), "unreachable", f"machine {ip} is not connected to the router")
            return None
        if len(self._routes) >= MAX_ROUTES:  # a machine may make up as many names as it likes
            self._routes.clear()
        self._routes[wire.address_key(frame.dst, frame.src)] = target
        return target

    def _speaks_for(self, src: bytes) -> bool:
        return _ip_of(src) == self.peer.name

    def _refuse(self, frames: bytes, code: str, text: str) -> None:
        """Tell the asker of each request among these frames; whoever does not wait is not told."""
        start = 0
        while start < len(frames):
            end = wire.frame_end(frames, start, self._decoder.limit)
            frame = wire.unpack(frames, start, end)
            if frame.kind == wire.REQUEST:
                body = codec.encode(messages.Error(code, text))
                self.push(wire.pack(wire.ERROR, frame.seq, frame.src, b"", body))
            start = end


def _ip_of(address: bytes) -> str:
    """The machine of an address: an ip, or a process key with an ip in it; what is neither comes back as it is."""
    text = address.decode(errors="replace")
    if names.is_ip(text):
        return text
    try:
        return names.split_key(text)[1]
    except ConfigError:
        return text
