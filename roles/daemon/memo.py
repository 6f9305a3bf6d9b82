"""What became of GM commands by their ids, so that a repeat does nothing twice: the newest ones, in memory.

    unknown id       it may be sent, and is entered before it is
    under way        whoever repeats it waits for the same answer
    answered         the same answer again
    in doubt         it was sent, and no answer came: only the application can know

An application remembers its ids as well (docs/sdk.md): so the death of this daemon forgets nothing that matters.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

import ujson
from gevent.event import Event

from agent.gm import IN_DOUBT, Answer

MOST = 4096
KEPT_BYTES = 4096  # of an answer; a longer one is asked for again


@dataclass(slots=True)
class Memo:
    """One id at one application. `answer` is None while it is under way."""

    incarnation: str
    call: str = ""  # digest of its arguments
    answer: Answer | None = None
    done: Event = field(default_factory=Event)

    @property
    def in_doubt(self) -> bool:
        return self.answer is not None and self.answer.verdict in IN_DOUBT

    def settle(self, answer: Answer) -> None:
        """Whoever waits gets it."""
        self.answer = answer
        self.done.set()


class Memos:
    def __init__(self) -> None:
        self._memos: OrderedDict[tuple[str, str], Memo] = OrderedDict()
        self._chosen: OrderedDict[str, str] = OrderedDict()

    def get(self, id_: str, key: str) -> Memo | None:
        return self._memos.get((id_, key))

    def begin(self, id_: str, key: str, incarnation: str, call: str = "") -> Memo:
        memo = self._memos[id_, key] = Memo(incarnation, call)
        if len(self._memos) > MOST:
            self._memos.popitem(last=False)
        return memo

    def settle(self, id_: str, key: str, memo: Memo, answer: Answer, *, ran: bool) -> Answer:
        """`ran` false: nothing was sent, so a repeat may send it."""
        memo.settle(answer)
        if not ran or len(ujson.dumps(answer.answer)) > KEPT_BYTES:
            self._memos.pop((id_, key), None)
        return answer

    # ---- calls for any one of several

    def chosen(self, id_: str) -> str:
        """Which one such a call went to; "" where it is not known."""
        return self._chosen.get(id_, "")

    def choose(self, id_: str, key: str) -> None:
        self._chosen[id_] = key
        if len(self._chosen) > MOST:
            self._chosen.popitem(last=False)
