import pytest

from agent.errors import ConfigError
from agent.process import Process
from agent.program import FIELDS, LaunchSpec, launch_spec, program_problems


def game(**fields):
    raw = {"name": "game1", "type": "game", "host": "0.0.0.0", "port": 8000, **fields}
    return Process("大区1", "192.168.1.10", "game1", "game", "0.0.0.0", 8000, raw)


def launch(program, **fields):
    return launch_spec(game(**fields), {"game": {"command": ["/srv/game"], **program}})


def test_every_field_has_a_default_and_a_check():
    assert set(FIELDS) == set(LaunchSpec.__slots__)
    assert launch({}) == LaunchSpec(["/srv/game"])


def test_templates_are_filled_in_wherever_a_string_stands():
    spec = launch(
        {
            "command": ["/srv/{type}", "--port={port}", "{region}/{ip}/{name}", "{{literally}}", "{map}"],
            "cwd": "/srv/{name}",
            "env": {"PORT": "{port}"},
            "log": {"path": "/var/log/{region}.{name}.log"},
        },
        map="沙漠 {x}",
    )
    assert spec.command == ["/srv/game", "--port=8000", "大区1/192.168.1.10/game1", "{literally}", "沙漠 {x}"]
    assert (
        spec.cwd == "/srv/game1"
        and spec.env == {"PORT": "8000"}
        and spec.log == {"path": "/var/log/大区1.game1.log"}
    )


def test_a_number_field_takes_a_template_that_becomes_a_number():
    spec = launch(
        {"ready": {"port": "{port}"}, "tier": "{rank}", "stop_timeout_s": "{patience}"}, rank=3, patience=1.5
    )
    assert (spec.ready, spec.tier, spec.stop_timeout_s) == ({"port": 8000}, 3, 1.5)
    with pytest.raises(ConfigError, match=r"ready[.]port"):
        launch({"ready": {"port": "{name}"}})
    with pytest.raises(ConfigError, match='"8000" is not a port'):
        launch({"ready": {"port": "8000"}})


def test_the_processs_own_fields_win_and_env_and_limits_are_merged():
    spec = launch(
        {"restart": "always", "env": {"A": "1", "B": "1"}, "limits": {"nofile": 1024, "core": 0}, "tier": 5},
        restart="never",
        env={"B": "2"},
        limits={"nofile": [10, "unlimited"]},
    )
    assert spec.restart == "never" and spec.env == {"A": "1", "B": "2"} and spec.tier == 5
    assert spec.limits == {"nofile": (10, -1), "core": (0, 0)}


def test_an_overridden_fault_of_the_program_does_not_matter():
    assert launch({"cwd": "{nothing}"}, cwd="/srv").cwd == "/srv"


def test_an_unknown_template_name_tells_process_field_and_template_and_what_there_is():
    with pytest.raises(ConfigError) as caught:
        launch({"command": ["/srv/game", "{prot}"]}, map="x")
    text = str(caught.value)
    assert "大区1.192.168.1.10.game1" in text and "programs.game.command[1]" in text and '"{prot}"' in text
    assert 'did you mean "port"' in text and "known: host, ip, map, name, port, region, type" in text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": "/srv/game -x"}, "is a string; write a list"),
        ({"command": []}, "not a list of words"),
        ({"command": ["x", 1]}, "command[1]: 1 is a number, not a string"),
        ({"command": ["x", "a\0b"]}, "NUL"),
        ({"command": ["x", "\ud800"]}, "surrogate"),
        ({"comand": ["x"]}, 'no field "comand" (did you mean "command"?)'),
        ({"restart": "sometimes"}, '"sometimes" is none of never, on-failure, always'),
        ({"restart": ["never"]}, "none of"),
        ({"stop_signal": "KILL"}, '"KILL" is none of TERM'),
        ({"stop_signal": 15}, "15 is none of TERM"),
        ({"stop_timeout_s": "30"}, '"30" is not a number of seconds'),
        ({"stop_timeout_s": -1}, "not a number of seconds"),
        ({"stop_timeout_s": True}, "not a number of seconds"),
        ({"kill_after_stop": "yes"}, "not true or false"),
        ({"tier": 1.5}, "not a whole number"),
        ({"cwd": "srv"}, "not an absolute path"),
        ({"env": {"A": 1}}, "env.A: 1 is a number"),
        ({"env": {"AGENT_TOKEN": "x"}}, "the agent's own"),
        ({"ready": {"spawn": 1, "port": 2}}, "not one of"),
        ({"ready": {"prot": 2}}, 'no field "prot" (did you mean "port"?)'),
        ({"ready": {"report": False}}, "ready.report"),
        ({"limits": {"files": 1}}, 'no field "files"'),
        ({"limits": {"nofile": [2, 1]}}, "soft limit is above"),
        ({"probe": {"port": 0}}, "probe.port: 0 is not a port (1–65535)"),
        ({"probe": {}}, 'probe: {} has no port; {"port": number} is wanted'),
        (
            {"probe": {"protocol": "udp"}},
            'probe: {"protocol": "udp"} has no port; {"port": number} is wanted',
        ),
        (
            {"probe": {"port": 1, "protocol": "upd"}},
            'probe.protocol: "upd" is none of tcp, udp (did you mean "udp"?)',
        ),
        ({"probe": {"port": 1, "host": "x"}}, 'probe: no field "host"; known: port, protocol'),
        ({"report": "none"}, "none of auto, self, agent"),
        ({"command": ["{"]}, "a lone {"),
        ({"command": ["{}"]}, "names no field"),
        ({"command": ["{env}"], "env": {}}, "no field"),
    ],
)
def test_a_wrong_field_is_told_with_its_value_and_what_is_allowed(fields, words):
    with pytest.raises(ConfigError) as caught:
        launch(fields)
    assert words in str(caught.value) and "大区1.192.168.1.10.game1" in str(caught.value)


def test_inline_overrides_are_checked_but_unknown_fields_of_a_process_are_not():
    assert launch({}, whatever={"x": [1]}) == LaunchSpec(["/srv/game"])
    with pytest.raises(ConfigError, match=r"game1: tier: \"high\""):
        launch({}, tier="high")


def test_a_template_is_not_filled_in_from_another_template():
    assert launch({"command": ["{cwd}"]}, cwd="/srv").command == ["/srv"]
    with pytest.raises(ConfigError, match='field "cwd" is a template itself'):
        launch({"command": ["{cwd}"]}, cwd="/srv/{name}")


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError) as caught:
        launch({"tier": "x", "restart": "y"}, report="z")
    assert len(str(caught.value).splitlines()) == 3


def test_a_program_is_checked_without_a_process_too():
    problems = list(
        program_problems("game", {"command": ["{any}", "{"], "tier": "{any}", "restart": "x", "nme": 1})
    )
    assert [problem.path for problem in problems] == [
        "programs.game.command[1]",
        "programs.game.restart",
        "programs.game",
    ]
    assert list(program_problems("game", [])) and "no command" in str(next(program_problems("game", {})))


def test_a_missing_program_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r'no program "game" .did you mean "gamee"'):
        launch_spec(game(), {"gamee": {"command": ["x"]}})


def test_the_digest_changes_with_the_launch_and_with_nothing_else():
    same = launch({"command": ["{port}"]}).digest()
    assert same == launch({"command": ["8000"]}, map="x").digest() and len(same) == 12
    assert same != launch({"command": ["8001"]}).digest()
