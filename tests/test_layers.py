"""The arrows and fences of the architecture: who may import whom, who may touch what. STYLE and DESIGN in a table.

A new module of agent/ needs a row in LAYERS; an exception needs a line with its reason. Nothing here runs the code.
"""

import ast
import sys
from functools import lru_cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# From the bottom up: a module imports from its own layer and from those below, never from above.
LAYERS = {
    "errors": "errors",
    "pure": (
        "__init__ address backoff bucket check codec declaration difference document gm grant lifecycle line messages"
        " names outcome problem process program proof reader selection table task template throttle trouble url"
        " verdict wire world"
    ),
    "machine": "build certificate credential disk frozen key licence logs settings user",
    "store": "pool store",
    "dispatch": "console dispatch globaldb",
    "link": "link",
    "login": "handshake entrance joining reception",
    "connection": "dialer listener",
    "service": "service",
    "program": "__main__",
}

# Pure modules decide, and leave doing and waiting to others.
NOT_PURE = {"gevent", "socket", "ssl", "time", "select", "threading", "subprocess", "logging", "redis"}

# (module, what it imports inside a function) -> why not at its top
HIDDEN = {
    (
        "agent.__main__",
        "gevent",
    ): "the standard library is patched for the roles that serve, before they are imported",
    ("agent.__main__", "roles"): "one binary plays every role, and each pays for its own imports only",
    ("agent.__main__", "agent.build"): "needed by --version only",
    ("agent.__main__", "agent.licence"): "needed by `licenses` only",
    ("agent.build", "subprocess"): "a checkout asks git for its commit; the frozen binary never does",
    ("agent.certificate", "cryptography"): "100 ms and 10 MB, needed once in the life of a machine",
    ("agent.settings", "tomllib"): "a one-shot admin without a file need not load its parser",
    ("agent.proof", "scramp"): "40 to 130 ms, needed for names and passwords beyond ASCII only",
    ("roles.admin.main", "roles.admin.repl"): "prompt_toolkit costs 100 ms that a script must not pay",
}

# Who may start a process or become another one.
STARTERS = {
    "roles.daemon.spawner": "the one place that starts the group's processes",
    "agent.build": "git, in a checkout",
    "agent.certificate": "a short child takes away what cryptography costs",
    "roles.globaldb.main": "becomes Valkey: the pid stays",
    "roles.globaldb.announcer": "says that Valkey serves, beside the process that became it",
    "roles.demo": "plays the user: it starts roles as he would",
}
STARTING_MODULES = {"subprocess", "multiprocessing", "pty"}
STARTING_CALLS = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen", "exec", "spawn")

# Who may send a signal or reap a child: a pid alone is nobody.
SIGNALLERS = {
    "roles.daemon.identity": "the only way a signal leaves a daemon: through a pidfd, after a look at who it is",
    "roles.daemon.watch": "reaps the daemon's own children, each by its pid",
    "agent.certificate": "its own child, at the start",
    "roles.globaldb.announcer": "its own child and parent",
    "roles.demo": "ends what it started",
}
SIGNALLING_CALLS = ("kill", "killpg", "pidfd_send_signal", "waitpid", "wait", "wait3", "wait4", "waitid")


class Import(NamedTuple):
    """`name` is a module, or a name in one (`from agent import wire` is agent.wire)."""

    name: str
    inside: bool  # in a function


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {
    module_name(path): path for folder in ("agent", "roles") for path in sorted((ROOT / folder).rglob("*.py"))
}


@lru_cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@lru_cache
def imports(module: str) -> tuple[Import, ...]:
    found: list[Import] = []

    def walk(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{module}: relative import"
                found.extend(Import(f"{child.module}.{alias.name}", inside) for alias in child.names)
            else:
                walk(child, deeper)

    walk(tree(module), False)
    return tuple(found)


def ours(name: str) -> str | None:
    """The module of ours that an import names, if it is one."""
    for candidate in (name, name.rpartition(".")[0]):
        if candidate in MODULES:
            return candidate
        if f"{candidate}.__init__" in MODULES:
            return f"{candidate}.__init__"
    return None


def arrows(module: str) -> set[str]:
    return {target for each in imports(module) if (target := ours(each.name))}


def top(name: str) -> str:
    return name.partition(".")[0]


def under(module: str, table: dict[str, str]) -> bool:
    return any(module == allowed or module.startswith(f"{allowed}.") for allowed in table)


LAYER_OF = {f"agent.{name}": number for number, names in enumerate(LAYERS.values()) for name in names.split()}
PURE = sorted(f"agent.{name}" for name in f"{LAYERS['pure']} {LAYERS['errors']}".split())
AGENT = sorted(module for module in MODULES if module.startswith("agent."))


def test_every_module_of_agent_has_its_row_and_every_row_its_module():
    assert set(LAYER_OF) == set(AGENT)


@pytest.mark.parametrize("module", AGENT)
def test_arrows_point_down(module):
    upward = {
        target for target in arrows(module) if top(target) == "agent" and LAYER_OF[target] > LAYER_OF[module]
    }
    assert not upward


def test_only_the_main_module_names_roles():
    assert {module for module in AGENT if any(top(each.name) == "roles" for each in imports(module))} == {
        "agent.__main__"
    }


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(AGENT)))
def test_roles_never_import_each_other_nor_the_main_module(module):
    role = module.split(".")[1]
    foreign = {
        each.name
        for each in imports(module)
        if (top(each.name) == "roles" and each.name.split(".")[1] != role)
        or ours(each.name) == "agent.__main__"
    }
    assert not foreign


def test_there_is_no_import_cycle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for target in sorted(arrows(module)):
            if not target.endswith("__init__"):
                visit(target, (*path, module))
        done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_and_wait_for_nothing(module):
    assert not {top(each.name) for each in imports(module)} & NOT_PURE


def test_errors_import_nothing():
    assert not imports("agent.errors")


def test_only_the_pool_imports_redis():
    users = {m for m in MODULES if any(top(each.name) in ("redis", "hiredis") for each in imports(m))}
    assert users == {"agent.pool"}


def test_an_import_inside_a_function_has_its_reason():
    found = {
        (module, known)
        for module in MODULES
        for each in imports(module)
        if each.inside
        for known in [
            next((name for at, name in HIDDEN if at == module and under(each.name, {name: ""})), each.name)
        ]
    }
    assert found - HIDDEN.keys() == set(), "hidden without a reason"
    assert HIDDEN.keys() - found == set(), "a reason for nothing"


def calls(module: str, words: tuple[str, ...], prefixes: tuple[str, ...] = ()) -> set[str]:
    """Functions of os and signal by these names (or beginning so) that a module uses or imports."""
    used = {
        node.attr
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "signal")
    }
    used |= {each.name.partition(".")[2] for each in imports(module) if top(each.name) in ("os", "signal")}
    return {name for name in used if name in words or name.startswith(prefixes or ("\0",))}


def test_only_those_with_a_reason_start_processes():
    starters = {
        module
        for module in MODULES
        if any(
            top(each.name) in STARTING_MODULES or each.name == "gevent.subprocess" for each in imports(module)
        )
        or calls(module, STARTING_CALLS, ("exec", "spawn", "posix_spawn"))
    }
    assert {module for module in starters if not under(module, STARTERS)} == set()
    assert {name for name in STARTERS if not any(under(module, {name: ""}) for module in starters)} == set()


def test_only_those_with_a_reason_signal_or_reap():
    signallers = {module for module in MODULES if calls(module, SIGNALLING_CALLS)}
    assert {module for module in signallers if not under(module, SIGNALLERS)} == set()
    assert {
        name for name in SIGNALLERS if not any(under(module, {name: ""}) for module in signallers)
    } == set()


def test_the_admin_and_the_commands_that_need_no_daemon_stay_light():
    """Nothing that an `agent admin -c` from cron imports may lead to redis, cryptography or prompt_toolkit."""
    reached, todo = set(), ["roles.admin.oneshot", "roles.admin.main"]
    while todo:
        module = todo.pop()
        reached.add(module)
        todo += [
            t for each in imports(module) if not each.inside and (t := ours(each.name)) and t not in reached
        ]
    heavy = {"redis", "hiredis", "cryptography", "prompt_toolkit", "rich", "scramp", "psutil"}
    found = {
        (m, each.name) for m in reached for each in imports(m) if not each.inside and top(each.name) in heavy
    }
    assert not found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_opens_with_what_it_is(module):
    docstring = ast.get_docstring(tree(module)) or ""
    assert docstring.split("\n")[0].strip(), f"{module} has no docstring"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.endswith("__")))
def test_a_module_has_no_name_of_the_standard_library_or_of_a_package(module):
    name = module.rpartition(".")[2]
    assert name not in sys.stdlib_module_names
    assert name not in packages_distributions()
    assert name not in {"utils", "util", "helpers", "helper", "base", "misc", "common", "manager"}


@pytest.mark.parametrize("module", MODULES)
def test_whoever_catches_everything_says_so(module):
    """A bare `except:` takes gevent.Timeout and GreenletExit along unseen."""
    bare = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler) and not node.type
    ]
    assert not bare


@pytest.mark.parametrize("module", MODULES)
def test_nobody_asserts_what_a_peer_or_an_operator_said(module):
    """Asserts of one name or a type are notes for the type checker; others would vanish under -O."""
    said = [
        node.lineno
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Assert) and any(isinstance(part, ast.Call) for part in ast.walk(node.test))
        and not (isinstance(node.test, ast.Call) and getattr(node.test.func, "id", "") == "isinstance")
    ]  # fmt: skip
    assert not said


def test_only_the_demo_plays_an_application():
    """The SDKs stand beside the agent: what holds the two together is docs/sdk.md, and not an import."""
    users = {m for m in MODULES if any(top(each.name) in ("sdk", "agentsdk") for each in imports(m))}
    assert users == {"roles.demo.server"}


def test_the_python_sdk_imports_nothing_but_the_standard_library_and_itself():
    for path in (ROOT / "sdk" / "python" / "agentsdk").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {top(alias.name) for alias in node.names} <= sys.stdlib_module_names, path.name
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert top(node.module or "") in sys.stdlib_module_names, path.name
