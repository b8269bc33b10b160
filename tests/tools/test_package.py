"""`make package` finds what is wrong with an archive, and what its environments must hold."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.package import Defect, check_sdist, check_tag, check_wheel, requirements

SOURCES = ("pcalm/__init__.py", "pcalm/py.typed")


def wheel(place: Path, *names: str) -> Path:
    with zipfile.ZipFile(place / "pcalm-1.0-py3-none-any.whl", "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return place / "pcalm-1.0-py3-none-any.whl"


LICENCE = "pcalm-1.0.dist-info/licenses/LICENSE"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((*SOURCES, LICENCE, "reports/__init__.py"), "lacks nothing, and has ['reports/__init__.py'] beyond that"),
        ((SOURCES[0], LICENCE), "lacks ['pcalm/py.typed'], and has nothing beyond"),
        (SOURCES, "has no licence"),
    ],
)
def test_wheel_with_a_defect(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    check_wheel(wheel(tmp_path, *SOURCES, LICENCE, "pcalm-1.0.dist-info/METADATA"), SOURCES)
    with pytest.raises(Defect, match=re.escape(message)):
        check_wheel(wheel(tmp_path, *names), SOURCES)


def test_source_distribution_lacks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with tarfile.open(tmp_path / "pcalm-1.0.tar.gz", "w:gz") as archive:
        for name in ("PKG-INFO", "setup.cfg", "pcalm.egg-info/PKG-INFO", "tests/test_one.py"):
            archive.add(tmp_path / "file", f"pcalm-1.0/{name}")
    check_sdist(tmp_path / "pcalm-1.0.tar.gz", ["tests/test_one.py"])
    with pytest.raises(Defect, match=r"lacks \['tests/test_two.py'\].*MANIFEST.in"):
        check_sdist(tmp_path / "pcalm-1.0.tar.gz", ["tests/test_one.py", "tests/test_two.py"])


def test_requirements_are_followed_through_extras(tmp_path: Path) -> None:
    """Distributions on a path of their own, so that what is installed here plays no part."""
    about = {
        "a": "Requires-Dist: b[more]\nRequires-Dist: unasked; extra == 'other'\nProvides-Extra: other\n",
        "b": "Requires-Dist: c; extra == 'more'\nRequires-Dist: never; python_version < '3'\nProvides-Extra: more\n",
        "c": "Requires-Dist: a\n",
    }
    for name, lines in about.items():
        (tmp_path / f"{name}-1.dist-info").mkdir()
        (tmp_path / f"{name}-1.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{lines}"
        )
    assert sorted(found.name for found in requirements("a", [tmp_path])) == ["a", "b", "c"]
    with pytest.raises(Defect, match=r"unasked.* is not installed"):
        requirements("a[other]", [tmp_path])


def test_tag_is_the_newest_release_and_dated() -> None:
    text = "# Changelog\n\n## [1.1.0] - 2026-12-01\n\n## [1.0.0] - 2026-11-01\n"
    check_tag("v1.1.0", text)
    for tag, changelog in (("v1.0.0", text), ("1.1.0", text), ("v1.1.0", text.replace("2026-12-01", "Unreleased"))):
        with pytest.raises(Defect, match="newest, got"):
            check_tag(tag, changelog)
    with pytest.raises(Defect, match="newest, got 'none'"):
        check_tag("v1.0.0", "")
