"""The frozen binary, built once per session if it is older than the sources; every run has a place of its own."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(scope="session")
def built() -> Path:
    """dist/agent as build.sh makes it; AGENT_TEST_BINARY names another one, such as a release."""
    if named := os.environ.get("AGENT_TEST_BINARY"):
        return Path(named)
    done = subprocess.run([str(ROOT / "build.sh")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ROOT / "dist/agent"


class Binary:
    """A binary in an empty folder, its cache folder, and runs with nothing else in the environment."""

    def __init__(self, file: Path, cache: Path) -> None:
        self.file, self.cache = file, cache

    def environ(self, **more: str) -> dict[str, str]:
        return {"PATH": PATH, "AGENT_CACHE": str(self.cache), **more}

    def run(self, *words: str, file: Path | str | None = None, env: dict[str, str] | None = None, **options):
        return subprocess.run(
            [str(file or self.file), *words],
            env=self.environ() if env is None else env,
            capture_output=True,
            text=True,
            **options,
        )

    def start(self, *words: str, **options) -> subprocess.Popen:
        return subprocess.Popen([str(self.file), *words], env=self.environ(), **options)

    @property
    def copies(self) -> list[Path]:
        """Unpacked programs, and whatever else lies in the cache but the lock."""
        return sorted(path for path in self.cache.iterdir() if path.name != ".lock")


@pytest.fixture
def binary(built: Path, tmp_path: Path) -> Binary:
    folder = tmp_path / "empty"
    folder.mkdir()
    os.link(built, folder / "agent") if same_disk(built, folder) else copy(built, folder / "agent")
    return Binary(folder / "agent", tmp_path / "cache")


def same_disk(first: Path, second: Path) -> bool:
    return first.stat().st_dev == second.stat().st_dev


def copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    target.chmod(0o755)
