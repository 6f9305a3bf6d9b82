import json

import pytest

from agent.document import read_document, render_document
from agent.errors import ConfigError
from agent.selection import Selection
from agent.world import World, WorldInvalid

IP = "192.168.1.10"


def document(*processes, **changes):
    entries = [{"name": "game1", "type": "game", "port": 7000}, *processes]
    return {
        "programs": {"game": {"command": ["/srv/game", "{port}"]}},
        "world": {"大区1": {IP: entries}},
        **changes,
    }


def problems(document_):
    with pytest.raises(WorldInvalid) as caught:
        World.from_document(document_)
    return list(map(str, caught.value.problems))


def other(**fields):
    return {"name": "game2", "type": "game", **fields}


def test_a_good_file_is_a_world_and_comes_back_out_of_it():
    doc = document(other(port=7001, map="沙漠"), regions={"大区1": {"title": "一"}, "空": {}})
    world = World.from_document(doc)
    assert world.process(f"大区1.{IP}.game2").fields["map"] == "沙漠"
    assert world.ips() == {IP} and [process.name for process in world.on(IP)] == ["game1", "game2"]
    assert [process.name for process in world.select(Selection(name="*2"))] == ["game2"]
    assert World.from_document(world.document()) == world
    assert World.from_document(json.loads(render_document(world.document()))) == world


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (document(other(port=70000)), f"world.大区1.{IP}[1].port: 70000 is not a port (0–65535, 0: none)"),
        (document(other(port="7001")), f'world.大区1.{IP}[1].port: "7001" is not a port'),
        (document(other(port=True)), f"world.大区1.{IP}[1].port: true is not a port"),
        (
            document(other(port=7000)),
            f"world.大区1.{IP}[1].port: game2 listens on 0.0.0.0:7000, and so does 大区1.{IP}.game1",
        ),
        (document({"name": "game1", "type": "game"}), f'world.大区1.{IP}[1].name: "game1" stands twice'),
        (document(other(type="gmae")), f'world.大区1.{IP}[1].type: no program "gmae" (did you mean "game"?)'),
        (document({"type": "game"}), f'world.大区1.{IP}[1]: "name" is missing'),
        (document({"name": "game2"}), f'world.大区1.{IP}[1]: "type" is missing'),
        (document({"name": 2, "type": "game"}), f"world.大区1.{IP}[1].name: 2 is not a string"),
        (document({"name": "a.b", "type": "game"}), f'world.大区1.{IP}[1].name: "a.b" has .'),
        (document({"name": "区" * 63, "type": "game"}), "200 are allowed"),
        (document("game2"), f'world.大区1.{IP}[1]: "game2" is not an object'),
        (document(other(host=7)), f"world.大区1.{IP}[1].host: 7 is not a host"),
        (document(other(ip="10.0.0.1")), f'world.大区1.{IP}[1].ip: "10.0.0.1" contradicts its place'),
        (document(other(agentcount=-1)), f"world.大区1.{IP}[1].agentcount: -1"),
        (document(other(tier="x")), f'world.大区1.{IP}[1].tier: "x" is not a whole number'),
        (
            document(other(env={"A": "{prot}"})),
            f'world.大区1.{IP}[1].env.A: template "{{prot}}": no field "prot"',
        ),
        (
            document(world={"大区1": {"192.168.1.256": []}}),
            'world.大区1: "192.168.1.256" is not an IPv4 address',
        ),
        (document(world={"大区1": {IP: {}}}), f"world.大区1.{IP}: {{}} is not a list of processes"),
        (document(world={"大 区": {}}), 'world: "大 区" has a space'),
        (document(world=[]), "world: [] is not an object"),
        (document(regions={"大区1": 1}), "regions.大区1: 1 is not an object"),
        (document(programs={"game": {}}), "programs.game: has no command"),
        (
            document(programs={"game": {"command": ["x"], "retart": "never"}}),
            'programs.game: no field "retart" (did',
        ),
        (
            document(programs={"game": {"command": ["{map}"]}}),
            'programs.game.command[0]: template "{map}": no field',
        ),
        (document(wrold={}), 'no key "wrold" here (did you mean "world"?)'),
        ({"world": {}}, '"programs" is missing'),
        ([], "the file [] is not an object"),
    ],
)
def test_a_wrong_file_is_refused_with_the_path_to_the_fault(doc, expected):
    assert any(problem.startswith(expected) or expected in problem for problem in problems(doc)), problems(
        doc
    )


def test_a_file_has_a_line_per_process_and_per_field_of_a_program():
    text = render_document(World.from_document(document(other(map="沙漠"))).document())
    assert (
        """
      "192.168.1.10": [
        {"name": "game1", "type": "game", "port": 7000},
        {"name": "game2", "type": "game", "map": "沙漠"}
      ]"""
        in text
    )
    assert '      "command": ["/srv/game", "{port}"]' in text and '    "大区1": {}\n' in text


def test_all_problems_are_told_at_once():
    found = problems(
        document(other(port=-1), other(name="a b"), other(name="game3", tier="x"), other(type="gme"), x=1)
    )
    assert len(found) == 6


def test_a_fault_of_a_program_is_told_once_however_many_processes_run_it():
    doc = document(*(other(name=f"g{i}") for i in range(50)), programs={"game": {"command": ["{map}"]}})
    (found,) = problems(doc)
    assert "and 50 more" in found


def test_ports_clash_on_one_machine_only_and_not_between_protocols_or_addresses():
    def worlds(*entries):
        machines = {}
        for region, ip, entry in entries:
            machines.setdefault(region, {}).setdefault(ip, []).append(entry)
        return document(world=machines)

    def at(name, host="0.0.0.0", port=7000, **fields):
        return {"name": name, "type": "game", "host": host, "port": port, **fields}

    World.from_document(worlds(("a", IP, at("g")), ("a", "192.168.1.11", at("g"))))
    World.from_document(worlds(("a", IP, at("g", port=0)), ("a", IP, at("h", port=0))))
    World.from_document(worlds(("a", IP, at("g")), ("a", IP, at("h", protocol="udp"))))
    World.from_document(worlds(("a", IP, at("g", "127.0.0.1")), ("a", IP, at("h", IP))))
    assert len(problems(worlds(("a", IP, at("g")), ("b", IP, at("g"))))) == 1
    assert len(problems(worlds(("a", IP, at("g", "127.0.0.1")), ("a", IP, at("h"))))) == 1


def test_the_same_name_in_two_regions_on_one_machine_is_two_processes():
    entry = [{"name": "game1", "type": "game"}]
    world = World.from_document(document(world={"a": {IP: entry}, "b": {IP: entry}}))
    assert len(world.on(IP)) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{\n "a": 1,\n}', "w.json, line 3, column 1"),
        (b'{"a": 1,\n}', "(a comma too many?)"),
        (b'{"a": [1, ]}', "Expecting value (a comma too many?)"),
        (b'{"a": [1,,2]}', "(a comma too many?)"),
        (b'{\n\n"a": "\xff"}', "w.json, line 3: byte 0xff is not UTF-8"),
        (b"{} {}", "w.json, line 1, column 4: Extra data"),
        (b"", "w.json, line 1"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "w.json: "),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_json_is_told_with_its_line(data, words):
    with pytest.raises(ConfigError) as caught:
        read_document(data, "w.json")
    assert words in str(caught.value)


def test_keys_that_stand_twice_and_half_characters_are_found_at_any_depth():
    doc = read_document(
        b'{"programs": {"game": {"command": ["x"], "env": {"A": "1", "A": "2"}}}, '
        b'"world": {"r": {"192.168.1.10": []}, "r": {}}, "regions": {"r": {"t": "\\ud800"}}}',
        "w.json",
    )
    found = problems(doc)
    assert 'programs.game.env: "A" stands twice' in found and 'world: "r" stands twice' in found
    assert any("surrogate" in problem for problem in found)


def test_a_byte_order_mark_and_toml_are_read():
    assert read_document(b"\xef\xbb\xbf{}", "w.json") == {}
    text = (
        '[programs.game]\ncommand = ["/srv/game"]\n'
        '[[world."大区1"."192.168.1.10"]]\nname = "game1"\ntype = "game"\n'
    )
    assert [p.key for p in World.from_document(read_document(text.encode(), "w.toml", toml=True)).processes()]
    with pytest.raises(ConfigError, match=r"w.toml: .*line 1"):
        read_document(b"a = ]\n", "w.toml", toml=True)
    doc = read_document(b"[programs]\n[world]\n[regions.r]\nopened = 2024-01-01\n", "w.toml", toml=True)
    assert "is a date" in problems(doc)[0]


def test_what_stands_in_globaldb_is_read_as_far_as_it_goes():
    good = json.dumps([{"name": "game1", "type": "game"}, {"name": "b d", "type": "game"}])
    world = World.from_parts(
        {"r": "{}", "s": "[", "t": "7"},
        {"r": {IP: good, "192.168.1.11": "nonsense", "x": "[]"}},
        {"game": '{"command": ["x"]}', "old": "[]"},
    )
    assert [process.key for process in world.processes()] == [f"r.{IP}.game1"]
    assert len(world.problems) == 6 and world.programs == {"game": {"command": ["x"]}}


def test_a_wrong_port_is_told_once_and_not_again_where_templates_name_it():
    doc = document(other(port=70000, ready={"port": "{port}"}))
    assert problems(doc) == [f"world.大区1.{IP}[1].port: 70000 is not a port (0–65535, 0: none)"]
    doc = document(other(ready={"port": "{port}"}))
    assert "ready.port" in str(problems(doc)), "no port at all is told where one is needed"
