"""`make peers`: what it would run, and that a library which cannot be installed is named and holds up nobody. The
network is never asked: a program that stands in for Python makes the environments."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from reports import peers
from reports.peers import Peer

ROOT = Path(__file__).parents[2]


def test_every_adapter_says_what_it_does_and_where_it_deviates() -> None:
    found = peers.peers()
    assert list(found) == ["fabricpc", "jpc", "pcx"]
    for peer in found.values():
        assert peer.does.startswith(peer.name)
        assert peer.deviates
        assert peer.requirements.is_file()


def test_the_plan_is_an_environment_and_a_run_of_the_suite_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["--plan", "--python", "some-python", "fabricpc", "jpc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    runs = [line for line in lines[:-1] if "pcalm_conformance" in line]
    assert [line.split("--implementation ")[1].split()[0] for line in runs] == [
        "fabricpc_adapter:impl",
        "jpc_adapter:impl",
    ]
    assert lines[-1].split()[3] == "compare"
    for name in ("fabricpc", "jpc"):
        assert f"--python {name}_adapter=" in lines[-1]
        assert f"--report {name}=" in lines[-1]
    for name, line in zip(("fabricpc", "jpc"), runs, strict=True):
        assert f".venv-peers/{name}/bin/python" in line
        assert f"reports/data/peers/{name}.json" in line


def test_a_library_that_is_not_there_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        peers.main(["--plan", "fabric"])
    assert "no such library: fabric; there are fabricpc, jpc, pcx" in capsys.readouterr().err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two libraries with adapters, of which `broken` asks for what cannot be installed."""
    for name in ("broken", "sound"):
        (tmp_path / "adapters").mkdir(exist_ok=True)
        (tmp_path / "adapters" / f"{name}.txt").write_text(f"{name}==1.0\n")
        (tmp_path / "adapters" / f"{name}_adapter.py").write_text(
            f'"""{name} 1.0: all.\n\nDeviates in: nothing."""\n'
            "from pcalm_conformance.implementations.numpy_loop import NumpyLoop\n"
            f"impl = NumpyLoop()\nimpl.name = '{name}'\n"
        )
    monkeypatch.setattr(peers, "ADAPTERS", tmp_path / "adapters")
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "environments")
    return tmp_path


def stand_in(path: Path) -> str:
    """A program that makes environments whose Python is this one, but for pip, which knows nothing called broken."""
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  *" pip "*broken*) echo "no such release" >&2; exit 1 ;;\n'
        '  *" pip "*) exit 0 ;;\n'
        '  *" venv "*) for place; do :; done; mkdir -p "$place/bin"; cp "$0" "$place/bin/python" ;;\n'
        f'  *) exec "{sys.executable}" "$@" ;;\n'
        "esac\n"
    )
    path.chmod(0o755)
    return str(path)


def test_what_cannot_be_installed_is_named_and_the_others_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = peers.suite

    def one_requirement(peer: Peer, output: Path, quick: bool) -> list[str]:
        return [*ran(peer, output, quick), "--requirement", "MOD-1", "-p", "no:cacheprovider"]

    def recorded(ran: Sequence[Peer], output: Path) -> list[str]:
        """Ours are left out: a stand-in writes what a comparison would leave, and what one of another day has left."""
        records = place / "compared" / "records"
        records.mkdir(parents=True, exist_ok=True)
        for name in ("sound", "broken"):
            record = {"comparison": "suite", "implementation": name, "spec": f"{name}_adapter:impl"}
            (records / f"{name}-suite.json").write_text(json.dumps(record))
        return [sys.executable, "-c", ""]

    monkeypatch.setattr(peers, "suite", one_requirement)
    monkeypatch.setattr(peers, "comparison", recorded)
    monkeypatch.setattr(peers, "COMPARISON", place / "compared")
    output = place / "data"
    output.mkdir()
    (output / "broken.json").write_text("of yesterday")
    python = stand_in(place / "python")
    assert peers.main(["--quick", "--python", python, "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "broken: cannot be installed: " in said
    assert "sound: the suite ran, and nothing failed" in said
    assert sorted(file.name for file in output.iterdir()) == ["comparison", "sound.json"]
    assert [file.name for file in (output / "comparison").iterdir()] == ["sound-suite.json"]
    assert peers.installation(peers.peers()["sound"], python) == []  # a second run installs nothing
    (place / "adapters" / "sound.txt").write_text("sound==1.1\n")
    assert len(peers.installation(peers.peers()["sound"], python)) == 2
    assert peers.main(["--quick", "--python", python, "--output", str(output), "broken"]) == 1  # nothing ran
