import json

import pytest

from agent import __version__, build


def test_from_source_the_short_name_is_the_version_alone() -> None:
    assert build.short_name() == __version__


@pytest.mark.parametrize(
    ("commit", "expected"),
    [
        ("ba23ed3f00ba", "0.2.0+ba23ed3"),
        ("ba23ed3f00ba-dirty", "0.2.0+ba23ed3-dirty"),
        ("unknown", "0.2.0+unknown"),
    ],
)
def test_the_short_name_of_a_binary_tells_builds_of_one_version_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path, commit: str, expected: str
) -> None:
    (tmp_path / "build.json").write_text(json.dumps({"version": "0.2.0", "commit": commit, "glibc": "2.31"}))
    monkeypatch.setattr(build, "is_frozen", lambda: True)
    monkeypatch.setattr(build, "resource_path", lambda name: tmp_path / name)
    assert build.short_name() == expected
