import pytest

from agent.messages import GmCatalogue, PictureChanged
from roles.admin.completion import candidates
from roles.admin.picture import Picture


@pytest.fixture(scope="module")
def picture():
    picture = Picture()
    picture.apply(
        PictureChanged(
            regions={"大区1": {}, "大区2": {}},
            world=[
                ["大区1", "10.0.0.1", [{"name": "game1"}, {"name": "gate1"}]],
                ["大区2", "10.0.0.1", [{"name": "chat1"}]],
                ["大区2", "10.0.0.2", [{"name": "game9"}]],
            ],
            processes=[["大区1.10.0.0.1.game1", "RUNNING", "up", 4242]],
        ),
        0.0,
    )
    return picture


@pytest.mark.parametrize(
    ("line", "replaced", "words"),
    [
        ("st", "st", ["start", "stop"]),
        ("li", "li", ["list"]),
        ("list ", "", ["world", "machine", "大区1", "大区2", "10.0.0.1", "10.0.0.2", "4242"]),
        ("list 4", "4", ["4242"]),
        ("list machine 大区2 ", "", ["10.0.0.1", "10.0.0.2"]),
        ("start ", "", ["all", "大区1", "大区2", "10.0.0.1", "10.0.0.2"]),
        ("start 大", "大", ["大区1", "大区2"]),
        ("start 大区1 ", "", ["all", "10.0.0.1"]),
        ("start 大区1 10.0.0.1 ", "", ["all", "game1", "gate1"]),
        ("start 10.0.0.1 ", "", ["all", "chat1", "game1", "gate1"]),
        ("start 10.0.0.1 g", "g", ["game1", "gate1"]),
        ("start 10.0.0.1 game1,g", "g", ["gate1"]),
        ("start 10.0.0.1,10", "10", ["10.0.0.2"]),
        ("start 10.0.0.* ", "", ["all", "chat1", "game1", "game9", "gate1"]),
        ("start 10.0.0.1 game1 ", "", []),
        ("kill 10.0.0.1 ", "", ["4242"]),
        ("kill 大区1 10.0.0.1 4", "4", ["4242"]),
        ("plan ", "", ["start", "stop", "restart", "kill", "drain"]),
        ("plan stop 10.0.0.2 ", "", ["all", "game9", "--force"]),
        ("help wa", "wa", ["watch"]),
        ("who ", "", []),
        ("nonsense ", "", []),
    ],
)
def test_tab_offers_what_may_stand_there(picture, line, replaced, words):
    assert candidates(line, picture) == (replaced, words)


CATALOGUE = GmCatalogue(
    [
        ["大区1.10.0.0.1.game1", "game", "d1"],
        ["大区2.10.0.0.1.chat1", "chat", "d2"],
        ["大区2.10.0.0.2.game9", "game", ""],
    ],
    {
        "d1": [
            {"name": "kick", "arguments": [{"name": "player"}, {"name": "reason"}]},
            {"name": "look", "arguments": []},
        ],
        "d2": [{"name": "mute", "arguments": []}],
    },
)


@pytest.mark.parametrize(
    ("line", "replaced", "words"),
    [
        ("gm ", "", ["help", "--any", "chat", "chat1", "game", "game1", "game9"]),
        ("gm g", "g", ["game", "game1", "game9"]),
        ("gm --any ga", "ga", ["game", "game1", "game9"]),
        ("gm game1 ", "", ["kick", "look"]),
        ("gm game ", "", ["kick", "look"]),
        ("gm * ", "", ["kick", "look", "mute"]),
        ("gm 大区2:* ", "", ["mute"]),
        ("gm game9 ", "", []),
        ("gm a,,b ", "", []),
        ("gm game1 kick ", "", ["--player", "--reason"]),
        ("gm game1 kick --player=7 --r", "--r", ["--reason"]),
        ("gm game1 kick --reason x ", "", ["--player"]),
        ("gm game1 nothing ", "", []),
        ("gm help game1 k", "k", ["kick"]),
        ("gm help game1 kick ", "", []),
        ("g", "g", ["gm"]),
    ],
)
def test_tab_knows_what_applications_have_declared(picture, line, replaced, words):
    assert candidates(line, picture, CATALOGUE) == (replaced, words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("drain ga", ["game1", "game9", "gate1"]),
        ("drain game1 --", ["--deadline", "--notice"]),
        ("cancel ch", ["chat1"]),
        ("events game", ["game1", "game9"]),
        ("watch e", ["events"]),
        ("restart 10.0.0.2 game9 --", ["--when-empty", "--deadline"]),
        ("restart 10.0.0.2 game9 --when-empty --", ["--deadline"]),
        ("start 10.0.0.2 game9 --", []),
    ],
)
def test_tab_offers_names_and_options(picture, line, words):
    assert candidates(line, picture)[1] == words
