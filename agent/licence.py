"""The licences of everything the binary carries; packaging/licences.py collects them when it is built."""

from importlib import metadata

from agent.frozen import is_frozen, resource_path


def licence_text() -> str:
    if is_frozen():
        return resource_path("licences.txt").read_text(encoding="utf-8")
    lines = [
        "Run from source: the licence texts lie with the installed packages; the binary carries them all.",
        "",
    ]
    lines += sorted(
        f"{dist.name} {dist.version}: {licence_name(dist.metadata)}" for dist in metadata.distributions()
    )
    return "\n".join(lines)


def licence_name(fields) -> str:
    return (fields.get("License-Expression") or fields.get("License") or "see its files").split("\n")[0]
