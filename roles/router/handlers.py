"""What a daemon may ask the router itself; everything else it sends is relayed unread (relay)."""

from agent.dispatch import SHARED, Table
from agent.link import Peer
from agent.messages import Presence, ReadPresence
from roles.router.state import RouterState

TABLE = Table(SHARED)


@TABLE.on(ReadPresence, ask=("daemon",))
def read_presence(state: RouterState, _peer: Peer, _message: ReadPresence) -> Presence:
    """Who is online, since when and from where."""
    return Presence(state.presence())
