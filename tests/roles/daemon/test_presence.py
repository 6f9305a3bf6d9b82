import pytest

from agent.errors import LinkLost, Refused
from agent.messages import Presence as Told
from agent.messages import PresenceChanged
from roles.daemon.presence import Presence

OWN, NEAR, FAR = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class RouterLink:
    """Answers who is online; `meanwhile` comes while it is asked."""

    def __init__(self, presence, answer, meanwhile=()):
        self.presence, self.answer, self.meanwhile = presence, answer, meanwhile
        self.closed_why = ""

    def call(self, _message, _timeout_s):
        for notice in self.meanwhile:
            self.presence.changed(notice)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Told(self.answer)

    def close(self, why):
        self.closed_why = why


class Dialer:
    trouble = "router: link lost"
    link = None


@pytest.fixture
def presence():
    made = Presence(OWN)
    made.dialer = Dialer()
    return made


def join(presence, answer, *meanwhile):
    link = presence.dialer.link = RouterLink(presence, answer, meanwhile)
    presence.joined(link)
    return link


def online(presence):
    return {ip: presence.online(ip) for ip in (OWN, NEAR, FAR)}


def test_without_a_router_nobody_can_know_and_we_are_here_ourselves(presence):
    assert online(presence) == {OWN: True, NEAR: None, FAR: None}
    assert (presence.others(), presence.about(NEAR)) == ([], {})


def test_who_comes_and_goes_is_known(presence):
    join(presence, {OWN: {}, NEAR: {"version": "1"}})
    assert online(presence) == {OWN: True, NEAR: True, FAR: False}
    presence.changed(PresenceChanged({FAR: {}}, [NEAR]))
    assert online(presence) == {OWN: True, NEAR: False, FAR: True} and presence.others() == [FAR]


def test_what_is_told_while_we_ask_is_newer_than_the_answer(presence):
    join(presence, {NEAR: {"old": 1}, FAR: {}}, PresenceChanged({NEAR: {"new": 1}}, [FAR]))
    assert online(presence) == {OWN: True, NEAR: True, FAR: False} and presence.about(NEAR) == {"new": 1}


def test_who_left_and_came_again_while_we_ask_is_there(presence):
    join(presence, {}, PresenceChanged({}, [NEAR]), PresenceChanged({NEAR: {}}, []))
    assert presence.online(NEAR) is True


def test_a_lost_link_makes_everybody_unknown_and_the_next_one_begins_anew(presence):
    join(presence, {NEAR: {}})
    presence.dialer.link = None
    assert online(presence) == {OWN: True, NEAR: None, FAR: None}
    presence.changed(PresenceChanged({FAR: {}}, []))
    join(presence, {})
    assert online(presence) == {OWN: True, NEAR: False, FAR: False}


@pytest.mark.parametrize("error", [Refused("internal", "no"), LinkLost("gone")])
def test_a_router_that_does_not_tell_is_left(presence, error):
    link = join(presence, error)
    assert "did not tell who is online" in link.closed_why and presence.online(NEAR) is None


@pytest.mark.parametrize("about", [None, 5, "x", ["rival"]])
def test_what_is_no_description_of_a_machine_is_not_believed(presence, about):
    join(presence, {NEAR: about, FAR: {}})
    presence.changed(PresenceChanged({NEAR: about}, []))
    assert presence.about(NEAR) == {} and presence.online(NEAR) is False and presence.online(FAR) is True
