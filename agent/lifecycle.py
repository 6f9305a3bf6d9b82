"""The life of one process: one pure table (state x event). Everything that decides about a life lives here.

Rules for the next editor:
- No I/O, no clock, no gevent. `step` is given what it needs to know (Policy, Facts) and answers with the new
  Life and what is to be done, in order. The keeper does it and comes back with the next event.
- `state` is what the daemon knows, `wanted` what operators asked for. Only the *_ASKED events (and the adoption
  of a process nobody remembers) change `wanted`: so nothing restarts what an operator stopped.
- The first Step of a row whose `when` holds is taken. A pair that is in no row changes nothing: a timer that fired
  late, a word that came twice.
- SPAWN stands only where nothing of the process lives: not after `ended` while STOPPING, but after `emptied`.

            start_asked          ready                exited, by policy      never ready, cannot be spawned
    STOPPED ──────────► STARTING ─────► RUNNING ─────────► EXITED, BACKOFF        FATAL
       ▲                   │ ▲ └──────────┼──────────────────────┘ │                ▲
       │ emptied           │ └────────────┼──────── backoff_over ──┘                │
       └───── STOPPING ◄───┴── stop, kill, restart asked                 STARTING ──┘
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

UP = "up"
DOWN = "down"

START_ASKED = "start_asked"
STOP_ASKED = "stop_asked"
KILL_ASKED = "kill_asked"
RESTART_ASKED = "restart_asked"
SPAWNED = "spawned"
SPAWN_FAILED = "spawn_failed"  # and trying again would not help: command missing, no such user
SPAWN_BLOCKED = "spawn_blocked"  # it may help: the port is taken, a child of the last run lives, no memory
READY = "ready"
READY_TIMED_OUT = "ready_timed_out"
ENDED = "ended"  # the main process is gone
EMPTIED = "emptied"  # the main process and its whole session are gone
STOP_TIMED_OUT = "stop_timed_out"
BACKOFF_OVER = "backoff_over"
ADOPTED = "adopted"  # a new daemon found it alive
RESUMED = "resumed"  # a new daemon found nothing of it alive, or only what it left behind
EVENTS = (
    START_ASKED, STOP_ASKED, KILL_ASKED, RESTART_ASKED, SPAWNED, SPAWN_FAILED, SPAWN_BLOCKED, READY,
    READY_TIMED_OUT, ENDED, EMPTIED, STOP_TIMED_OUT, BACKOFF_OVER, ADOPTED, RESUMED,
)  # fmt: skip

SPAWN = (
    "spawn"  # check port and leftovers, then start it; answers with spawned, spawn_failed or spawn_blocked
)
AWAIT_READY = "await_ready"  # watch for readiness; answers with ready
SIGNAL_STOP = "signal_stop"  # the polite signal, to the main process
SIGNAL_REST = "signal_rest"  # the polite signal, to what the main process left behind; answers with emptied
SIGNAL_KILL = "signal_kill"  # SIGKILL to the main process and its session
ARM_READY = "arm_ready"  # the three timers; a life has one at most, and each change of state disarms it
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
    return policy.kill_after_stop and not life.killing


def _up(life: Life, policy: Policy, facts: Facts) -> Life:
    return Life(life.state, UP)


def _automatically(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, automatic=True, restarting=False, killing=False)


def _down(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, wanted=DOWN, restarting=False)


def _killed(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, wanted=DOWN, restarting=False, killing=True)


def _kill_follows(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, killing=True)


def _restart(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, wanted=UP, restarting=True)


def _ready(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, unready=0)


def _failed(life: Life, policy: Policy, facts: Facts) -> Life:
    failures = 0 if facts.ran_s >= policy.stable_s else life.failures
    return replace(life, failures=failures + 1, killing=False)


def _unready(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, unready=life.unready + 1, failures=life.failures + 1, killing=False)


def _blocked(life: Life, policy: Policy, facts: Facts) -> Life:
    return replace(life, failures=life.failures + 1)


_START = Step(STARTING, (SPAWN,), change=_up)
_STOP = Step(STOPPING, (SIGNAL_STOP, ARM_STOP), change=_down)
_KILL = Step(STOPPING, (SIGNAL_KILL, ARM_STOP), change=_killed)
_RESTART = Step(STOPPING, (SIGNAL_STOP, ARM_STOP), change=_restart)
_STOP_NOTHING = (
    Step(STOPPING, (SIGNAL_REST, ARM_STOP), when=_leftovers, change=_down),
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
        Step(STOPPING, (REPORT, SIGNAL_STOP, ARM_STOP), when=_restarts),
        Step(STARTING, (REPORT,)),
    ),
    (STARTING, ENDED): (Step(EXITED, when=_stays_down), *_ENDED_UNREADY),
    (STARTING, RESTART_ASKED): (_RESTART,),
    (STARTING, STOP_ASKED): (_STOP,),
    (STARTING, KILL_ASKED): (_KILL,),
    (STARTING, ADOPTED): (Step(STARTING, (ARM_READY, AWAIT_READY)),),
    #
    (RUNNING, ENDED): (
        Step(EXITED, when=_stays_down),
        Step(BACKOFF, (ARM_BACKOFF,), change=_failed),
    ),
    (RUNNING, RESTART_ASKED): (_RESTART,),
    (RUNNING, STOP_ASKED): (_STOP,),
    (RUNNING, KILL_ASKED): (_KILL,),
    (RUNNING, ADOPTED): (Step(RUNNING),),
    #
    (STOPPING, ENDED): (
        Step(STOPPING, (SIGNAL_KILL,), when=_killing),
        Step(STOPPING, (SIGNAL_REST,)),
    ),
    (STOPPING, EMPTIED): (
        Step(STOPPED, when=_wanted_down, change=_down),
        Step(STARTING, (SPAWN,), when=_restarting, change=_up),
        *_ENDED_UNREADY,
    ),
    (STOPPING, STOP_TIMED_OUT): (
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_kills, change=_kill_follows),
        Step(STOPPING, (REPORT,)),
    ),
    (STOPPING, RESTART_ASKED): (_RESTART,),
    (STOPPING, STOP_ASKED): (_STOP,),
    (STOPPING, KILL_ASKED): (_KILL,),
    # A second polite signal may end a program that is saving: it is not repeated unasked.
    (STOPPING, ADOPTED): (
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_killing),
        Step(STOPPING, (ARM_STOP,), when=_signalled),
        Step(STOPPING, (SIGNAL_STOP, ARM_STOP)),
    ),
    #
    (STOPPING, RESUMED): (
        Step(STOPPING, (SIGNAL_KILL, ARM_STOP), when=_killing),
        Step(STOPPING, (ARM_STOP,)),
    ),
    (BACKOFF, RESUMED): (Step(BACKOFF, (ARM_BACKOFF,)),),
    (BACKOFF, BACKOFF_OVER): (Step(STARTING, (SPAWN,), change=_automatically),),
}
for _state in (EXITED, BACKOFF, FATAL):
    TABLE[_state, START_ASKED] = TABLE[_state, RESTART_ASKED] = (_START,)
    TABLE[_state, STOP_ASKED] = _STOP_NOTHING
    TABLE[_state, KILL_ASKED] = _KILL_NOTHING
    TABLE[_state, ADOPTED] = (Step(RUNNING, change=_up),)


def step(life: Life, event: str, policy: Policy, facts: Facts = NO_FACTS) -> tuple[Life, tuple[str, ...]]:
    """The life after `event`, and what is to be done now, in order."""
    for possibility in TABLE.get((life.state, event), ()):
        if possibility.when is None or possibility.when(life, policy, facts):
            changed = possibility.change(life, policy, facts) if possibility.change else life
            return replace(changed, state=possibility.to), possibility.actions
    return life, ()
