"""The life of one process: one pure table (state x event). Everything that decides about a life lives here.

Rules for the next editor:
- No I/O, no clock, no gevent. `step` is given what it needs to know (Policy, Facts) and answers with the new
  Life and what is to be done, in order. The keeper does it and comes back with the next event.
- `state` is what the daemon knows, `wanted` what operators asked for. Only the *_ASKED events (and the adoption
  of a process nobody remembers) change `wanted`: so nothing restarts what an operator stopped.
- The first Step of a row whose `when` holds is taken. A pair that is in no row changes nothing: a timer that fired
  late, a word that came twice.
- An application that can is asked to save before it is signalled: `save` says how far that is. While it is "asked" no
  signal goes out; what declines goes on running; what did not acknowledge is never called saved. What a run came to
  says nothing of the next one.
- SPAWN stands only where nothing of the process lives: not after `ended` while STOPPING, but after `emptied`.

            start_asked          ready                exited, by policy      never ready, cannot be spawned
    STOPPED ──────────► STARTING ─────► RUNNING ─────────► EXITED, BACKOFF        FATAL
       ▲                   │ ▲ └──────────┼──────────────────────┘ │                ▲
       │ emptied           │ └────────────┼──────── backoff_over ──┘                │
       └───── STOPPING ◄───┴── stop, kill, restart asked                 STARTING ──┘
                └─ declined to save ─► RUNNING
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

STOPPED = "STOPPED"  # nothing of it lives, and an operator or nobody wants it so
STARTING = "STARTING"  # spawned, not yet ready
RUNNING = "RUNNING"
STOPPING = "STOPPING"  # asked to end; it, or a child in its session, still lives
EXITED = "EXITED"  # ended by itself; nobody restarts it
BACKOFF = "BACKOFF"  # ended or never became ready; will be started again
FATAL = "FATAL"  # could not be started; an operator must look
STATES = (STOPPED, STARTING, RUNNING, STOPPING, EXITED, BACKOFF, FATAL)
ALIVE = (STARTING, RUNNING, STOPPING)

# Life.save: what became of asking an application to save before it is signalled; "" where it cannot be asked
ASKED = "asked"
SAVED = "saved"
UNSAVED = "unsaved"  # it did not acknowledge: no word in time, or it ended first
DECLINED = "declined"

UP = "up"
DOWN = "down"

START_ASKED = "start_asked"
STOP_ASKED = "stop_asked"
KILL_ASKED = "kill_asked"
RESTART_ASKED = "restart_asked"
FORCE_ASKED = "force_asked"  # stop, and SIGKILL where nothing milder helped
SPAWNED = "spawned"
SPAWN_FAILED = "spawn_failed"  # and trying again would not help: command missing, no such user
SPAWN_BLOCKED = "spawn_blocked"  # it may help: the port is taken, a child of the last run lives, no memory
READY = "ready"
READY_TIMED_OUT = "ready_timed_out"
ENDED = "ended"  # the main process is gone
EMPTIED = "emptied"  # the main process and its whole session are gone
STOP_TIMED_OUT = "stop_timed_out"
SAVE_ACKNOWLEDGED = "save_acknowledged"
SAVE_DECLINED = "save_declined"
SAVE_TIMED_OUT = "save_timed_out"
JOINED = "joined"  # its application has a link again
BACKOFF_OVER = "backoff_over"
ADOPTED = "adopted"  # a new daemon found it alive
RESUMED = "resumed"  # a new daemon found nothing of it alive, or only what it left behind
EVENTS = (
    START_ASKED, STOP_ASKED, KILL_ASKED, RESTART_ASKED, FORCE_ASKED, SPAWNED, SPAWN_FAILED, SPAWN_BLOCKED, READY,
    READY_TIMED_OUT, ENDED, EMPTIED, STOP_TIMED_OUT, SAVE_ACKNOWLEDGED, SAVE_DECLINED,
    SAVE_TIMED_OUT, JOINED, BACKOFF_OVER, ADOPTED, RESUMED,
)  # fmt: skip

SPAWN = (
    "spawn"  # check port and leftovers, then start it; answers with spawned, spawn_failed or spawn_blocked
)
AWAIT_READY = "await_ready"  # watch for readiness; answers with ready
ASK_SAVE = "ask_save"  # through its link, or when it joins; answers with save_acknowledged or save_declined
SIGNAL_STOP = "signal_stop"  # the polite signal, to the main process
SIGNAL_REST = "signal_rest"  # the polite signal, to what the main process left behind; answers with emptied
SIGNAL_KILL = "signal_kill"  # SIGKILL to the main process and its session
ARM_READY = "arm_ready"  # the four timers; a life has one at most, and each change of state disarms it
ARM_SAVE = "arm_save"  # begun anew at each word of progress
ARM_STOP = "arm_stop"
ARM_BACKOFF = "arm_backoff"
REPORT = "report"  # tell whoever waits that it did not happen in time

NEVER = "never"
ON_FAILURE = "on-failure"
ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the launch specification says about ends and restarts."""

    restart: str = NEVER
    kill_after_stop: bool = False
    restart_tries: int = 3  # so many restarts in a row that never became ready, then FATAL
    backoff_s: float = 1.0  # before the first restart; doubled for each further one
    backoff_max_s: float = 60.0
    stable_s: float = 60.0  # a run at least this long starts the back-off anew


@dataclass(frozen=True, slots=True)
class Facts:
    """What came with an event."""

    clean: bool = False  # exited with code 0
    ran_s: float = 0.0  # since it was spawned
    leftovers: bool = False  # a child of the last run lives
    signalled: bool = False  # the polite signal went out before the daemon died
    saves: bool = False  # the application has said that it saves when asked to


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Life:
    """Everything that decides what happens next to a process; the daemon's journal keeps it."""

    state: str = STOPPED
    wanted: str = DOWN
    unready: int = 0  # ended or stopped before it was ready, times in a row
    failures: int = 0  # back-offs in a row
    automatic: bool = False  # this start was asked by the policy, not by an operator
    restarting: bool = False  # STOPPING, and to be started again when all of it is gone
    killing: bool = False  # STOPPING, and SIGKILL was sent
    save: str = ""  # of the stop that goes on, or of the last one
    force: bool = False  # STOPPING, and SIGKILL is to follow the time-out

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


Condition = Callable[[Life, Policy, Facts], bool]
Change = Callable[[Life, Policy, Facts], Life]


@dataclass(frozen=True, slots=True)
class Step:
    """One possibility of a row: when it is taken, where it leads, what is to be done."""

    to: str
    actions: tuple[str, ...] = ()
    when: Condition | None = None
    change: Change | None = None


def backoff_s(life: Life, policy: Policy) -> float:
    """1, 2, 4 ... 60 s: how long a life that is now in BACKOFF stays there."""
    return min(policy.backoff_max_s, policy.backoff_s * 2 ** min(max(0, life.failures - 1), 30))


def _wanted_down(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.wanted == DOWN


def _restarting(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.restarting


def _automatic(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.automatic


def _leftovers(life: Life, policy: Policy, facts: Facts) -> bool:
    return facts.leftovers


def _killing(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.killing


def _signalled(life: Life, policy: Policy, facts: Facts) -> bool:
    return facts.signalled


def _restarts(life: Life, policy: Policy, facts: Facts) -> bool:
    return policy.restart != NEVER


def _stays_down(life: Life, policy: Policy, facts: Facts) -> bool:
    return policy.restart == NEVER or (policy.restart == ON_FAILURE and facts.clean)


def _gives_up(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.unready + 1 > policy.restart_tries


def _kills(life: Life, policy: Policy, facts: Facts) -> bool:
    return (policy.kill_after_stop or life.force) and not life.killing


def _can_ask(life: Life, policy: Policy, facts: Facts) -> bool:
    return facts.saves


def _asking(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.save == ASKED


def _asking_by_force(life: Life, policy: Policy, facts: Facts) -> bool:
    return life.save == ASKED and life.force


def _up(life: Life, policy: Policy, facts: Facts) -> Life:
    return Life(life.state, UP)


def _automatically(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, automatic=True, restarting=False, killing=False)


def _down(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, wanted=DOWN, restarting=False)


def _stopped(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(_down(life, policy, facts), save=_save(facts), force=False)


def _forced(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(_down(life, policy, facts), save=_save(facts), force=True)


def _by_force(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(_down(life, policy, facts), force=True)


def _killed(life: Life, policy: Policy, facts: Facts) -> Life:
    """A stop went on, or nothing but children lives."""
    return replace(_unsaved(life, policy, facts), wanted=DOWN, restarting=False, killing=True)


def _killed_unasked(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(_killed(life, policy, facts), save=UNSAVED if facts.saves else "")


def _save(facts: Facts) -> str:
    """How a stop begins."""
    return ASKED if facts.saves else ""


def _saved(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, save=SAVED)


def _unsaved(life: Life, policy: Policy, facts: Facts) -> Life:
    """It will not acknowledge any more."""
    return replace(life, save=UNSAVED) if life.save == ASKED else life


def _declined(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, save=DECLINED, wanted=UP, restarting=False)


def _kill_follows(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, killing=True)


def _restart(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, wanted=UP, restarting=True, force=False)


def _restarted(life: Life, policy: Policy, facts: Facts) -> Life:
    """Whoever asked for it hears that the run before did not acknowledge."""
    return Life(life.state, UP, save=UNSAVED if life.save == UNSAVED else "")


def _begin_restart(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(_restart(life, policy, facts), save=_save(facts))


def _ready(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, unready=0)


def _failed(life: Life, policy: Policy, facts: Facts) -> Life:
    failures = 0 if facts.ran_s >= policy.stable_s else life.failures
    return replace(life, failures=failures + 1, killing=False, save="")


def _unready(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, unready=life.unready + 1, failures=life.failures + 1, killing=False, save="")


def _ended_itself(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, save="")


def _too_late(life: Life, policy: Policy, facts: Facts) -> Life:
    """Stopped unasked, as it never became ready."""
    return replace(life, save=UNSAVED if facts.saves else "")


def _blocked(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, failures=life.failures + 1)


_START = Step(STARTING, (SPAWN,), change=_up)
_KILL = Step(STOPPING, (SIGNAL_KILL, ARM_STOP), change=_killed_unasked)


def _end(change: Change) -> tuple[Step, ...]:
    """A stop of what lives begins: by asking where that can be done, else by the signal."""
    return (
        Step(STOPPING, (ASK_SAVE, ARM_SAVE), when=_can_ask, change=change),
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP), change=change),
    )


def _end_again(change: Change) -> tuple[Step, ...]:
    """While STOPPING: who is being asked is not asked twice, nor signalled before he has answered."""
    return (
        Step(STOPPING, when=_asking, change=change),
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP), change=change),
    )


_STOP, _RESTART, _FORCE = _end(_stopped), _end(_begin_restart), _end(_forced)
_STOP_NOTHING = (
    Step(STOPPING, (SIGNAL_REST, ARM_STOP), when=_leftovers, change=_down),
    Step(STOPPED, change=_down),
)
_FORCE_NOTHING = (
    Step(STOPPING, (SIGNAL_REST, ARM_STOP), when=_leftovers, change=_by_force),
    Step(STOPPED, change=_down),
)
_KILL_NOTHING = (
    Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_leftovers, change=_killed),
    Step(STOPPED, change=_down),
)
_ENDED_UNREADY = (
    Step(FATAL, when=_gives_up, change=_unready),
    Step(BACKOFF, (ARM_BACKOFF,), change=_unready),
)

TABLE: dict[tuple[str, str], tuple[Step, ...]] = {
    (STOPPED, START_ASKED): (_START,),
    (STOPPED, RESTART_ASKED): (_START,),
    (STOPPED, STOP_ASKED): _STOP_NOTHING,
    (STOPPED, FORCE_ASKED): _FORCE_NOTHING,
    (STOPPED, KILL_ASKED): _KILL_NOTHING,
    (STOPPED, ADOPTED): (Step(RUNNING, change=_up),),
    #
    (STARTING, SPAWNED): (Step(STARTING, (ARM_READY, AWAIT_READY)),),
    (STARTING, SPAWN_FAILED): (Step(FATAL),),
    (STARTING, SPAWN_BLOCKED): (
        Step(BACKOFF, (ARM_BACKOFF,), when=_automatic, change=_blocked),
        Step(FATAL),
    ),
    (STARTING, READY): (Step(RUNNING, change=_ready),),
    # Without a restart policy nobody would start it again: it is left to come up late.
    (STARTING, READY_TIMED_OUT): (
        Step(STOPPING, (REPORT, SIGNAL_STOP, ARM_STOP), when=_restarts, change=_too_late),
        Step(STARTING, (REPORT,)),
    ),
    (STARTING, ENDED): (Step(EXITED, when=_stays_down, change=_ended_itself), *_ENDED_UNREADY),
    (STARTING, RESTART_ASKED): _RESTART,
    (STARTING, STOP_ASKED): _STOP,
    (STARTING, FORCE_ASKED): _FORCE,
    (STARTING, KILL_ASKED): (_KILL,),
    (STARTING, ADOPTED): (Step(STARTING, (ARM_READY, AWAIT_READY)),),
    #
    (RUNNING, ENDED): (
        Step(EXITED, when=_stays_down, change=_ended_itself),
        Step(BACKOFF, (ARM_BACKOFF,), change=_failed),
    ),
    (RUNNING, RESTART_ASKED): _RESTART,
    (RUNNING, STOP_ASKED): _STOP,
    (RUNNING, FORCE_ASKED): _FORCE,
    (RUNNING, KILL_ASKED): (_KILL,),
    (RUNNING, ADOPTED): (Step(RUNNING),),
    #
    (STOPPING, ENDED): (
        Step(STOPPING, (SIGNAL_KILL,), when=_killing),
        Step(STOPPING, (SIGNAL_REST, ARM_STOP), when=_asking, change=_unsaved),
        Step(STOPPING, (SIGNAL_REST,)),
    ),
    (STOPPING, EMPTIED): (
        Step(STOPPED, when=_wanted_down, change=_down),
        Step(STARTING, (SPAWN,), when=_restarting, change=_restarted),
        *_ENDED_UNREADY,
    ),
    (STOPPING, STOP_TIMED_OUT): (
        Step(STOPPING, when=_asking),
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_kills, change=_kill_follows),
        Step(STOPPING, (REPORT,)),
    ),
    (STOPPING, SAVE_ACKNOWLEDGED): (
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP), when=_asking, change=_saved),
        Step(STOPPING),
    ),
    # It goes on, unless it is to end whatever it says.
    (STOPPING, SAVE_DECLINED): (
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP), when=_asking_by_force, change=_unsaved),
        Step(RUNNING, when=_asking, change=_declined),
        Step(STOPPING),
    ),
    (STOPPING, SAVE_TIMED_OUT): (
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP), when=_asking, change=_unsaved),
        Step(STOPPING),
    ),
    (STOPPING, JOINED): (
        Step(STOPPING, (ASK_SAVE,), when=_asking),
        Step(STOPPING),
    ),
    (STOPPING, RESTART_ASKED): _end_again(_restart),
    (STOPPING, STOP_ASKED): _end_again(_down),
    (STOPPING, FORCE_ASKED): _end_again(_by_force),
    (STOPPING, KILL_ASKED): (Step(STOPPING, (SIGNAL_KILL, ARM_STOP), change=_killed),),
    # A second polite signal may end a program that is saving: it is not repeated unasked.
    (STOPPING, ADOPTED): (
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_killing),
        Step(STOPPING, (ASK_SAVE, ARM_SAVE), when=_asking),
        Step(STOPPING, (ARM_STOP,), when=_signalled),
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP)),
    ),
    #
    (STOPPING, RESUMED): (
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_killing),
        Step(STOPPING, (ARM_STOP,), change=_unsaved),
    ),
    (BACKOFF, RESUMED): (Step(BACKOFF, (ARM_BACKOFF,)),),
    (BACKOFF, BACKOFF_OVER): (Step(STARTING, (SPAWN,), change=_automatically),),
}
for _state in (EXITED, BACKOFF, FATAL):
    TABLE[_state, START_ASKED] = TABLE[_state, RESTART_ASKED] = (_START,)
    TABLE[_state, STOP_ASKED] = _STOP_NOTHING
    TABLE[_state, FORCE_ASKED] = _FORCE_NOTHING
    TABLE[_state, KILL_ASKED] = _KILL_NOTHING
    TABLE[_state, ADOPTED] = (Step(RUNNING, change=_up),)


def step(life: Life, event: str, policy: Policy, facts: Facts = NO_FACTS) -> tuple[Life, tuple[str, ...]]:
    """The life after `event`, and what is to be done now, in order."""
    for possibility in TABLE.get((life.state, event), ()):
        if possibility.when is None or possibility.when(life, policy, facts):
            changed = possibility.change(life, policy, facts) if possibility.change else life
            return replace(changed, state=possibility.to), possibility.actions
    return life, ()
