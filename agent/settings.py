"""Where a role's options come from: flags > environment (AGENT_…) > a TOML file > the default in the usage text.

The docopt usage text is the documentation and the only list of options: `--state DIR` is also the environment
variable AGENT_STATE and, in the file, the key `state` at the top or in the table of the role, which wins:

    globaldb = "redis://10.0.0.5"
    [daemon]
    router = "10.0.0.2"

The file is --config FILE, AGENT_CONFIG or /etc/agent.toml if that is there. A password is never an option.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docopt

from agent.errors import ConfigError, UsageError
from agent.names import did_you_mean

DEFAULT_FILE = Path("/etc/agent.toml")
ROLES = ("router", "daemon", "admin", "globaldb", "world", "user", "key", "demo")
_DEFAULT = re.compile(r"^ *(--[a-z-]+)[^\n]*(?:\n {10,}[^\n]*)*?\[default: ([^\]]*)\]", re.MULTILINE)


class Settings(dict[str, Any]):
    """Option (`--state`), command and argument (`<addr>`) -> value, as docopt names them; an option not given is None.

    `source(option)` says where a value came from, for messages.
    """

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
        super().__init__(values)
        self._sources = sources

    def source(self, option: str) -> str:
        return self._sources.get(option, option)

    def number(self, option: str, least: float, most: float) -> float:
        """The option as a number in a range. Raises UsageError."""
        try:
            value = float(self[option])
        except (TypeError, ValueError):
            raise UsageError(f"{self.source(option)}: {self[option]!r} is not a number") from None
        if not least <= value <= most:
            raise UsageError(f"{self.source(option)}: {value:g} is not between {least:g} and {most:g}")
        return value


def load(usage: str, argv: list[str], role: str, environ: Mapping[str, str] = os.environ) -> Settings:
    """Merge everything. Raises ConfigError for the file, UsageError for the command line; --help ends the program."""
    defaults = dict(_DEFAULT.findall(usage))
    # For people, and not for docopt: a default that it fills in would look like an option that was given.
    shown = re.sub(r"\[default: ([^\]]*)\]", r"(default: \1)", usage)
    try:
        parsed = docopt.docopt(shown, argv=[role, *argv] if _names_role(usage, role) else argv)
    except docopt.DocoptExit as error:
        raise UsageError(_explain(str(error), usage, role)) from None
    options = [name for name in parsed if name.startswith("--")]
    config = parsed.get("--config") or environ.get("AGENT_CONFIG")
    file = _read_file(
        Path(config) if config else DEFAULT_FILE, required=bool(config), role=role, options=options
    )
    values, sources = dict(parsed), {}
    for option in options:
        key = option[2:].replace("-", "_")
        variable = f"AGENT_{key.upper()}"
        if parsed[option] not in (None, False, []):
            sources[option] = option
        elif environ.get(variable):
            values[option] = environ[variable]
            sources[option] = variable
        elif key in file:
            values[option] = file[key]
            sources[option] = f"{config or DEFAULT_FILE}: {key}"
        elif option in defaults:
            values[option] = defaults[option]
    for option in options:  # an option without an argument: docopt says False
        if parsed[option] is False and not isinstance(values[option], bool):
            values[option] = _switch(values[option], sources[option])
        if isinstance(parsed[option], list) and not isinstance(values[option], list):
            values[option] = [values[option]]
    return Settings(values, sources)


def _explain(complaint: str, usage: str, role: str) -> str:
    """What docopt says of a wrong command line, in words: it names what it could not place as Python objects."""
    synopsis = docopt.DocoptExit.usage.strip()
    said = complaint.replace(docopt.DocoptExit.usage, "").partition("\n")[0].strip()
    if said.startswith("Warning: ") or not said:
        options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
        words = set(re.findall(r"[\w-]+", synopsis))
        rest = [found[1:-1] for found in re.findall(r"""(?<=[ (,\[])(?:'[^']*'|"[^"]*")(?=[,)])""", said)]
        wrong = [word for word in rest if word not in options and word not in words]
        said = "something is missing, too much, or given twice"
        if wrong:
            kind = "option" if wrong[0].startswith("-") else "word"
            said = f"no place for the {kind} {wrong[0]}{did_you_mean(wrong[0], options if kind == 'option' else words)}"
    return f"{said}\n{synopsis}\n`agent {role} --help` explains it"


def _names_role(usage: str, role: str) -> bool:
    return re.search(rf"^\s*agent {role}\b", usage, re.MULTILINE) is not None


def _switch(text: str, source: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{source}: {text!r} is neither yes nor no")


def _read_file(path: Path, *, required: bool, role: str, options: list[str]) -> dict[str, Any]:
    """The keys of the TOML file for one role. A key that no role knows is an error, not a shrug."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: there is no such file (--config, AGENT_CONFIG)") from None
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    # Imported here: most commands find no file, and its parser costs them 4 ms.
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    known = {option[2:].replace("-", "_") for option in options} - {"config", "help"}
    merged: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            if key not in ROLES:
                raise ConfigError(f"{path}: there is no role [{key}]; roles are {', '.join(ROLES)}")
            continue
        merged[key] = _plain(path, key, value)
    for key, value in document.get(role, {}).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it knows {', '.join(sorted(known))}"
            raise ConfigError(f"{path}: [{role}] has no option {key}{hint}")
        merged[key] = _plain(path, f"[{role}] {key}", value)
    return merged


def _plain(path: Path, key: str, value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, str | int | float):
        return value if isinstance(value, bool) else str(value)
    raise ConfigError(f"{path}: {key}: {value!r} is neither text nor a number")
