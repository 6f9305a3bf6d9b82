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
        ("watch", "watch", "", (ALL, ALL, ALL), 0),
        (f"watch 大区1 {IP}", "watch", "", ("大区1", IP, ALL), 0),
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
