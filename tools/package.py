"""Both distributions as a stranger gets them: built, checked, installed and used.

    python -m tools.package                 what `make package` runs; leaves them in dist/
    python -m tools.package --tag v0.1.0    only says whether CHANGELOG.md has a release of that tag, with its date

1. The files that git knows of are copied, and from them the source distributions are built, and from those the wheels.
2. The source distribution of `pcalm` holds the whole repository, that of `pcalm-conformance` the whole of its folder,
   and a wheel one top-level package: all files of it, the licence, and nothing else. `twine check --strict` reads both.
3. Every wheel is installed into a fresh environment that has what its metadata asks for and nothing else, with no
   checkout in reach, and is used there from an empty directory.
4. What action.yml runs is run, with the suite in one of these environments and the adapter in another.
5. The source distributions are unpacked, and tests of each run.

Nothing is downloaded: the environments link the dependencies that are installed here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--depth", "4", "--width", "8", "--lr", "1e-2")
ADAPTER = "conformance/pcalm_conformance/implementations/numpy_loop.py"
GRID = "--widths 8 --depths 4 --methods bp,pcalm --activations relu --seeds 0 --lr 1e-2 --workers 1"
# What is run of an unpacked source distribution, besides collecting all: what needs files from all over it.
OUR_TESTS = ("tests/test_dynamics.py", "tests/test_network.py", "tests/test_repository.py", "tests/reports")
SUITE_TESTS = ("tests/test_catalogue.py", "tests/test_oracle.py")


class Defect(Exception):
    """What is wrong with a distribution, in a sentence."""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """The standard output of a command that knows nothing of this checkout.

    Raises:
        Defect: it failed; with all that it printed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    environment |= {"OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    shown = " ".join(str(part) for part in command)
    if done.returncode:
        raise Defect(f"in {cwd}: {shown}\n{done.stdout}{done.stderr}ended with status {done.returncode}")
    return done.stdout


def files_of_checkout() -> list[str]:
    """What git tracks or would add, by its path below the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        raise Defect(f"make package builds what git lists, and git says: {listed.stderr.strip()}")
    return sorted(name for name in set(listed.stdout.split("\0")) if (ROOT / name).is_file())


def build(source: Path, output: Path) -> tuple[Path, Path]:
    """The source distribution of a folder, and the wheel that is made from it."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, source, cwd=output)
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def check_sdist(sdist: Path, sources: Iterable[str]) -> None:
    """All of `sources`, and besides them what setuptools writes."""
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or name.partition("/")[0].endswith(".egg-info")}
    compare(sdist.name, held - made, set(sources), "MANIFEST.in")


def check_wheel(wheel: Path, sources: Iterable[str]) -> None:
    """All of `sources`, which lie in one package, and the metadata with the licence."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    about = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    described = {name for name in held if name.startswith(f"{about}/")}
    if f"{about}/licenses/LICENSE" not in described:
        raise Defect(f"{wheel.name} has no licence")
    compare(wheel.name, held - described, set(sources), "package-data in its pyproject.toml")


def compare(archive: str, held: set[str], wanted: set[str], remedy: str) -> None:
    if held != wanted:
        lacks, more = sorted(wanted - held), sorted(held - wanted)
        raise Defect(f"{archive} lacks {lacks or 'nothing'}, and has {more or 'nothing'} beyond that; see {remedy}")


def requirements(text: str, places: Sequence[Path]) -> list[metadata.Distribution]:
    """What is asked for, and all that this asks for in turn, each found in the first place that has it."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text)]
    while todo:
        requirement = todo.pop()
        extras = frozenset(requirement.extras)
        if (requirement.name, extras) in seen:
            continue
        seen.add((requirement.name, extras))
        held = next(iter(metadata.distributions(name=requirement.name, path=[str(place) for place in places])), None)
        if held is None:
            raise Defect(f"{requirement} is not installed; make clean, then make package, installs it")
        found[held.name] = held
        asked = ("", *extras)
        children = map(Requirement, held.requires or ())
        todo += [one for one in children if not one.marker or any(one.marker.evaluate({"extra": e}) for e in asked)]
    return list(found.values())


class Environment:
    """A fresh environment with wheels, with what their metadata asks for, and with nothing else.

    Args:
        place: where to make it.
        wheels: what to install, with the extras of each.
    """

    def __init__(self, place: Path, wheels: dict[Path, str]) -> None:
        venv.EnvBuilder(symlinks=True).create(place)
        self.bin = place / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        found = run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place)
        self.packages = Path(found.strip())
        self._pip("install", "--quiet", "--no-deps", "--no-index", *wheels)
        places = [self.packages, *map(Path, (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))]
        for wheel, extras in wheels.items():
            for distribution in requirements(wheel.name.split("-")[0] + extras, places):
                self._link(distribution)
        self._pip("check")

    def _pip(self, *arguments: str | Path) -> None:
        run(sys.executable, "-m", "pip", "--python", self.python, *arguments, cwd=self.packages)

    def _link(self, distribution: metadata.Distribution) -> None:
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if file.parts[0] != "..":
                source, target = Path(str(distribution.locate_file(file.parts[0]))), self.packages / file.parts[0]
            elif source.resolve().parent == Path(sysconfig.get_path("scripts")).resolve() and is_program(source):
                target = self.bin / source.name
            else:
                continue
            if file.parts[0] != "__pycache__" and not target.exists():
                target.symlink_to(source.resolve())

    def imports(self, *names: str) -> list[str]:
        """Which of the packages can be imported."""
        code = "import importlib.util, sys; print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
        return run(self.python, "-c", code, *names, cwd=self.packages.parent).split()


def is_program(path: Path) -> bool:
    """Whether it runs by itself: a script begins with the Python of the environment that it was installed into."""
    with path.open("rb") as file:
        return file.read(2) != b"#!"


def python_example(document: Path) -> str:
    """The first block of Python in a document."""
    found = re.search(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if found is None:
        raise Defect(f"{document.name} has no example in Python")
    return found[1]


def use_pcalm(environment: Environment, place: Path) -> None:
    """The command line and the README's example, in an empty directory."""
    if others := environment.imports("benchmarks", "conformance", "pcalm_conformance", "reports", "tests", "tools"):
        raise Defect(f"beside pcalm, {others} can be imported")
    program = environment.bin / "pcalm"
    run(program, "--help", cwd=place)
    run(program, "doctor", cwd=place)
    for method in ("bp", "pc", "pcalm"):
        run(program, "train", "--dataset", "digits", "--method", method, *SMALL, "--output", method, cwd=place)
    run(program, "grid", "--output", "results", *GRID.split(), cwd=place)
    run(program, "report", "--results", "results", "--output", "page", cwd=place)
    run(environment.python, "-c", python_example(ROOT / "README.md"), cwd=place)
    for name in ("bp/summary.json", "pc/config.json", "pcalm/metrics.csv", "page/index.html"):
        if not (place / name).is_file():
            raise Defect(f"pcalm left no {name}")


def adapter_in(place: Path) -> str:
    """Writes an adapter into a package called `pcalm`, as many ports are; gives what --implementation takes."""
    (place / "pcalm").mkdir()
    shutil.copy(ROOT / ADAPTER, place / "pcalm" / "adapter.py")
    return "pcalm.adapter:impl"


def use_suite(environment: Environment, place: Path) -> None:
    """The suite on an adapter in an otherwise empty directory, with neither torch nor our `pcalm`."""
    if others := environment.imports("pcalm", "torch", "jax", "benchmarks", "conformance", "reports", "tests", "tools"):
        raise Defect(f"beside pcalm_conformance, {others} can be imported")
    shutil.copy(ROOT / ADAPTER, place / "my_adapter.py")
    program = environment.bin / "pcalm-conformance"
    run(program, "--help", cwd=place)
    run(program, "--implementation", "my_adapter:impl", "--quick", "-n", "2", "-p", "no:cacheprovider", cwd=place)
    run(program, "--implementation", adapter_in(place), "--quick", "--requirement", "MOD-1", cwd=place)


def use_action(caller: Environment, runner: Path, place: Path) -> None:
    """What action.yml runs, for a caller whose python is `caller`'s, once the suite is installed below `runner`."""
    inputs = {"IMPLEMENTATIONS": adapter_in(place), "LEVEL": "quick", "XFAILS": "", "ARGUMENTS": "--requirement MOD"}
    inputs["COMPARE"] = "--cells 4x3 --batch 2 --rounds 1"
    pull_request = {"COMMENT": "true", "PULL_REQUEST": "", "GITHUB_STEP_SUMMARY": str(place / "summary.md")}
    paths = {"RUNNER_TEMP": str(runner), "PATH": f"{caller.bin}{os.pathsep}{os.environ['PATH']}"}
    run("bash", ROOT / "tools" / "action.sh", cwd=place, **inputs, **pull_request, **paths)
    summary = (place / "summary.md").read_text(encoding="utf-8")
    if not all(words in summary for words in ("numpy-loop", "## Conformance", "## Comparison")):
        raise Defect("action.yml wrote no table")


def unpack(sdist: Path, place: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 have none
        archive.extractall(place)
    (folder,) = place.iterdir()
    return folder


def test_sources(environment: Environment, place: Path, *tests: str) -> str:
    """Collects all tests of an unpacked source distribution and runs some; gives the closing line."""
    pytest: Sequence[str | Path] = (environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    run(*pytest, "--collect-only", *sorted({test.partition("/")[0] for test in tests}), cwd=place)
    return run(*pytest, "-n", "2", *tests, cwd=place).splitlines()[-1]


def check_tag(tag: str, changelog: str) -> None:
    """Whether the tag is that of the newest section of CHANGELOG.md, and this has a date."""
    newest = re.search(r"^## \[(.*?)\] - (.*)$", changelog, re.MULTILINE)
    if newest is None or tag != f"v{newest[1]}" or not re.fullmatch(r"\d{4}-\d\d-\d\d", newest[2]):
        shown = "none" if newest is None else newest[0]
        raise Defect(f"{tag} needs '## [{tag.removeprefix('v')}] - YYYY-MM-DD' as CHANGELOG.md's newest, got {shown!r}")


def package(place: Path) -> None:
    """All of it, in an empty directory."""

    def folder(name: str) -> Path:
        made = place / name
        made.mkdir()
        return made

    files = files_of_checkout()
    source = folder("source")
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    ours, ours_wheel = build(source, folder("pcalm"))
    suite, suite_wheel = build(source / "conformance", folder("suite"))
    for sdist, wheel, below in ((ours, ours_wheel, ""), (suite, suite_wheel, "conformance/")):
        inside = [name.removeprefix(below) for name in files if name.startswith(below)]
        check_sdist(sdist, inside)
        check_wheel(wheel, [name for name in inside if name.startswith(f"{wheel.name.split('-')[0]}/")])
    run(sys.executable, "-m", "twine", "check", "--strict", ours, ours_wheel, suite, suite_wheel, cwd=place)
    print("built and checked; one top-level package in each wheel", flush=True)

    with_pcalm = Environment(folder("with-pcalm"), {ours_wheel: "[grid,report]"})
    use_pcalm(with_pcalm, folder("empty-1"))
    print("pcalm: installed, and every command used from an empty directory", flush=True)
    runner = folder("runner")
    with_suite = Environment(runner / "pcalm-conformance", {suite_wheel: ""})
    use_suite(with_suite, folder("empty-2"))
    print("pcalm-conformance: installed without torch and pcalm, and used on an adapter", flush=True)
    use_action(with_pcalm, runner, folder("empty-3"))
    print("action.yml: ran on an adapter whose package is called pcalm, with our pcalm installed", flush=True)

    with_all = Environment(folder("with-all"), {ours_wheel: "[test]", suite_wheel: ""})
    for sdist, environment, tests in ((suite, with_suite, SUITE_TESTS), (ours, with_all, OUR_TESTS)):
        closing = test_sources(environment, unpack(sdist, folder(f"sdist-{sdist.name}")), *tests)
        print(f"{sdist.name}, unpacked: {closing}", flush=True)

    finished = ROOT / "dist"
    shutil.rmtree(finished, ignore_errors=True)
    finished.mkdir()
    for archive in (ours, ours_wheel, suite, suite_wheel):
        shutil.copy2(archive, finished)
        print(f"dist/{archive.name}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.package", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tag", help="only check that CHANGELOG.md's newest release is this one, and has a date")
    tag = parser.parse_args().tag
    with tempfile.TemporaryDirectory(prefix="pcalm-package-") as name:
        try:
            if tag:
                check_tag(tag, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
            else:
                package(Path(name))
        except Defect as defect:
            print(f"make package: {defect}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
