import pytest

from agent.errors import UsageError
from agent.selection import Selection
from roles.admin import commands, grammar

ALL = "*"
IP = "192.168.1.10"


@pytest.mark.parametrize(
    ("text", "verb", "what", "selection", "pid"),
    [
        # the nine of the specification
        ("list world", "list", "world", (ALL, ALL, ALL), 0),
        ("list machine", "list", "machine", (ALL, ALL, ALL), 0),
        (f"list {IP}", "list", "process", (ALL, IP, ALL), 0),
        ("list 4242", "list", "pid", (ALL, ALL, ALL), 4242),
        (f"start {IP} all", "start", "", (ALL, IP, ALL), 0),
        (f"start {IP} game1", "start", "", (ALL, IP, "game1"), 0),
        (f"stop {IP} all", "stop", "", (ALL, IP, ALL), 0),
        (f"stop {IP} game1", "stop", "", (ALL, IP, "game1"), 0),
        (f"kill {IP} 4242", "kill", "", (ALL, IP, ALL), 4242),
        # a region before the ip, globs, lists, whole keys
        ("list 大区1", "list", "process", ("大区1", ALL, ALL), 0),
        (f"list 大区1 {IP}", "list", "process", ("大区1", IP, ALL), 0),
        (f"list 大区1 {IP} game*", "list", "process", ("大区1", IP, "game*"), 0),
        (f"list 大区1.{IP}.game1", "list", "key", ("大区1", IP, "game1"), 0),
        ("list machine 大区1", "list", "machine", ("大区1", ALL, ALL), 0),
        ("list machine 192.168.*", "list", "machine", (ALL, "192.168.*", ALL), 0),
        ("list all", "list", "process", (ALL, ALL, ALL), 0),
        (f"start 大区1 {IP} all", "start", "", ("大区1", IP, ALL), 0),
        ("start 大区1 all", "start", "", ("大区1", ALL, ALL), 0),
        ("start 大区1 all game1", "start", "", ("大区1", ALL, "game1"), 0),
        ("start all", "start", "", (ALL, ALL, ALL), 0),
        ("start 192.168.1.* game1,gate*", "start", "", (ALL, "192.168.1.*", "game1,gate*"), 0),
        (f"stop 大区1.{IP}.game1", "stop", "", ("大区1", IP, "game1"), 0),
        (f"restart {IP} game1", "restart", "", (ALL, IP, "game1"), 0),
        (f"kill 大区1 {IP} 7", "kill", "", ("大区1", IP, ALL), 7),
        (f"  start   {IP}\tall ", "start", "", (ALL, IP, ALL), 0),
        ("watch", "watch", "processes", (ALL, ALL, ALL), 0),
        (f"watch 大区1 {IP}", "watch", "processes", ("大区1", IP, ALL), 0),
        ("watch events", "watch", "events", (ALL, ALL, ALL), 0),
        ("watch events 大区1:game*", "watch", "events", ("大区1", ALL, "game*"), 0),
        ("events", "events", "", (ALL, ALL, ALL), 0),
        ("events game1", "events", "", (ALL, ALL, "game1"), 0),
        (f"events 大区1 {IP} game1 -n 9", "events", "", ("大区1", IP, "game1"), 0),
        ("tasks", "tasks", "", (ALL, ALL, ALL), 0),
        ("drain game1", "drain", "", (ALL, ALL, "game1"), 0),
        (f"drain {IP} game1", "drain", "", (ALL, IP, "game1"), 0),
        ("cancel 大区1:game1", "cancel", "", ("大区1", ALL, "game1"), 0),
        ("gm game1 kick", "gm", "call", (ALL, ALL, "game1"), 0),
        ("gm help", "gm", "help", (ALL, ALL, ALL), 0),
        ("gm help 大区1:chat kick", "gm", "help", ("大区1", ALL, "chat"), 0),
        ("quit", "exit", "", (ALL, ALL, ALL), 0),
    ],
)
def test_a_line_is_read_as_this_command(text, verb, what, selection, pid):
    command = grammar.parse(text)
    assert (command.verb, command.what, command.selection, command.pid) == (
        verb,
        what,
        Selection(*selection),
        pid,
    )
    assert not command.plan


@pytest.mark.parametrize(
    ("text", "operation", "options"),
    [
        (f"stop {IP} game1", "stop", {}),
        (f"stop {IP} game1 --force", "force-stop", {}),
        (f"stop --force {IP} all", "force-stop", {}),
        (f"restart {IP} game1", "restart", {}),
        (f"restart {IP} game1 --when-empty", "restart-when-empty", {}),
        (f"restart {IP} game1 --when-empty --deadline 2h", "restart-when-empty", {"deadline_s": 7200.0}),
        ("drain game1", "drain", {}),
        (
            "drain game1 --deadline=30m --notice '维护 now'",
            "drain",
            {"deadline_s": 1800.0, "notice": "维护 now"},
        ),
        ("drain --notice --odd game1", "drain", {"notice": "--odd"}),
        ("cancel game1", "cancel", {}),
    ],
)
def test_options_are_told_to_daemons_as_they_know_them(text, operation, options):
    command = grammar.parse(text)
    assert (command.operation, command.options) == (operation, options)


@pytest.mark.parametrize(
    ("text", "topic", "words", "options"),
    [
        ("gm game1 kick 7 'a b' --any", "kick", ("7", "a b", "--any"), {}),
        ("gm --any game1 kick", "kick", (), {"any": True}),
        ("gm --again=i7 --timeout 60s game1 kick 7", "kick", ("7",), {"again": "i7", "timeout": 60.0}),
        ("gm game1 help", "help", (), {}),
        ("gm help game1 kick", "kick", (), {}),
    ],
)
def test_our_own_words_of_a_gm_command_stand_before_its_target(text, topic, words, options):
    command = grammar.parse(text)
    assert (command.topic, command.words, command.options) == (topic, words, options)


@pytest.mark.parametrize(
    "rest", [f"start {IP} all", "stop 大区1 all", f"restart {IP} game1", f"kill {IP} 42"]
)
def test_plan_is_the_command_that_does_nothing(rest):
    planned, done = grammar.parse(f"plan {rest}"), grammar.parse(rest)
    assert planned.plan
    assert (planned.verb, planned.selection, planned.pid) == (done.verb, done.selection, done.pid)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no command"),
        ("strat x", 'did you mean "start"'),
        ("tail 1.2.3.4 game1", 'unknown command "tail"; `help`'),
        ("list", "list what"),
        ("list 1 2", "a pid is a word of kill and list only"),
        ("list 99999999999", "is not a pid"),
        ("list 0", "is not a pid"),
        ("start", "start what"),
        (f"start {IP}", f"start {IP} all"),
        ("start 大区1", "start 大区1 all"),
        ("start 大区1 game1", '"game1" is not the ip of a machine'),
        (f"start 大区1 {IP} game1 x", "too many words"),
        (f"start {IP} game1,,game2", "empty place"),
        (f"stop {IP} 4242", "is a number"),
        ("kill", "kill takes the ip of one machine"),
        ("kill 192.168.1.* 42", "not the ip of one machine"),
        (f"kill {IP},192.168.1.11 42", "not the ip of one machine"),
        ("kill all 42", "not the ip of one machine"),
        (f"kill {IP} game1", f"stop {IP} game1"),
        (f"kill {IP} -1", "is not a pid"),
        (f"kill {IP} ４２", "is not a pid"),
        ("plan", "plan what"),
        ("plan list world", "cannot be planned"),
        ("plan strat", 'did you mean "start"'),
        ("audit x", "number of lines"),
        ("help foo", 'no command "foo"'),
        ("who knows", "takes nothing behind it"),
        ("exit now", "takes nothing behind it"),
        ("gm", "gm whom?"),
        ("gm game1", "gm game1 what? (`gm help game1` lists its commands)"),
        ("gm --again", "--again wants a value"),
        ("gm --aynwhere game1 kick", 'no option "--aynwhere"'),
        ("gm --timeout soon game1 kick", "is not a duration"),
        ("gm help a b c", "gm help takes a target and a command"),
        ("gm a:b:c kick", "is not [REGION:][IP.]NAME"),
        ("gm 'game1", "a quote is not closed"),
        (f"stop {IP} all --froce", 'no option "--froce" (did you mean "force"?)'),
        (f"start {IP} all --force", 'no option "--force"'),
        (f"stop {IP} all --force=yes", 'no option "--force=yes"'),
        (f"restart {IP} all --deadline 5m", "--deadline goes with --when-empty"),
        ("drain game1 --deadline", "--deadline wants a value"),
        ("drain game1 --deadline x", "is not a duration"),
        ("drain", "drain what?"),
        ("events -n", "-n wants a number of lines"),
        ("tasks now", "takes nothing behind it"),
        ("plan gm game1 kick", "cannot be planned"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_what_is_right(text, complaint):
    with pytest.raises(UsageError) as error:
        grammar.parse(text)
    assert complaint in str(error.value)


def test_a_known_verb_shows_its_usage():
    with pytest.raises(UsageError, match=r"usage: kill \[REGION\] IP PID"):
        grammar.parse("kill x")


def test_every_command_of_the_help_can_be_run_and_the_other_way_round():
    assert set(commands.COMMANDS) == set(grammar.VERBS)
