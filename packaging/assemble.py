"""Makes one file of a PyInstaller onedir: launcher.sh, then the onedir as a gzipped tar.

    python packaging/assemble.py ONEDIR OUTPUT

gzip because every host has it; xz would save a fifth of the size and cost a first run twice the time, where it is
installed at all. The same onedir gives the same bytes: names are sorted, times and owners fixed.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import licences  # noqa: E402  (beside this file)

from agent import __version__  # noqa: E402
from agent.build import git_commit  # noqa: E402

ORIGINS = HERE.parent / "build/work/agent/origins.json"


def main(onedir: Path, output: Path) -> None:
    glibc = needed_glibc(onedir)
    commit = git_commit()
    build = {"version": __version__, "commit": commit, "glibc": f"2.{glibc}"}
    (onedir / "_internal/build.json").write_text(json.dumps(build))
    (onedir / "_internal/licences.txt").write_text(licences.collect(ORIGINS), encoding="utf-8")

    files = sorted(path for path in onedir.rglob("*") if path.is_file())
    archive = tar(onedir, files)
    values = {
        "VERSION": __version__,
        "COMMIT": commit,
        "HASH": hashlib.sha256(archive).hexdigest()[:20],
        "SIZE_MB": str(len(archive) // 1_000_000 + 5),
        "FILES": file_list(onedir, files),
        "MACHINE": platform.machine(),
        "GLIBC": f"2.{glibc}",
        "GLIBC_MINOR": str(glibc),
    }
    payload = gzip.compress(archive, 9, mtime=0)
    write(output, launcher(values) + payload)
    print(
        f"{output}: {output.stat().st_size:,} bytes, {len(files)} files of {len(archive):,} bytes within, "
        f"needs glibc 2.{glibc}",
        file=sys.stderr,
    )


def needed_glibc(onedir: Path) -> int:
    """The highest minor version of glibc that any ELF file of the payload asks for."""
    highest = 0
    for path in onedir.rglob("*"):
        if path.is_file() and path.open("rb").read(4) == b"\x7fELF":
            listing = subprocess.run(["objdump", "-p", str(path)], capture_output=True, text=True, check=True)
            highest = max([highest, *(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", listing.stdout))])
    return highest


def tar(onedir: Path, files: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders = sorted({parent for path in files for parent in path.relative_to(onedir).parents} - {Path()})
        for name in folders:
            archive.addfile(entry(str(name), tarfile.DIRTYPE, 0o755))
        for path in files:
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            member = entry(str(path.relative_to(onedir)), tarfile.REGTYPE, mode)
            member.size = path.stat().st_size  # links are followed: the copy needs none
            with path.open("rb") as content:
                archive.addfile(member, content)
    return buffer.getvalue()


def entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = kind, mode, 946684800
    return member


def file_list(onedir: Path, files: list[Path]) -> str:
    """Every file that is not empty, as words of the shell: the launcher looks whether they are all there."""
    names = [str(path.relative_to(onedir)) for path in files if path.stat().st_size]
    odd = [name for name in names if not re.fullmatch(r"[\w./+-]+", name)]
    if odd:
        sys.exit(f"assemble: names that the launcher's shell would split: {odd}")
    return "\n".join(names)


def launcher(values: dict[str, str]) -> bytes:
    text = (HERE / "launcher.sh").read_text(encoding="utf-8")
    text = re.sub(r"^ *#(?!!).*\n", "", text, flags=re.M)  # comments stay in the source
    text = re.sub(r"@([A-Z_]+)@", lambda match: values.get(match[1], match[0]), text)
    size = 0
    while True:  # the offset's own digits count
        script = text.replace("@OFFSET@", str(size + 1)).encode()
        if len(script) == size:
            return script
        size = len(script)


def write(output: Path, content: bytes) -> None:
    output.parent.mkdir(exist_ok=True)
    fresh = output.with_name(output.name + ".new")
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    fresh.replace(output)  # a running agent goes on with the old file


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
