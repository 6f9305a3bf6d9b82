from agent.difference import difference
from agent.world import World


def world(entries, programs=None, ip="10.0.0.1"):
    return World.from_document(
        {"programs": programs or {"game": {"command": ["x"]}}, "world": {"大区1": {ip: entries}}}
    )


def lines(old, new):
    return [str(change) for change in difference(old, new)]


def test_equal_worlds_have_no_difference():
    assert lines(world([{"name": "a", "type": "game"}]), world([{"name": "a", "type": "game"}])) == []


def test_every_change_has_a_line():
    old = world(
        [{"name": "a", "type": "game", "port": 1}, {"name": "b", "type": "game", "host": "h", "port": 2}]
    )
    new = world(
        [{"name": "a", "type": "game", "port": 3, "map": "沙"}, {"name": "c", "type": "game"}],
        {"game": {"command": ["y"]}, "gate": {"command": ["z"]}},
    )
    assert lines(old, new) == [
        '~ program game command=["x"] → ["y"]',
        "+ program gate",
        '~ 大区1 10.0.0.1 a port=1 → 3 map=(none) → "沙"',
        "- 大区1 10.0.0.1 b game h:2",
        "+ 大区1 10.0.0.1 c game",
    ]


def test_machines_and_regions_come_and_go():
    assert lines(World(), world([])) == ["+ program game", "+ region 大区1", "+ 大区1 10.0.0.1"]
    moved = lines(world([]), world([], ip="10.0.0.2"))
    assert moved == ["- 大区1 10.0.0.1", "+ 大区1 10.0.0.2"]


def test_true_is_not_one():
    assert lines(
        world([{"name": "a", "type": "game", "x": 1}]), world([{"name": "a", "type": "game", "x": True}])
    )
