"""What mkdocs does besides: pages from files that lie elsewhere in the repository, and checks that fail the build.

A page of SHARED is the file itself, not a copy. Its links are those of the repository; here they lead to the page that
shows the same file, and a link to a file that no page shows becomes its text. One to no file at all stays as it is,
and the strict build fails on it.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pcalm_conformance.protocol
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import pcalm

ROOT = Path(__file__).resolve().parents[1]
SHARED = {
    "check.md": "conformance/README.md",
    "results.md": "reports/results.md",
    "implementations.md": "reports/implementations.md",
    "speed.md": "reports/performance.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
FIGURES = "reports/figures"
READABLE = re.compile(r'src="figures/([^"/]+\.svg)"')
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for page, path in SHARED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for figure in sorted((ROOT / FIGURES).glob("*.svg")):
        files.append(File.generated(config, f"figures/{figure.name}", abs_src_path=str(figure)))
    return files


def on_page_content(html: str, page: Any, **_: Any) -> str:
    return READABLE.sub(least_width, html)


def least_width(found: re.Match[str]) -> str:
    """A figure's place in a page, with the least width at which its labels can be read: three quarters of its own."""
    svg = (ROOT / FIGURES / found[1]).read_text(encoding="utf-8")
    points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    pixels = 0.75 * float(points[1]) * 96 / 72 if points else 0
    return f'{found[0]} style="--least: {pixels:.0f}px"'


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    path = SHARED.get(page.file.src_uri)
    return markdown if path is None else linked(markdown, path)


def linked(markdown: str, path: str) -> str:
    """The text of a file of the repository with its links as the site has them."""
    places = {shown: page for page, shown in SHARED.items()} | {"README.md": "index.md"}

    def replace(found: re.Match[str]) -> str:
        image, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target:
            return found[0]
        whole = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if whole.startswith(f"{FIGURES}/"):
            return f"{image}[{text}](figures/{os.path.basename(whole)})"
        if whole in places:
            return f"{image}[{text}]({places[whole]}{anchor})"
        return text if (ROOT / whole).exists() and not image else found[0]

    return LINK.sub(replace, markdown)


def on_post_build(config: Any) -> None:
    site = Path(config.site_dir)
    shown = inventory(site / "objects.inv")
    homes = {name: f"{value.__module__}.{value.__qualname__}" for name, value in public().items()}
    wrong = [f"{name} is on no page of docs/api" for name, home in homes.items() if not {name, home} & shown]
    wrong += undocumented()
    for page in sorted(site.rglob("*.html")):
        wrong += [f"{page.relative_to(site)} loads {url}" for url in loaded(page.read_text(encoding="utf-8"))]
    if wrong:
        raise PluginError("\n".join(wrong))


def inventory(path: Path) -> set[str]:
    """The names in an inventory of Sphinx' form: four lines of text, then compressed lines that begin with a name."""
    content = path.read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(content).decode().splitlines()}


def loaded(html: str) -> list[str]:
    """What a page fetches from somewhere else when it is looked at."""
    return re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?((?:https?:)?//[^\">\s]+)", html) + re.findall(
        r"<link\b(?=[^>]*\brel=\"?(?:stylesheet|preload|preconnect|icon))[^>]*\bhref=\"?((?:https?:)?//[^\">\s]+)", html
    )


def public() -> dict[str, Any]:
    """What other people's programs call: the public names of `pcalm`, and all that an adapter sees."""
    protocol = pcalm_conformance.protocol
    defined = {name: value for name, value in vars(protocol).items() if defined_in(value, protocol)}
    return {f"pcalm.{name}": getattr(pcalm, name) for name in pcalm.__all__} | {
        f"{protocol.__name__}.{name}": value for name, value in defined.items()
    }


def defined_in(value: Any, module: ModuleType) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__


def undocumented() -> list[str]:
    """What is said nowhere, in a sentence each: of every public object, its public methods, and its fields."""
    return [sentence for name, value in public().items() for sentence in unsaid(name, value)]


def unsaid(name: str, value: Any) -> list[str]:
    """What a class or function leaves unsaid of itself, its own public methods and its fields.

    The text that `dataclass` makes of a signature says nothing, nor does one that a class inherits.
    """
    text = inspect.cleandoc(value.__dict__.get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or "")
    if not text or text.startswith(f"{value.__name__}("):
        return [f"{name} has no docstring"]
    if not inspect.isclass(value):
        return []
    methods = {key: each for key, each in vars(value).items() if inspect.isfunction(each) and not key.startswith("_")}
    found = [f"{name}.{key} has no docstring" for key in methods if not inspect.getdoc(getattr(value, key))]
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        found += [
            f"{name} does not say what {field} is" for field in fields if not re.search(rf"^ *{field}\b", text, re.M)
        ]
    return found
