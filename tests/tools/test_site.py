"""The site builds without a warning, and the checks that are to fail its build do."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the site is built with the packages of the extra `docs`")

from tools import site


def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=site.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "PC-ALM, 2L" in page  # the README's table
    assert (tmp_path / "site" / "figures" / "credit-32.svg").is_file()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[map](../CONTRIBUTING.md)", "[map](contributing.md)"),
        ("[rules](../CONTRIBUTING.md#rules-of-the-house)", "[rules](contributing.md#rules-of-the-house)"),
        ("![picture](figures/accuracy.svg)", "![picture](figures/accuracy.svg)"),
        ("the records in [data/](data/).", "the records in data/."),
        ("[elsewhere](https://arxiv.org/abs/2605.31022)", "[elsewhere](https://arxiv.org/abs/2605.31022)"),
        ("[nowhere](no_such_file.md)", "[nowhere](no_such_file.md)"),
        ("[here](#results)", "[here](#results)"),
    ],
)
def test_links_of_a_file_that_a_page_shows(before: str, after: str) -> None:
    assert site.linked(before, "reports/results.md") == after


def test_a_figure_is_never_too_small_to_read() -> None:
    html = site.on_page_content('<p><img alt="a" src="figures/credit-32.svg" /></p>', None)
    found = re.search(r'src="figures/credit-32.svg" style="--least: (\d+)px"', html)
    assert found is not None
    # Its labels are of 9 points, 12 pixels, of which three quarters are left.
    (width,) = re.findall(r'<svg [^>]*?width="([\d.]+)pt"', (site.ROOT / site.FIGURES / "credit-32.svg").read_text())
    assert int(found[1]) == round(float(width))
    assert site.on_page_content("<p>no figure</p>", None) == "<p>no figure</p>"


class Silent:
    pass


class Documented:
    """Says what it is."""

    def method(self) -> None: ...


@dataclass
class Fields:
    """Two numbers.

    Attributes:
        told: the first.
    """

    told: int
    untold: int


@dataclass
class Generated:
    told: int


def silent() -> None: ...


def test_what_a_public_object_leaves_unsaid() -> None:
    assert site.unsaid("x", silent) == site.unsaid("x", Silent) == site.unsaid("x", Generated) == ["x has no docstring"]
    assert site.unsaid("x", Documented) == ["x.method has no docstring"]
    assert site.unsaid("x", Fields) == ["x does not say what untold is"]
    assert site.undocumented() == []


def test_what_a_page_fetches_from_elsewhere() -> None:
    """Links that a reader may follow are no requests."""
    own = '<script src="assets/a.js"></script><a href="https://arxiv.org/">paper</a><link rel="canonical" href="https://x/">'
    assert site.loaded(own) == []
    for foreign in (
        '<script src="https://cdn/a.js">',
        "<img src=//cdn/a.png>",
        '<link rel="stylesheet" href="http://cdn/a.css">',
    ):
        assert len(site.loaded(own + foreign)) == 1
