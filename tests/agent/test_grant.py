import pytest

from agent.errors import ConfigError
from agent.grant import Grant, allows, parse_grants

R, IP = "大区1", "192.168.1.10"


@pytest.mark.parametrize(
    ("grant", "verb", "region", "ip", "name", "allowed"),
    [
        ("start,stop on 大区1:*", "start", R, IP, "game1", True),
        ("start,stop on 大区1:*", "kill", R, IP, "game1", False),
        ("start,stop on 大区1:*", "start", "大区2", IP, "game1", False),
        ("start,stop on 大区1:*", "start", "大区11", IP, "game1", False),
        ("start on 大区1:*", "start", R, IP, "", True),
        ("start on *:*.game*", "start", R, IP, "game1", True),
        ("start on *:*.game*", "start", R, IP, "gate1", False),
        ("start on *:*.game*", "start", R, IP, "", False),
        ("start on *:192.168.1.10", "start", R, IP, "game1", True),
        ("start on *:192.168.1.10", "start", R, IP, "", True),
        ("start on *:192.168.1.10", "start", R, "192.168.1.100", "game1", False),
        ("start on *:192.168.*.1?", "start", R, "192.168.5.10", "game1", False),
        ("start on *:192.168.*.1?", "start", R, "192.168.5.10", "", True),
        ("start on 大区2:*,大区1:*.game1", "start", R, IP, "game1", True),
        ("* on *", "user", "", "", "", True),
        ("user on *", "user", "", "", "", True),
        ("* on 大区1:*", "user", "", "", "", False),
        ("gm on *", "gm:kick", R, IP, "game1", True),
        ("gm:kick on *", "gm:kick", R, IP, "game1", True),
        ("gm:kick on *", "gm:ban", R, IP, "game1", False),
        ("gm:kick on *", "gm", R, IP, "game1", False),
    ],
)
def test_a_grant_allows_its_verbs_on_its_selection_only(grant, verb, region, ip, name, allowed):
    assert allows([Grant.parse(grant)], verb, region, ip, name) is allowed


def test_nothing_granted_is_nothing_allowed():
    assert not allows([], "list", R, IP, "game1")


@pytest.mark.parametrize("text", ["start,stop on 大区1:*", "* on *", "gm:kick,list on *:1.2.3.4,大区1:*.g*"])
def test_text_and_grant_are_the_same_thing(text):
    assert Grant.parse(str(Grant.parse(text))) == Grant.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "start",
        "start on",
        "on *",
        "start at *",
        "start on * now",
        "strat on *",
        "start, on *",
        "start on 大区1",
        "start on :*",
        "start on 大区1:",
        "start on a:b:c",
        "start on *,",
        "gm: on *",
    ],
)
def test_grants_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigError):
        Grant.parse(text)


def test_every_problem_of_every_grant_is_named():
    with pytest.raises(ConfigError) as caught:
        parse_grants(["strat,stpo on 大区1", "list on *", "x"])
    text = str(caught.value)
    assert '"start"' in text and '"stop"' in text and '"大区1" is neither' in text and 'grant "x"' in text
