"""The GM bus on the machine of the targets: rights again, the application's own declaration, then its link.

    CallMachineGm ─► each target: joined? may he? declared? do the words fit? ─► none has run yet
                       └─► all of them at once: ExecuteGm ─► verdict, batched ─► the daemon that asked

What was sent and not answered is in doubt; memo.py knows which ids were sent to which run.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import gevent
import ujson

from agent import declaration, gm
from agent.codec import tame
from agent.errors import LinkLost, NoReply, Refused, UsageError
from agent.gm import (
    ABSENT,
    ANSWERED,
    FORBIDDEN,
    IN_DOUBT,
    INVALID,
    MAX_ANSWER_BYTES,
    REFUSED,
    TIMED_OUT,
    UNKNOWN,
    Answer,
)
from agent.line import one_line
from agent.link import Peer
from agent.messages import CallMachineGm, ExecuteGm, GmAnswered
from roles.daemon.application import Application
from roles.daemon.memo import Memo
from roles.daemon.rights import may
from roles.daemon.state import DaemonState

BATCH_BYTES = 512 * 1024
QUEUED_BYTES, DRAIN_S = 8 * 1024 * 1024, 0.01
MAX_REASON_CHARS = 500
OWN_HOP_S = 0.5  # kept back, so that we can still say where time ran out


class Called(NamedTuple):
    """Verdicts, and the call in words, secrets masked (\"\" where no declaration was at hand)."""

    answers: list[Answer]
    spoken: str


@dataclass(slots=True)
class _Ready:
    """A target that can be called."""

    application: Application
    command: declaration.Declaration
    arguments: dict[str, Any]


def call(state: DaemonState, order: CallMachineGm, wait_s: float) -> Called:
    """Raises Refused where a red command is not confirmed: then none has run."""
    grants = state.rights.grants(order.user)
    ready: dict[str, _Ready] = {}
    answers: list[Answer] = []
    for key in [key for key in order.targets if isinstance(key, str)]:
        found = _prepare(state, order, grants, key)
        if isinstance(found, Answer):
            answers.append(found)
        else:
            ready[key] = found
    spoken = (
        ""
        if order.again
        else gm.agreed((gm.spoken(each.command, each.arguments) for each in ready.values()), order.command)
    )
    if order.plan:
        return Called(
            answers + [Answer(key, ANSWERED, each.command.danger) for key, each in ready.items()], spoken
        )
    red = [key for key, each in ready.items() if each.command.danger == declaration.RED]
    if red and not (order.sure or order.again):
        more = f" and {len(red) - 1} more" if len(red) > 1 else ""
        raise Refused(
            "unconfirmed", f"{order.command} is red ({red[0]}{more}); confirm it (--yes in scripts)"
        )
    calls = [gevent.spawn(_call, state, order, key, each, wait_s) for key, each in ready.items()]
    gevent.joinall(calls, raise_error=True)
    return Called(answers + [each.value for each in calls], spoken)


def batches(answers: Iterable[Answer]) -> Iterator[list[list[Any]]]:
    """Rows for the wire in lots that fit a frame."""
    batch: list[list[Any]] = []
    size = 0
    for answer in answers:
        length = len(ujson.dumps(answer.answer)) + len(answer.text)
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(list(answer))
        size += length
    if batch:
        yield batch


def tell(peer: Peer, call_: str, some: Iterable[list[list[Any]]]) -> None:
    """Batches ahead of the reply; more than the link may hold wait until it has been read."""
    for batch in some:
        peer.notify(GmAnswered(call_, batch))
        while peer.link.queued_bytes > QUEUED_BYTES and not peer.link.closed_why:
            gevent.sleep(DRAIN_S)


def _prepare(state: DaemonState, order: CallMachineGm, grants: tuple, key: str) -> "_Ready | Answer":
    if key not in state.keepers:
        return Answer(key, ABSENT, None, f"it is not configured on {state.ip}")
    if not may(grants, f"gm:{order.command}", state.process_of(key)):
        return Answer(key, FORBIDDEN, None, f"user {order.user} may not gm:{order.command} there")
    application = state.applications.get(key)
    what = f"it is {state.keepers[key].state} and has not joined its daemon"
    if order.again:
        return _prepare_again(state, order, key, application, what)
    if application is None:
        return Answer(key, ABSENT, None, what)
    try:
        command = application.declarations.find(order.command)
        arguments = tame(gm.bind(command, order.words, order.arguments))
    except UsageError as error:
        return Answer(key, INVALID, None, one_line(str(error), MAX_REASON_CHARS))
    if len(ujson.dumps(arguments)) > BATCH_BYTES:  # the application would have to hang up
        return Answer(key, INVALID, None, f"its arguments are longer than {BATCH_BYTES} bytes")
    return _Ready(application, command, arguments)


def _prepare_again(
    state: DaemonState, order: CallMachineGm, key: str, application: Application | None, what: str
) -> "_Ready | Answer":
    """Asking what became of a call needs none of its words, and no declaration."""
    memo = state.memos.get(own_id(order), key)
    if memo is not None and memo.answer is not None and not memo.in_doubt:
        return memo.answer
    if application is None:
        return Answer(key, UNKNOWN, None, f"it cannot be asked now: {what}")
    return _Ready(application, declaration.Declaration(order.command, danger=declaration.READ), {})


def own_id(order: CallMachineGm) -> str:
    """What the call is known by here and in the application: an id is good for one user's call of one command."""
    return hashlib.sha256(f"{order.user}\0{order.command}\0{order.id}".encode(errors="replace")).hexdigest()[
        :32
    ]


def _call(state: DaemonState, order: CallMachineGm, key: str, ready: _Ready, wait_s: float) -> Answer:
    """At most once, however often it is repeated."""
    id_ = own_id(order)
    memo = state.memos.get(id_, key)
    call = hashlib.sha256(ujson.dumps(ready.arguments, sort_keys=True).encode()).hexdigest()
    if memo is not None and not order.again and memo.call != call:
        return Answer(key, INVALID, None, "this id is that of a call with other arguments; nothing was run")
    if memo is None and not order.again:
        memo = state.memos.begin(id_, key, ready.application.incarnation, call)
        answer = Answer(key, UNKNOWN, None, "the daemon was interrupted")
        ran = True
        try:
            answer, ran = _execute(order, key, ready, wait_s, again=False)
        finally:
            state.memos.settle(id_, key, memo, answer, ran=ran)
        return answer
    return _again(state, order, key, ready, wait_s, memo)


def _again(
    state: DaemonState, order: CallMachineGm, key: str, ready: _Ready, wait_s: float, memo: Memo | None
) -> Answer:
    """What became of it; only the application can know what is in doubt here."""
    if memo is not None and memo.answer is None and not memo.done.wait(wait_s):
        return Answer(
            key, TIMED_OUT, None, f"it is still under way; the daemon of {state.ip} waited {wait_s:.1f} s"
        )
    if memo is not None and memo.answer is not None and not memo.in_doubt:
        return memo.answer
    if memo is not None and memo.incarnation != ready.application.incarnation:
        return Answer(key, UNKNOWN, None, "it was sent to the run before this one, which never answered")
    answer, ran = _execute(order, key, ready, wait_s, again=True)
    if not ran:  # that it was not asked says nothing of what it did before
        return Answer(key, UNKNOWN, None, f"it cannot be asked now: {answer.text}")
    if memo is not None and answer.verdict not in IN_DOUBT:
        state.memos.settle(own_id(order), key, memo, answer, ran=True)
    return answer


def _execute(
    order: CallMachineGm, key: str, ready: _Ready, wait_s: float, *, again: bool
) -> tuple[Answer, bool]:
    """The verdict, and whether it may have run."""
    request = ExecuteGm(own_id(order), order.command, ready.arguments, order.user, again)
    try:
        answer = tame(ready.application.execute(request, max(OWN_HOP_S, wait_s - OWN_HOP_S)).answer)
    except Refused as error:
        return _refusal(key, error)
    except LinkLost:
        return Answer(
            key, UNKNOWN, None, "its link to the daemon was lost before it answered: it may have run"
        ), True
    except NoReply:
        text = f"the application did not answer within {max(OWN_HOP_S, wait_s - OWN_HOP_S):.1f} s: it may have run"
        return Answer(key, TIMED_OUT, None, text), True
    size = len(ujson.dumps(answer, ensure_ascii=False))
    if size > MAX_ANSWER_BYTES:
        text = f"its answer of {size} characters is longer than {MAX_ANSWER_BYTES} and was dropped"
        return Answer(key, ANSWERED, None, text), True
    return Answer(key, ANSWERED, answer), True


def _refusal(key: str, error: Refused) -> tuple[Answer, bool]:
    text = one_line(str(error), MAX_REASON_CHARS)
    if error.code == "refused":
        return Answer(key, REFUSED, None, text), True
    if error.code == "bad_request":
        return Answer(key, INVALID, None, text), False
    if error.code == "unreachable":  # the link was closed: nothing was sent
        return Answer(key, ABSENT, None, "it has just lost its link to the daemon; nothing was sent"), False
    if error.code == "forgotten":
        return Answer(key, UNKNOWN, None, "the application does not know any more what became of it"), True
    return Answer(key, UNKNOWN, None, f"it failed in the application: {text}"), True
