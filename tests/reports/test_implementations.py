"""The page of other people's libraries: what ran is told from what could not be run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pcalm.report import results
from reports import implementations


def entry(requirement: str, verdict: str) -> dict[str, Any]:
    about = {"chapter": f"chapter of {requirement}", "claim": "", "what": "", "relation": "", "follows_from": []}
    numbers = {"figure": None, "bound": None, "cases": 1, "left_out": 1, "seconds": 1.0}
    return {"requirement": requirement, "implementation": "pcx", "verdict": verdict, **about, **numbers}


def test_what_ran_is_told_from_what_could_not_be_run(tmp_path: Path) -> None:
    verdicts = ("passed", "passed in part", "failed", "unsupported", "not run")
    report = {
        "schema": 2,
        "complete": True,
        "level": "quick",
        "versions": {"pcx": "0.6.3"},
        "implementations": ["pcx"],
        "records": [entry(f"R-{n}", verdict) for n, verdict in enumerate(verdicts)],
    }
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "pcx.json").write_text(json.dumps(report))
    (tmp_path / "ours.json").write_text(json.dumps(report | {"implementations": ["reference"]}))
    ours, theirs = implementations.apart(results.load(tmp_path))
    assert [one["implementations"] for one in ours.conformance] == [["reference"]]
    assert len(ours.sources) == len(theirs.sources) == 1
    text = " ".join(implementations.document(theirs).split())
    assert "It meets 2 of the 3 requirements that ran at the level quick; 1 failed. 1 of them ran in part only" in text
    assert "with pcx 0.6.3." in text
    assert text.count("**No record:**") == 2  # fabricpc's and jpc's
    assert "reference" not in text


def test_the_comparison_is_shown_with_the_machine(tmp_path: Path) -> None:
    counts = {"met": 29, "failed": 0, "in part": 18, "unsupported": 34, "not run": 4}
    record = {
        "schema": 1,
        "comparison": "suite",
        "implementation": "pcx",
        "spec": "pcx_adapter:impl",
        "key": "0123",
        "machine": {"processor": "Abacus", "cores": 2, "system": "Linux"},
        "versions": {"pcx": "0.6.3"},
        "settings": {"threads": 1, "activation": "tanh", "batch": 64, "dtype": "float32"},
        "level": "quick",
        "counts": {"1 · model": counts, "all": counts},
        "missing": "",
        "report": "pcx.json",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    for folder in ("peers/comparison", "ours"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "pcx-suite.json").write_text(json.dumps(record), encoding="utf-8")
    ours, theirs = implementations.apart(results.load(tmp_path))
    assert len(ours.comparisons) == len(theirs.comparisons) == 1
    text = implementations.document(theirs)
    assert "tanh, B = 64, T = 2L, float32, one thread each;\nAbacus, 2 cores." in text
    assert "| `pcx`" in text
