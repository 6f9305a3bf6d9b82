import pytest

from agent.messages import PictureChanged
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
        ("plan ", "", ["start", "stop", "restart", "kill"]),
        ("plan stop 10.0.0.2 ", "", ["all", "game9"]),
        ("help wa", "wa", ["watch"]),
        ("who ", "", []),
        ("nonsense ", "", []),
    ],
)
def test_tab_offers_what_may_stand_there(picture, line, replaced, words):
    assert candidates(line, picture) == (replaced, words)
