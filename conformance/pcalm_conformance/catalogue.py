"""Writes the catalogue of requirements into conformance/README.md: python -m pcalm_conformance.catalogue"""

from __future__ import annotations

from pathlib import Path

from pcalm_conformance.files import write_text
from pcalm_conformance.requirements import CHAPTERS, REQUIREMENTS

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"


def render() -> str:
    """The catalogue as Markdown, chapter by chapter."""
    lines = []
    for chapter in CHAPTERS.values():
        lines += [f"### {chapter.replace(' · ', '. ')}", ""]
        for requirement in REQUIREMENTS.values():
            if requirement.chapter != chapter:
                continue
            limits = ", ".join(f"{name} = {value:g}" for name, value in requirement.limits.items())
            lines += [
                f"**{requirement.id}** {requirement.claim}  ",
                f"*Source:* {requirement.source}. *Needs:* {requirement.needs}. *Bound:* {requirement.bound}"
                + (f" ({limits})" if limits else "")
                + f"; {requirement.origin}."
                + (f" *Builds on:* {', '.join(requirement.builds_on)}." if requirement.builds_on else ""),
                "",
            ]
    return "\n".join(lines)


def updated(text: str) -> str:
    """The README with the present catalogue between its markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"


def main() -> None:
    write_text(README, updated(README.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
