"""Whatever stands in a file or in globaldb: an answer or an AgentError, never another exception."""

import json
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from agent import names
from agent.difference import difference
from agent.document import read_document, render_document
from agent.errors import AgentError, ConfigError
from agent.grant import Grant, allows
from agent.process import Process
from agent.program import FIELDS, LaunchSpec, launch_spec, program_problems
from agent.selection import Selection
from agent.user import User
from agent.world import World, WorldInvalid

text = st.text(max_size=8) | st.sampled_from(
    ["game1", "{port}", "{", "}", "{{", "{x}", "", "all", "\ud800", "大区1", "*"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
launch = st.dictionaries(st.sampled_from([*FIELDS, "x"]), values, max_size=6)
entries = st.dictionaries(
    st.sampled_from(["name", "type", "host", "port", "agentcount", "map", "ip", "protocol", *FIELDS]),
    values,
    max_size=6,
)
ips = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.256", "x"])
documents = values | st.fixed_dictionaries(
    {},
    optional={
        "programs": values | st.dictionaries(text, launch, max_size=3),
        "world": values
        | st.dictionaries(text, st.dictionaries(ips, st.lists(entries | values, max_size=3)), max_size=3),
        "regions": values,
        "wrld": values,
    },
)

good_names = st.text("abcxyz019_大区游戏-", min_size=1, max_size=10).filter(
    lambda name: not names.name_problem(name)
)
good_regions = good_names.filter(lambda name: not names.region_problem(name))
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
good_entry = st.fixed_dictionaries(
    {"type": st.just("game"), "port": st.just(0)}, optional={"map": plain, "agentcount": st.integers(0, 9)}
)


def attempt(call):
    """(result, None) or (None, the error an operator may see); any other exception fails the test."""
    try:
        return call(), None
    except AgentError as error:
        return None, error


@st.composite
def good_documents(draw):
    world = {}
    for region in draw(st.lists(good_regions, max_size=3, unique=True)):
        world[region] = {}
        for ip in draw(
            st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.10.1"]), max_size=2, unique=True)
        ):
            unique = draw(st.lists(good_names, max_size=3, unique=True))
            world[region][ip] = [{"name": name, **draw(good_entry)} for name in unique]
    return {"programs": {"game": {"command": ["x", "{name}"]}}, "world": world}


@given(documents)
def test_any_document_is_a_world_or_a_list_of_problems(document):
    world, error = attempt(lambda: World.from_document(document))
    if error:
        assert isinstance(error, WorldInvalid) and error.problems and str(error)
    else:
        assert World.from_document(json.loads(render_document(world.document()))) == world


@given(good_documents(), good_documents())
def test_a_good_world_survives_the_way_through_file_and_globaldb(old, new):
    old, new = World.from_document(old), World.from_document(new)
    assert World.from_document(read_document(render_document(new.document()).encode(), "f")) == new
    document = new.document()
    dumped = {name: {k: json.dumps(v) for k, v in document[name].items()} for name in ("regions", "programs")}
    machines = {
        region: {ip: json.dumps(v) for ip, v in per_ip.items()}
        for region, per_ip in document["world"].items()
    }
    again = World.from_parts(dumped["regions"], machines, dumped["programs"])
    assert again == new and not again.problems
    assert bool(difference(old, new)) == (old != new)
    assert not difference(new, new)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_a_document_or_a_configuration_error(data, toml):
    _, error = attempt(lambda: read_document(data, "f", toml))
    assert error is None or (isinstance(error, ConfigError) and str(error).startswith("f"))


@given(
    st.dictionaries(text, text),
    st.dictionaries(text, st.dictionaries(text, text)),
    st.dictionaries(text, text),
)
def test_whatever_stands_in_globaldb_is_read_without_an_exception(regions, machines, programs):
    World.from_parts(regions, machines, programs)


@given(documents)
def test_documents_dumped_into_globaldb_are_read_without_an_exception(document):
    parts = document if isinstance(document, dict) else {}

    def dumped(value):
        return {str(k): json.dumps(v) for k, v in value.items()} if isinstance(value, dict) else {}

    machines = parts.get("world")
    per_region = {k: dumped(v) for k, v in machines.items()} if isinstance(machines, dict) else {}
    world = World.from_parts(dumped(parts.get("regions")), per_region, dumped(parts.get("programs")))
    for process in world.processes():
        assert names.split_key(process.key) == (process.region, process.ip, process.name)
        _, error = attempt(partial(launch_spec, process, world.programs))
        assert error is None or process.key in str(error)


@given(launch, st.dictionaries(text | st.sampled_from(list(FIELDS)), values, max_size=5))
@settings(max_examples=300)
def test_any_program_with_any_overrides_is_a_launch_or_a_configuration_error(program, fields):
    problems = list(program_problems("game", program))
    process = Process("大区1", "10.0.0.1", "game1", "game", "h", 7000, fields)
    spec, error = attempt(lambda: launch_spec(process, {"game": program}))
    if error:
        assert all(process.key in line for line in str(error).splitlines() if line.startswith("process"))
    else:
        assert isinstance(spec, LaunchSpec) and len(spec.digest()) == 12
        assert all(isinstance(word, str) and type(word) is str for word in spec.command)
        assert problems == [] or fields.keys() & set(FIELDS)


@given(st.lists(text, max_size=4), st.lists(good_regions, max_size=2))
def test_any_words_select_something_or_are_wrong_usage(words, regions):
    try:
        selection = Selection.parse(words, regions)
    except AgentError:
        return
    selection.matches("大区1", "10.0.0.1", "game1")


@given(st.text("start,op on*:大区1.game[]?!-^\\", max_size=30))
def test_a_grant_reads_back_as_it_was_written_or_is_refused(text_):
    try:
        grant = Grant.parse(text_)
    except ConfigError:
        return
    assert Grant.parse(str(grant)) == grant
    allows([grant], "start", "大区1", "10.0.0.1", "game1")


@given(values | st.text())
def test_a_user_entry_that_anybody_wrote_is_a_user_or_damaged(value):
    text_ = value if isinstance(value, str) else json.dumps(value)
    _, error = attempt(lambda: User.from_json("li", text_))
    assert error is None or 'user "li"' in str(error)
