"""What a keeper's callers are told: outcomes in words, from the state that was reached, never from what was asked.

    asked ─► at_once   it needs no effect                               } an Outcome, or None: wait on
               └─► reached   after each change, whether that answers it }
                     └─► not_yet   its time is over: the honest word

Pure functions over the entry; `age_s` is how long it is in its state.
"""

from agent import lifecycle
from agent.lifecycle import (
    ASKED,
    BACKOFF,
    DECLINED,
    DOWN,
    RUNNING,
    SAVED,
    STARTING,
    STOPPED,
    STOPPING,
    UNSAVED,
    UP,
)
from agent.names import split_key
from agent.outcome import ALREADY, FAILED, OK, Outcome
from roles.daemon.identity import Identity
from roles.daemon.journal import Entry

ALMOST_S = 0.1


def at_once(event: str, entry: Entry, leftovers: list[Identity], age_s: float) -> Outcome | None:
    """The answer that needs no effect; None where the effect is to be awaited."""
    life = entry.life
    if event == lifecycle.START_ASKED:
        if life.state == RUNNING:
            return Outcome(entry.key, ALREADY, f"runs since {spoken(age_s)}, pid {entry.pid}", entry.pid)
        if life.state == STOPPING and life.wanted == DOWN:
            since = f"is still stopping since {spoken(age_s)} ({_who(entry)})"
            return _failed(entry, f"{since}; start it again when it has stopped")
    stops = event in (lifecycle.STOP_ASKED, lifecycle.KILL_ASKED, lifecycle.FORCE_ASKED)
    if stops and not life.alive and life.state != BACKOFF and not leftovers:
        why = f": {entry.reason}" if entry.reason else ""
        return Outcome(entry.key, ALREADY, f"was not running ({life.state}{why})")
    return None


def reached(event: str, entry: Entry) -> Outcome | None:
    """What the present state says to who asked for `event`; None while it is under way."""
    state, wanted = entry.life.state, entry.life.wanted
    if event in (lifecycle.START_ASKED, lifecycle.RESTART_ASKED):
        if state in (STARTING, STOPPING) and wanted == UP:
            return None
        if state == RUNNING and event == lifecycle.RESTART_ASKED and entry.life.save in (DECLINED, UNSAVED):
            return _declined(entry) if entry.life.save == DECLINED else _restarted_unsaved(entry)
        if state == RUNNING:
            return Outcome(entry.key, OK, f"pid {entry.pid}", entry.pid)
        if wanted == DOWN:
            return _failed(entry, "another command asked it to stop meanwhile")
        return Outcome(entry.key, FAILED, entry.reason or f"it is {state}")
    if state == STOPPED:
        return _ended(event, entry)
    if state == RUNNING and entry.life.save == DECLINED:
        return _declined(entry)
    return _failed(entry, "another command asked it to start meanwhile") if wanted == UP else None


def not_yet(entry: Entry, spent_s: float, age_s: float) -> Outcome:
    """The honest word when the time is over and the effect is not there."""
    life, spent = entry.life, spoken(spent_s)
    if life.state == STARTING:
        return _failed(entry, f"still starting, not ready after {spoken(age_s)}, pid {entry.pid}")
    if life.state != STOPPING:
        why = f" ({entry.reason})" if entry.reason else ""
        return _failed(entry, f"not done after {spent}: it is {life.state}{why}")
    who = _who(entry)
    if life.save == ASKED:
        far = entry.reason or "no word of how far it is"
        return _failed(
            entry, f"still saving after {spent} ({far}), {who}; it goes on, and is stopped when it has saved"
        )
    if life.killing:
        return _failed(
            entry, f"SIGKILL was sent and {who} is there still after {spent}: it waits for a disk?"
        )
    if life.wanted == UP and not life.restarting:
        return _failed(entry, f"{entry.reason}; it is being stopped ({who}) and then tried again")
    again = "; when it has ended it is started again" if life.wanted == UP else ""
    kill = f"kill {split_key(entry.key)[1]} {_end_pid(entry)} ends it"
    stop_timeout_s = float(entry.terms.get("stop_timeout_s", 0.0))
    early = f", its stop_timeout_s is {stop_timeout_s:g} s" if age_s < stop_timeout_s - ALMOST_S else ""
    return _failed(entry, f"still running after {spent}{early} (saving?), {who}{again}; {kill}")


def _ended(event: str, entry: Entry) -> Outcome:
    """It is gone. That is all that a kill promises; a stop promises that it has saved, where it can."""
    if event == lifecycle.KILL_ASKED or entry.life.save not in (SAVED, UNSAVED):
        return Outcome(entry.key, OK, entry.exit)
    if entry.life.save == SAVED:
        return Outcome(entry.key, OK, f"saved, then {entry.exit}")
    return _failed(
        entry, f"it is gone ({entry.exit}), but had not acknowledged that it saved: {entry.unsaved}"
    )


def _declined(entry: Entry) -> Outcome:
    return _failed(entry, f"{entry.reason}; it goes on, pid {entry.pid} (stop --force ends it all the same)")


def _restarted_unsaved(entry: Entry) -> Outcome:
    return _failed(
        entry, f"it runs again, pid {entry.pid}, but had not acknowledged that it saved: {entry.unsaved}"
    )


def closing(entry: Entry) -> Outcome:
    return _failed(entry, "the daemon is stopping; the process goes on")


def spoken(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _failed(entry: Entry, detail: str) -> Outcome:
    return Outcome(entry.key, FAILED, detail, entry.pid)


def _who(entry: Entry) -> str:
    if entry.pid:
        return f"pid {entry.pid}"
    return "its children pid " + ", ".join(str(each.pid) for each in entry.leftovers)


def _end_pid(entry: Entry) -> int:
    return entry.pid or (entry.leftovers[0].pid if entry.leftovers else 0)
