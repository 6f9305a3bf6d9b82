"""Lives as data: a list of events, and the state after each."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import lifecycle as lc
from agent.lifecycle import Facts, Life, Policy

FOREVER = Policy(restart=lc.ALWAYS)
ON_FAILURE = Policy(restart=lc.ON_FAILURE)
NEVER = Policy(restart=lc.NEVER)
CLEAN = Facts(clean=True)
LONG = Facts(ran_s=3600)
LEFT = Facts(leftovers=True)
SAVES = Facts(saves=True)
STARTED = [("start_asked", "STARTING"), ("spawned", "STARTING"), ("ready", "RUNNING")]
STOPPED = [("ended", "STOPPING"), ("emptied", "STOPPED")]
ENDS = [("ended", "BACKOFF"), ("backoff_over", "STARTING"), ("spawned", "STARTING")]

# story: policy, [(event or (event, facts), state after)], wanted in the end
STORIES = {
    "started and stopped": (NEVER, [*STARTED, ("stop_asked", "STOPPING"), *STOPPED], "down"),
    "started twice is started once": (NEVER, [*STARTED, ("start_asked", "RUNNING")], "up"),
    "stopped twice is stopped once": (
        NEVER,
        [*STARTED, ("stop_asked", "STOPPING"), ("stop_asked", "STOPPING"), *STOPPED, ("stop_asked", "STOPPED")],
        "down",
    ),
    "stop of what never ran": (NEVER, [("stop_asked", "STOPPED"), ("kill_asked", "STOPPED")], "down"),
    "a clean end is no failure": (ON_FAILURE, [*STARTED, (("ended", CLEAN), "EXITED")], "up"),
    "a failure is restarted": (ON_FAILURE, [*STARTED, *ENDS, ("ready", "RUNNING")], "up"),
    "always means a clean end too": (FOREVER, [*STARTED, (("ended", CLEAN), "BACKOFF")], "up"),
    "never means never": (NEVER, [*STARTED, ("ended", "EXITED"), ("backoff_over", "EXITED")], "up"),
    "nothing restarts what an operator stopped": (
        FOREVER,
        [*STARTED, ("stop_asked", "STOPPING"), *STOPPED, ("backoff_over", "STOPPED"), ("ended", "STOPPED")],
        "down",
    ),
    "a stop ends the back-off": (
        FOREVER,
        [*STARTED, ("ended", "BACKOFF"), ("stop_asked", "STOPPED"), ("backoff_over", "STOPPED")],
        "down",
    ),
    "a start ends the back-off": (FOREVER, [*STARTED, ("ended", "BACKOFF"), ("start_asked", "STARTING")], "up"),
    "an end that crosses the stop is a stop": (FOREVER, [*STARTED, ("stop_asked", "STOPPING"), *STOPPED], "down"),
    "a start while stopping is not heard": (
        NEVER,
        [*STARTED, ("stop_asked", "STOPPING"), ("start_asked", "STOPPING"), *STOPPED],
        "down",
    ),
    "saving for long is never killed unasked": (
        NEVER,
        [*STARTED, ("stop_asked", "STOPPING"), ("stop_timed_out", "STOPPING"), ("stop_timed_out", "STOPPING"),
         *STOPPED],
        "down",
    ),
    "a kill in every state": (
        FOREVER,
        [
            ("start_asked", "STARTING"), ("spawned", "STARTING"), ("kill_asked", "STOPPING"), *STOPPED,
            *STARTED, ("kill_asked", "STOPPING"), ("kill_asked", "STOPPING"), *STOPPED,
            *STARTED, ("stop_asked", "STOPPING"), ("kill_asked", "STOPPING"), *STOPPED,
            *STARTED, ("ended", "BACKOFF"), ("kill_asked", "STOPPED"),
        ],
        "down",
    ),
    "restarted by an operator": (
        NEVER,
        [*STARTED, ("restart_asked", "STOPPING"), ("ended", "STOPPING"), ("emptied", "STARTING"),
         ("spawned", "STARTING"),
         ("ready", "RUNNING")],
        "up",
    ),
    "a stop overrules a restart": (
        FOREVER, [*STARTED, ("restart_asked", "STOPPING"), ("stop_asked", "STOPPING"), *STOPPED], "down",
    ),
    "a restart overrules a stop": (
        NEVER,
        [*STARTED, ("stop_asked", "STOPPING"), ("restart_asked", "STOPPING"), ("ended", "STOPPING"),
         ("emptied", "STARTING")],
        "up",
    ),
    "a missing command is fatal": (FOREVER, [("start_asked", "STARTING"), ("spawn_failed", "FATAL")], "up"),
    "a fatal one may be started again": (
        FOREVER, [("start_asked", "STARTING"), ("spawn_failed", "FATAL"), *STARTED], "up",
    ),
    "what an operator cannot start is not tried behind his back": (
        FOREVER, [("start_asked", "STARTING"), ("spawn_blocked", "FATAL")], "up",
    ),
    "a restart that is blocked is tried again": (
        FOREVER, [*STARTED, ("ended", "BACKOFF"), ("backoff_over", "STARTING"), ("spawn_blocked", "BACKOFF")], "up",
    ),
    "never ready, 1 + 3 times": (
        FOREVER, [("start_asked", "STARTING"), ("spawned", "STARTING"), *ENDS, *ENDS, *ENDS, ("ended", "FATAL")], "up",
    ),
    "ready once, and the count begins anew": (
        FOREVER,
        [("start_asked", "STARTING"), ("spawned", "STARTING"), *ENDS, *ENDS, *ENDS, ("ready", "RUNNING"), *ENDS,
         *ENDS, *ENDS, *ENDS, ("ended", "FATAL")],
        "up",
    ),
    "not ready in time: stopped and tried again": (
        FOREVER,
        [("start_asked", "STARTING"), ("spawned", "STARTING"), ("ready_timed_out", "STOPPING"), ("ready", "STOPPING"),
         ("ended", "STOPPING"), ("emptied", "BACKOFF"), ("backoff_over", "STARTING")],
        "up",
    ),
    "not ready in time, and nobody would restart it: left to come up late": (
        NEVER,
        [("start_asked", "STARTING"), ("spawned", "STARTING"), ("ready_timed_out", "STARTING"), ("ready", "RUNNING")],
        "up",
    ),
    "children left behind are stopped too": (
        NEVER, [*STARTED, ("ended", "EXITED"), (("stop_asked", LEFT), "STOPPING"), ("emptied", "STOPPED")], "down",
    ),
    "a new daemon goes on where the last one was": (
        NEVER,
        [*STARTED, ("adopted", "RUNNING"), ("stop_asked", "STOPPING"), ("adopted", "STOPPING"), *STOPPED],
        "down",
    ),
    "found running though nobody remembers it": (NEVER, [("adopted", "RUNNING")], "up"),
    "saved before it is stopped": (
        NEVER, [*STARTED, (("stop_asked", SAVES), "STOPPING"), ("save_acknowledged", "STOPPING"), *STOPPED], "down",
    ),
    "what declines goes on, and can be asked again": (
        NEVER,
        [*STARTED, (("stop_asked", SAVES), "STOPPING"), ("save_declined", "RUNNING"),
         (("stop_asked", SAVES), "STOPPING"), ("save_acknowledged", "STOPPING"), *STOPPED],
        "down",
    ),
    "a restart that is declined is none": (
        NEVER, [*STARTED, (("restart_asked", SAVES), "STOPPING"), ("save_declined", "RUNNING")], "up",
    ),
    "by force it is stopped whatever it says": (
        NEVER, [*STARTED, (("force_asked", SAVES), "STOPPING"), ("save_declined", "STOPPING"), *STOPPED], "down",
    ),
    "force comes while it is being asked": (
        NEVER,
        [*STARTED, (("stop_asked", SAVES), "STOPPING"), ("force_asked", "STOPPING"), ("save_declined", "STOPPING"),
         *STOPPED],
        "down",
    ),
    "no word of its saving in time": (
        NEVER, [*STARTED, (("stop_asked", SAVES), "STOPPING"), ("save_timed_out", "STOPPING"), *STOPPED], "down",
    ),
    "it ends while it is being asked": (NEVER, [*STARTED, (("stop_asked", SAVES), "STOPPING"), *STOPPED], "down"),
    "a new daemon asks again": (
        NEVER,
        [*STARTED, (("stop_asked", SAVES), "STOPPING"), ("adopted", "STOPPING"), ("joined", "STOPPING"),
         ("save_acknowledged", "STOPPING"), *STOPPED],
        "down",
    ),
    "words that come too late change nothing": (
        NEVER,
        [*STARTED, ("save_acknowledged", "RUNNING"), ("save_declined", "RUNNING"), ("stop_asked", "STOPPING"),
         ("save_declined", "STOPPING"), ("save_timed_out", "STOPPING"), *STOPPED, ("joined", "STOPPED")],
        "down",
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", STORIES)
def test_a_life_goes_as_told(story):
    policy, events, wanted = STORIES[story]
    life, told = Life(), []
    for event, _ in events:
        name, facts = event if isinstance(event, tuple) else (event, lc.NO_FACTS)
        life, _actions = lc.step(life, name, policy, facts)
        told.append((event, life.state))
    assert told == events
    assert life.wanted == wanted


def test_every_row_is_about_known_states_events_and_actions():
    actions = {lc.SPAWN, lc.AWAIT_READY, lc.ASK_SAVE, lc.SIGNAL_STOP, lc.SIGNAL_REST, lc.SIGNAL_KILL, lc.ARM_READY,
               lc.ARM_SAVE, lc.ARM_STOP, lc.ARM_BACKOFF, lc.REPORT}  # fmt: skip
    for (state, event), steps in lc.TABLE.items():
        assert state in lc.STATES and event in lc.EVENTS
        assert steps[-1].when is None or len(steps) > 1, f"{state} {event} may fall through"
        assert all(each.to in lc.STATES and set(each.actions) <= actions for each in steps)


def test_the_last_possibility_of_every_row_is_unconditional():
    assert [row for row, steps in lc.TABLE.items() if steps[-1].when is not None] == []


def test_whatever_must_end_can_be_asked_to_end_in_every_state():
    for state in lc.STATES:
        for event in (lc.STOP_ASKED, lc.KILL_ASKED, lc.FORCE_ASKED):
            assert (state, event) in lc.TABLE


def test_the_time_out_of_a_stop_kills_only_where_that_is_allowed():
    stopping = Life(lc.STOPPING, lc.DOWN)
    assert lc.step(stopping, lc.STOP_TIMED_OUT, NEVER) == (stopping, (lc.REPORT,))
    life, actions = lc.step(stopping, lc.STOP_TIMED_OUT, Policy(kill_after_stop=True))
    assert (life.state, actions) == (lc.STOPPING, (lc.SIGNAL_KILL, lc.ARM_STOP))
    assert lc.step(life, lc.STOP_TIMED_OUT, Policy(kill_after_stop=True))[1] == (lc.REPORT,)


def test_a_stop_that_was_signalled_before_the_daemon_died_is_not_signalled_again():
    stopping = Life(lc.STOPPING, lc.DOWN)
    assert lc.step(stopping, lc.ADOPTED, NEVER, Facts(signalled=True))[1] == (lc.ARM_STOP,)
    assert lc.step(stopping, lc.ADOPTED, NEVER)[1] == (lc.SIGNAL_STOP, lc.ARM_STOP)


def test_the_back_off_doubles_up_to_its_maximum_and_a_long_run_resets_it():
    life, waits = Life(lc.RUNNING, lc.UP), []
    for _ in range(8):
        life, _actions = lc.step(life, lc.ENDED, FOREVER)
        waits.append(lc.backoff_s(life, FOREVER))
        for event in (lc.BACKOFF_OVER, lc.SPAWNED, lc.READY):
            life, _actions = lc.step(life, event, FOREVER)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    life, _actions = lc.step(life, lc.ENDED, FOREVER, LONG)
    assert lc.backoff_s(life, FOREVER) == 1


# what came of the last stop: the events of a process that runs -> save, and what was done last
SAVINGS = {
    "saved": ([("stop_asked", SAVES), "save_acknowledged"], lc.SAVED, (lc.SIGNAL_STOP, lc.ARM_STOP)),
    "declined": ([("stop_asked", SAVES), "save_declined"], lc.DECLINED, ()),
    "declined, by force": ([("force_asked", SAVES), "save_declined"], lc.UNSAVED, (lc.SIGNAL_STOP, lc.ARM_STOP)),
    "silent": ([("stop_asked", SAVES), "save_timed_out"], lc.UNSAVED, (lc.SIGNAL_STOP, lc.ARM_STOP)),
    "cannot save": (["stop_asked"], "", (lc.SIGNAL_STOP, lc.ARM_STOP)),
    "asked": ([("stop_asked", SAVES)], lc.ASKED, (lc.ASK_SAVE, lc.ARM_SAVE)),
    "asked once for two stops": ([("stop_asked", SAVES), ("stop_asked", SAVES)], lc.ASKED, ()),
    "joined again": ([("stop_asked", SAVES), "joined"], lc.ASKED, (lc.ASK_SAVE,)),
    "a late stop time-out": ([("stop_asked", SAVES), "stop_timed_out"], lc.ASKED, ()),
    "adopted while asked": ([("stop_asked", SAVES), "adopted"], lc.ASKED, (lc.ASK_SAVE, lc.ARM_SAVE)),
    "ended while asked": ([("stop_asked", SAVES), "ended"], lc.UNSAVED, (lc.SIGNAL_REST, lc.ARM_STOP)),
    "killed while asked": ([("stop_asked", SAVES), ("kill_asked", SAVES)], lc.UNSAVED, (lc.SIGNAL_KILL, lc.ARM_STOP)),
    "killed after it saved": (
        [("stop_asked", SAVES), "save_acknowledged", ("kill_asked", SAVES)], lc.SAVED, (lc.SIGNAL_KILL, lc.ARM_STOP),
    ),
    "killed at once": ([("kill_asked", SAVES)], lc.UNSAVED, (lc.SIGNAL_KILL, lc.ARM_STOP)),
    "restarted unsaved": (
        [("restart_asked", SAVES), "save_timed_out", "ended", "emptied", "spawned", "ready"], lc.UNSAVED, (),
    ),
    "restarted, and ended by itself": (
        [("restart_asked", SAVES), "save_acknowledged", "ended", "emptied", "spawned", "ready", "ended",
         ("stop_asked", LEFT)], "", (lc.SIGNAL_REST, lc.ARM_STOP),
    ),
    "restarted, and killed": (
        [("restart_asked", SAVES), "save_acknowledged", "ended", "emptied", "spawned", "ready", ("kill_asked", SAVES)],
        lc.UNSAVED, (lc.SIGNAL_KILL, lc.ARM_STOP),
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", SAVINGS)
def test_what_became_of_the_saving_is_told_as_it_was(story):
    events, save, last = SAVINGS[story]
    life, actions = Life(lc.RUNNING, lc.UP), ()
    for event in events:
        name, facts = event if isinstance(event, tuple) else (event, lc.NO_FACTS)
        life, actions = lc.step(life, name, NEVER, facts)
    assert (life.save, actions) == (save, last)


def test_force_kills_at_the_time_out_and_no_stop_after_it_does():
    life, _ = lc.step(Life(lc.RUNNING, lc.UP), lc.FORCE_ASKED, NEVER, lc.NO_FACTS)
    killing, actions = lc.step(life, lc.STOP_TIMED_OUT, NEVER)
    assert actions == (lc.SIGNAL_KILL, lc.ARM_STOP) and killing.killing
    for event in (lc.ENDED, lc.EMPTIED, lc.START_ASKED, lc.SPAWNED, lc.STOP_ASKED):
        life, _ = lc.step(life, event, NEVER)
    assert lc.step(life, lc.STOP_TIMED_OUT, NEVER)[1] == (lc.REPORT,)


class World(NamedTuple):
    """A life, and what is true outside: the process lives, children of it do, what operators last asked for, this run
    can save, is being ended since it could, has acknowledged, and the operators' last word was by force."""

    life: Life = Life()
    lives: bool = False
    children: bool = False
    wish: str = lc.DOWN
    saves: bool = False
    owed: bool = False
    acknowledged: bool = False
    force: bool = False


class Chance(NamedTuple):
    """What nobody decides: how it ends, whether it leaves children, whether it can be spawned, whether it saves."""

    clean: bool
    leaves: bool
    answer: str
    saves: bool


CHANCES = [
    Chance(clean, leaves, answer, saves)
    for clean in (True, False)
    for leaves in (True, False)
    for answer in (lc.SPAWNED, lc.SPAWN_FAILED, lc.SPAWN_BLOCKED)
    for saves in (True, False)
]
HAPPENINGS = [event for event in lc.EVENTS if event not in (lc.SPAWNED, lc.SPAWN_FAILED, lc.SPAWN_BLOCKED)]
OF_THE_LIVING = (
    lc.ENDED, lc.READY, lc.READY_TIMED_OUT, lc.ADOPTED, lc.JOINED, lc.SAVE_ACKNOWLEDGED, lc.SAVE_DECLINED,
)  # fmt: skip
STOPS = (lc.STOP_ASKED, lc.KILL_ASKED, lc.FORCE_ASKED)
SPAWNS = (lc.START_ASKED, lc.RESTART_ASKED, lc.BACKOFF_OVER, lc.EMPTIED)


def chances(event: str) -> list[Chance]:
    """Those that make a difference to it."""
    first = CHANCES[0]
    return [
        chance
        for chance in CHANCES
        if (event == lc.ENDED or (chance.clean, chance.leaves) == (first.clean, first.leaves))
        and (event in SPAWNS or chance.answer == first.answer)
        and (event == lc.JOINED or chance.saves == first.saves)
    ]


WEIGHED = {event: chances(event) for event in HAPPENINGS}


def happen(world: World, event: str, policy: Policy, chance: Chance) -> World:
    """The world after an event, every promise of the table checked on the way. What cannot happen changes nothing."""
    was, lives, children, wish, saves, owed, acknowledged, force = world
    if (event in OF_THE_LIVING and not lives) or (event == lc.RESUMED and lives):
        return world
    if event == lc.EMPTIED and (lives or was.state != lc.STOPPING):
        return world
    if event == lc.ENDED:
        lives, children = False, chance.leaves
    elif event == lc.EMPTIED:
        children = False
    elif event == lc.JOINED:
        saves = chance.saves
    elif event == lc.SAVE_ACKNOWLEDGED and was.save == lc.ASKED:
        acknowledged = True
    elif event == lc.RESTART_ASKED or (event == lc.START_ASKED and was.state != lc.STOPPING):
        wish, force = lc.UP, False
    elif event in STOPS:
        wish, force = lc.DOWN, (force and was.state == lc.STOPPING) or event == lc.FORCE_ASKED
    facts = Facts(chance.clean, 1.0, children, saves=saves)
    life, actions = lc.step(was, event, policy, facts)
    if lc.SIGNAL_KILL in actions:
        asked = was.killing or event == lc.KILL_ASKED or policy.kill_after_stop or force
        assert asked, f"{was} + {event}: a kill that nobody asked for"
    if lc.SIGNAL_STOP in actions:
        assert life.save != lc.ASKED, f"{was} + {event} signals what is still being asked"
    if event == lc.SAVE_DECLINED and was.save == lc.ASKED and not force:
        assert (life.state, life.wanted, actions) == (lc.RUNNING, lc.UP, ()), (
            f"{was}: declined, and does not go on"
        )
        wish = lc.UP
    if was.state == lc.STOPPING and life.state == lc.STOPPED and owed:
        assert life.save == (lc.SAVED if acknowledged else lc.UNSAVED), (
            f"{was} + {event}: nobody hears if it saved"
        )
    if lc.SPAWN in actions:
        assert not lives, f"{was} + {event} spawns beside a living process"
        assert life.save != lc.ASKED and was.save != lc.ASKED, (
            f"{was} + {event} starts what is still being asked"
        )
        assert life.wanted == lc.UP == wish, f"{was} + {event} starts what an operator stopped"
        answer = lc.SPAWN_BLOCKED if children else chance.answer
        lives, saves, owed, acknowledged = answer == lc.SPAWNED, False, False, False
        life, actions = lc.step(life, answer, policy)
        assert lc.SPAWN not in actions
    elif life.state != was.state:
        owed = life.state == lc.STOPPING and lives and saves
        acknowledged = acknowledged and life.state == lc.STOPPED
    assert life.save != lc.SAVED or acknowledged, f"{was} + {event}: saved, though it never acknowledged"
    assert life.save != lc.ASKED or (life.state == lc.STOPPING and lives), (
        f"{was} + {event} goes on asking nobody"
    )
    assert life.wanted == wish
    assert life.alive or not lives, f"{was} + {event} forgets a living process"
    assert lives or life.state not in (lc.STARTING, lc.RUNNING), f"{was} + {event} lives without a process"
    return World(life, lives, children, wish, saves, owed, acknowledged, force)


@pytest.mark.parametrize("kill_after_stop", [False, True])
@pytest.mark.parametrize("restart", [lc.NEVER, lc.ON_FAILURE, lc.ALWAYS])
def test_no_reachable_world_breaks_a_promise(restart, kill_after_stop):
    """All of them, not a sample; back-offs beyond two in a row are one world."""
    policy = Policy(restart=restart, kill_after_stop=kill_after_stop, restart_tries=1)
    seen, ahead = {World()}, [World()]
    while ahead:
        world = ahead.pop()
        for event in HAPPENINGS:
            for chance in WEIGHED[event]:
                after = happen(world, event, policy, chance)
                after = after._replace(life=replace(after.life, failures=min(2, after.life.failures)))
                if after not in seen:
                    seen.add(after)
                    ahead.append(after)
    states = {world.life.state for world in seen}
    never_there = {lc.NEVER: {lc.BACKOFF}, lc.ALWAYS: {lc.EXITED}}
    assert states == set(lc.STATES) - never_there.get(restart, set())


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Policy,
        restart=st.sampled_from([lc.NEVER, lc.ON_FAILURE, lc.ALWAYS]),
        kill_after_stop=st.booleans(),
        restart_tries=st.integers(0, 3),
    ),
    st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(CHANCES)), max_size=60),
)
def test_no_sequence_spawns_beside_a_living_process_or_against_the_operators_wish(policy, events):
    world = World()
    for event, chance in events:
        world = happen(world, event, policy, chance)
