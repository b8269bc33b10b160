"""Other people's libraries under the suite and beside our engines, behind `make peers`.

    python -m reports.peers [NAME ...] [--plan] [--quick] [--python PROGRAM] [--output reports/data/peers]

Every library of conformance/peers gets an environment of its own in .venv-peers, with the releases of its NAME.txt,
since not all of them agree on one. There its adapter is held against the suite; then all of them are compared with our
engines. A library that cannot be installed, or whose adapter does not load, is named at the end and has no record; the
others go on. `make report` makes the page of implementations from what is left in OUTPUT.
"""

from __future__ import annotations

import argparse
import ast
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
ADAPTERS = ROOT / "conformance" / "peers"
ENVIRONMENTS = ROOT / ".venv-peers"
OUTPUT = HERE / "data" / "peers"
COMPARISON = ROOT / "reports" / "latest" / "peers"  # where one that was broken off is gone on with
OURS = ("pcalm.engines.adapter:cpu", "pcalm.engines.adapter:torch_engine")
SUFFIX = "_adapter"


@dataclass(frozen=True)
class Peer:
    """A library and its adapter.

    Attributes:
        name: the library's, in `import` and in the tables.
        does: what it computes and by which of its calls.
        deviates: in what its own way differs from the protocol, and what the adapter does about it.
    """

    name: str
    does: str
    deviates: str

    @property
    def requirements(self) -> Path:
        return ADAPTERS / f"{self.name}.txt"

    @property
    def module(self) -> str:
        return f"{self.name}{SUFFIX}"

    @property
    def implementation(self) -> str:
        return f"{self.module}:impl"

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def report(self, output: Path) -> Path:
        return output / f"{self.name}.json"


def peers() -> dict[str, Peer]:
    """By name, as the first lines of their adapters describe them."""
    found = {}
    for path in sorted(ADAPTERS.glob(f"*{SUFFIX}.py")):
        name = path.stem.removesuffix(SUFFIX)
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        does, _, deviates = " ".join(said.split()).partition(" Deviates in: ")
        found[name] = Peer(name, does, deviates)
    return found


Command = list[str]


def installation(peer: Peer, python: str) -> list[Command]:
    """What makes its environment; nothing, where that has the releases of its requirements already."""
    installed = peer.environment / "requirements.txt"
    wanted = peer.requirements.read_bytes()
    if installed.is_file() and installed.read_bytes() == wanted:
        return []
    pip = [str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return [
        [python, "-m", "venv", "--clear", str(peer.environment)],
        [*pip, "--requirement", str(peer.requirements)],
    ]


def suite(peer: Peer, output: Path, quick: bool) -> Command:
    """What holds its adapter against the suite, in the folder of the adapters."""
    run = [sys.executable, "-m", "pcalm_conformance", "--implementation", peer.implementation]
    level = ["--quick"] if quick else []
    return [*run, *level, "--python", str(peer.python), "--report", str(peer.report(output)), "-q", "--no-summary"]


def comparison(ran: Sequence[Peer], output: Path) -> Command:
    """What compares the libraries whose reports are there with our engines."""
    options = [("--implementation", name) for name in (*OURS, *(peer.implementation for peer in ran))]
    options += [("--python", f"{peer.module}={peer.python}") for peer in ran]
    options += [("--report", f"{peer.name}={peer.report(output)}") for peer in ran]
    words = [word for pair in options for word in pair]
    return [sys.executable, "-m", "pcalm_conformance", "compare", *words, "--train", "--output", str(COMPARISON)]


def compare(ran: Sequence[Peer], output: Path) -> int:
    """The exit status of the comparison, whose records take the place of those of another day."""
    status = run(comparison(ran, output.absolute()), ADAPTERS)
    kept = output / "comparison"
    kept.mkdir(exist_ok=True)
    for old in kept.glob("*.json"):
        old.unlink()
    asked = {*OURS, *(peer.implementation for peer in ran)}
    for record in (COMPARISON / "records").glob("*.json"):
        if json.loads(record.read_text(encoding="utf-8"))["spec"] in asked:
            shutil.copy(record, kept)
    return status


def make(chosen: Sequence[Peer], python: str, output: Path, quick: bool) -> dict[str, str]:
    """Installs and runs all of them; what became of each, in words: "" where the suite ran and nothing failed."""
    output.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    for peer in chosen:
        peer.report(output).unlink(missing_ok=True)  # of another day
        steps = installation(peer, python)
        failed = next((step for step in steps if run(step)), None)
        if failed is not None:
            outcomes[peer.name] = f"cannot be installed: {shlex.join(failed)} failed, its output is above"
            continue
        shutil.copy(peer.requirements, peer.environment / "requirements.txt")
        status = run(suite(peer, output.absolute(), quick), ADAPTERS)
        if not peer.report(output).is_file():
            outcomes[peer.name] = f"the suite left no report (exit status {status}), its output is above"
        else:
            outcomes[peer.name] = f"the suite's exit status is {status}" if status else ""
    return outcomes


def run(command: Command, place: Path = ROOT) -> int:
    print(f"$ {shlex.join(command)}", flush=True)
    try:
        return subprocess.run(command, cwd=place, check=False).returncode
    except OSError as error:
        print(error, flush=True)
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    known = peers()
    parser = argparse.ArgumentParser(prog="python -m reports.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; without any, all of them")
    parser.add_argument("--plan", action="store_true", help="only say what would be run")
    parser.add_argument("--quick", action="store_true", help="the suite's quick level")
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM", help="what makes the environments")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the records")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - known.keys()):
        parser.error(f"no such library: {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in given.names or known]
    if given.plan:
        for peer in chosen:
            for command in [*installation(peer, given.python), suite(peer, given.output, given.quick)]:
                print(shlex.join(command))
        print(shlex.join(comparison(chosen, given.output)))
        return 0
    outcomes = make(chosen, given.python, given.output, given.quick)
    ran = [known[name] for name in outcomes if known[name].report(given.output).is_file()]
    status = compare(ran, given.output) if ran else 1
    for name, outcome in outcomes.items():
        print(f"{name}: {outcome or 'the suite ran, and nothing failed'}")
    return int(status != 0 or any(outcomes[peer.name] for peer in ran))


if __name__ == "__main__":
    sys.exit(main())
