"""The gate for pull requests: measures two commits in turns, judges, and says what changed.

    python -m benchmarks.compare BASE [HEAD]             measure both on this machine (HEAD: the working tree as it is)
    python -m benchmarks.compare --stored BASE HEAD      judge two result files that were measured before

One measuring rod for both: the benchmarks and the environment are head's, the code is that of either commit. Every
sample is a process of its own, forked from a server of its side, and the two sides take turns benchmark by benchmark,
so that a machine that becomes busy is busy for both. What looks slower or faster is measured anew, each sample from a
server of its own, and only those samples count.

The exit status is the verdict's (`benchmarks.verdict.Outcome`): 0 no regression, 3 regression, 4 a benchmark failed or
disappeared, 5 nothing was measured. The samples are kept in asv's format, by machine and commit; those of a working
tree that differs from its commit are not.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.repository import SHOWN, GitError, changes, export, export_working_tree, git, resolve
from benchmarks.verdict import RULES, Measured, Outcome, Verdict, judge
from benchmarks.workplace import workplace

# asv is imported where it is used: it imports this module itself, when it looks for benchmarks, in environments that
# hold only its runner.

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / ".asv" / "compare"
ENVIRONMENTS = ROOT / ".asv" / "env"
ROUNDS = 2
CONFIRMATIONS = 6  # samples of what seems to have changed, which alone count
REFERENCE = "peakmem_reference"
QUOTES = "'"  # asv keeps parameters as their repr
Benchmark = dict[str, Any]


class UnmeasurableError(Exception):
    """Nothing can be measured; the message says why."""


class BrokenHeadError(Exception):
    """Nothing of head runs; the message says why."""


@dataclass
class Samples:
    """What one side measured: by benchmark, by the number of its combination of parameters."""

    values: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    errors: dict[str, dict[int, str]] = field(default_factory=dict)
    unsupported: set[tuple[str, int]] = field(default_factory=set)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    os.environ.setdefault("PCALM_BENCH_GRID", "quick")
    note = ""
    try:
        if options.stored:
            verdict = stored(*options.stored)
        else:
            head = Head.of(options.repository, options.head)
            note = head.note
            verdict = measured(options, head)
    except (UnmeasurableError, GitError) as error:
        verdict = judge({}, {}, reason=str(error))
    except BrokenHeadError as error:
        verdict = Verdict(Outcome.FAILED, str(error), ())
    summary = verdict.markdown() + (f"\n{note}\n" if note else "")
    print(summary)
    if options.summary:
        try:
            with options.summary.open("a") as file:
                file.write(summary)
        except OSError as error:
            print(f"the summary is not in {str(options.summary)!r}: {error.strerror}", file=sys.stderr)
            return verdict.outcome.value or Outcome.NOTHING.value
    return verdict.outcome.value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("base", nargs="?", help="commit to compare with")
    parser.add_argument("head", nargs="?", help="commit to judge (default: the working tree as it is)")
    parser.add_argument("--stored", nargs=2, type=Path, metavar=("BASE", "HEAD"), help="judge two result files")
    parser.add_argument("--bench", default="", metavar="REGEX", help="only benchmarks whose name it is found in")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"samples of each time at first (default: {ROUNDS})")
    parser.add_argument("--environment", metavar="SPEC", help="asv's, such as existing (default: asv.conf.json's)")
    parser.add_argument("--repository", type=Path, default=ROOT, help="where the commits are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the samples are kept")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="append the summary to this file")
    options = parser.parse_args(arguments)
    if (options.base is None) == (options.stored is None):
        parser.error("give a base commit, or --stored with two result files")
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    try:
        re.compile(options.bench)
    except re.error as error:
        parser.error(f"--bench must be a regular expression, got {options.bench!r}: {error}")
    if not options.repository.is_dir():
        parser.error(f"--repository must be an existing directory, got {str(options.repository)!r}")
    if options.results.exists() and not options.results.is_dir():
        parser.error(f"--results must be a directory, got the file {str(options.results)!r}")
    if options.summary and (options.summary.is_dir() or not options.summary.resolve().parent.is_dir()):
        parser.error(f"--summary must be a file in an existing directory, got {str(options.summary)!r}")
    return options


@dataclass(frozen=True)
class Head:
    """What is judged: a commit, or the working tree where it differs from the commit that is checked out.

    Attributes:
        commit: that one.
        changed: the files in which the working tree differs; none if a commit is judged.
    """

    commit: str
    changed: tuple[str, ...] = ()

    @classmethod
    def of(cls, repository: Path, name: str | None) -> Head:
        commit = resolve(repository, name or "HEAD")
        return cls(commit, () if name else tuple(changes(repository)))

    @property
    def note(self) -> str:
        if not self.changed:
            return ""
        more = f" and {len(self.changed) - SHOWN} more" if len(self.changed) > SHOWN else ""
        names = ", ".join(f"`{name}`" for name in self.changed[:SHOWN])
        return f"Head is the working tree: {self.commit[:10]} with changes in {names}{more}."


def measured(options: argparse.Namespace, head: Head) -> Verdict:
    """Both sides measured here and now."""
    commits = [resolve(options.repository, options.base), head.commit]
    with workplace() as place:
        trees = [place / side for side in ("base", "head")]
        export(options.repository, commits[0], trees[0])
        if head.changed:
            export_working_tree(options.repository, trees[1])
        else:
            export(options.repository, commits[1], trees[1])
        conf, env = environment(trees[1], options.environment)
        session = Session(conf, env, trees, options.bench)
        try:
            session.run(options.rounds, session.combinations())
            suspects = {it.name for it in session.verdict().of_kind("worse", "better")}
            session.confirm([key for key in session.combinations() if session.label(*key) in suspects])
            kept = zip(commits, session.samples, strict=True)
            for commit, samples in itertools.islice(kept, 1 if head.changed else 2):
                session.save(options.results, options.repository, commit, samples)
            return session.verdict()
        finally:
            session.close()


class Session:
    """Two servers, one for each commit, that run head's benchmarks in head's environment.

    Args:
        conf: head's asv.conf.json.
        env: its environment, ready.
        trees: the folders of base and head.
        pattern: regular expression for the names of the benchmarks to run.
    """

    def __init__(self, conf: Any, env: Any, trees: Sequence[Path], pattern: str) -> None:
        self.conf, self.env, self.trees = conf, env, trees
        listed = [discover(conf, env, tree) for tree in trees]
        self.known, self.benchmarks = (
            {it["name"]: it for it in found if re.search(pattern, it["name"])} for found in listed
        )
        self.samples = [Samples(), Samples()]
        self.servers: list[Any] = []
        self.start()

    def start(self) -> None:
        """Servers for both sides, which have imported the benchmarks and run nothing yet."""
        from asv.runner import ForkServer

        self.close()
        for tree in self.trees:
            try:
                with code_of(tree):
                    self.servers.append(ForkServer(self.env, str(self.trees[1] / "benchmarks")))
            except (RuntimeError, OSError) as error:
                raise UnmeasurableError(f"the process that runs the benchmarks does not start: {error}") from error
            self.servers[-1].preimport()

    def close(self) -> None:
        for server in self.servers:
            server.interrupted = True  # no word about what it printed
            server.close()
        self.servers = []

    def combinations(self) -> list[tuple[str, int]]:
        return [
            (name, index)
            for name, benchmark in self.benchmarks.items()
            for index in range(math.prod(len(values) for values in benchmark["params"]))
        ]

    def run(self, rounds: int, keys: Sequence[tuple[str, int]]) -> None:
        """Adds samples of both sides: one of each deterministic benchmark, `rounds` of each noisy one."""
        for turn in range(rounds):
            self.take_turns(turn, [key for key in keys if turn == 0 or self.noisy(key[0])])

    def confirm(self, keys: Sequence[tuple[str, int]]) -> None:
        """New samples in place of the old for those of the benchmarks that are noisy, each from servers of its own.

        The old ones are what raised the suspicion, and processes forked from one server have its layout of memory in
        common, so that neither are independent.
        """
        suspects = [key for key in keys if self.noisy(key[0])]
        suspects += [(name, index) for memory, index in suspects if (name := reference(memory)) in self.benchmarks]
        for name, index in suspects:
            for samples in self.samples:
                samples.values.get(name, {}).pop(index, None)
        for turn in range(CONFIRMATIONS if suspects else 0):
            self.start()
            self.take_turns(turn, suspects)

    def take_turns(self, turn: int, keys: Sequence[tuple[str, int]]) -> None:
        for name, index in keys:
            # The side that goes first changes, so that neither has the warmer cache.
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                if side == 1 or name in self.known:  # what base does not have is new, even if it ran there
                    self.sample(side, name, index)

    def sample(self, side: int, name: str, index: int) -> None:
        """Adds one sample, an error, or that the machine cannot do this.

        Raises:
            UnmeasurableError: the side's server is gone: somebody ended it, or there was no memory.
        """
        from asv import util
        from asv.runner import run_benchmark

        into = self.samples[side]
        if (name, index) in into.unsupported or index in into.errors.get(name, {}):
            return
        try:
            found = run_benchmark(self.benchmarks[name], self.servers[side], profile=False, selected_idx={index})
        except (util.UserError, RuntimeError, OSError) as error:
            raise UnmeasurableError(f"the process that runs the benchmarks is gone: {error}") from error
        value, times = found.result[index], found.samples[index]
        if value is None:
            into.errors.setdefault(name, {})[index] = found.stderr
        elif times is None and math.isnan(value):
            into.unsupported.add((name, index))
        else:
            into.values.setdefault(name, {}).setdefault(index, []).append(min(times) if times else float(value))

    def noisy(self, name: str) -> bool:
        return RULES[self.benchmarks[name]["unit"]].noisy

    def label(self, name: str, index: int) -> str:
        return label(self.benchmarks[name], index)

    def verdict(self) -> Verdict:
        base, head = (collect(self.benchmarks, samples) for samples in self.samples)
        gone = {name: Measured(it["unit"]) for name, it in self.known.items() if name not in self.benchmarks}
        return judge({**base, **gone}, head)

    def save(self, results: Path, repository: Path, commit: str, samples: Samples) -> None:
        """Keeps the samples as asv does: results/machine/commit-environment.json, the units in benchmarks.json."""
        from asv.benchmarks import Benchmarks
        from asv.machine import Machine
        from asv.results import Results
        from asv.runner import BenchmarkResult

        machine = Machine()
        machine.__dict__.update(Machine.get_defaults())
        machine.save(str(results))
        date = int(git(repository, "show", "--no-patch", "--format=%ct", commit)) * 1000
        params = {**machine.__dict__, "python": self.env.python, **self.env.requirements}
        record = Results(params, self.env.requirements, commit, date, self.env.python, self.env.name, self.env.env_vars)
        record.load_data(str(results))
        for name, benchmark in self.benchmarks.items():
            size = math.prod(len(values) for values in benchmark["params"])
            lists = [samples.values.get(name, {}).get(index) for index in range(size)]
            figures = [
                Measured(benchmark["unit"], tuple(each)).best(RULES[benchmark["unit"]])
                if each
                else (math.nan if (name, index) in samples.unsupported else None)
                for index, each in enumerate(lists)
            ]
            timed = [1 if each and benchmark["type"] == "time" else None for each in lists]
            record.add_result(benchmark, BenchmarkResult(figures, lists, timed, 0, "", None), record_samples=True)
        record.save(str(results))
        self.conf.results_dir = str(results)
        Benchmarks(self.conf, list(self.benchmarks.values())).save()


def collect(benchmarks: dict[str, Benchmark], samples: Samples) -> dict[str, Measured]:
    """The samples by label; of peak memory what exceeds its reference, which is then left out."""
    found = {}
    for name, benchmark in benchmarks.items():
        if name == reference(name):
            continue
        for index, values in samples.values.get(name, {}).items():
            empty = samples.values.get(reference(name), {}).get(index, [0.0]) if benchmark["unit"] == "bytes" else [0.0]
            net = tuple(value - min(empty) for value in values)
            found[label(benchmark, index)] = Measured(benchmark["unit"], net)
        for index, error in samples.errors.get(name, {}).items():
            found[label(benchmark, index)] = Measured(benchmark["unit"], error=error)
    return found


def reference(name: str) -> str:
    """The benchmark to subtract from this one, where it measures memory."""
    return f"{name.rpartition('.')[0]}.{REFERENCE}"


def label(benchmark: Benchmark, index: int) -> str:
    """A benchmark's name with one combination of its parameters."""
    chosen = next(itertools.islice(itertools.product(*benchmark["params"]), index, None))
    pairs = ", ".join(
        f"{name}={value.strip(QUOTES)}" for name, value in zip(benchmark["param_names"], chosen, strict=True)
    )
    return f"{benchmark['name']}({pairs})" if pairs else str(benchmark["name"])


def stored(base: Path, head: Path) -> Verdict:
    """The verdict on two result files of asv; times of different machines are not compared."""
    sides, machines = [], []
    for path in (base, head):
        benchmarks, samples, machine = read(path)
        sides.append(collect(benchmarks, samples))
        machines.append(machine)
    return judge(*sides, same_machine=machines[0] == machines[1])


def read(path: Path) -> tuple[dict[str, Benchmark], Samples, dict[str, str]]:
    """A result file's benchmarks, samples and machine.

    Raises:
        UnmeasurableError: it is no result file, or benchmarks.json is not beside its machine's folder.
    """
    from asv.machine import Machine
    from asv.results import Results

    try:
        record = Results.load(str(path))
        listed = json.loads((path.parents[1] / "benchmarks.json").read_text())
    except Exception as error:
        raise UnmeasurableError(f"{path} is no result file of asv with its benchmarks.json: {error}") from error
    benchmarks = {name: it for name, it in listed.items() if name in record.get_all_result_keys()}
    samples = Samples()
    for name, benchmark in benchmarks.items():
        figures = record.get_result_value(name, benchmark["params"])
        lists = record.get_result_samples(name, benchmark["params"])
        for index, (figure, values) in enumerate(zip(figures, lists, strict=True)):
            if figure is None:
                samples.errors.setdefault(name, {})[index] = "it failed when it was measured"
            elif not math.isnan(figure):
                samples.values.setdefault(name, {})[index] = values or [figure]
    machine = {name: record.params.get(name, "") for name, _ in Machine.fields}
    return benchmarks, samples, machine


def environment(tree: Path, spec: str | None) -> tuple[Any, Any]:
    """The configuration in the tree and an environment that runs the Python of the one that it asks for.

    That one is made if it is not there yet. asv takes PYTHONPATH from all its environments but existing ones.

    Raises:
        UnmeasurableError: no such interpreter, or the environment cannot be built.
    """
    from asv import util
    from asv.config import Config
    from asv.environment import EnvironmentUnavailable, ExistingEnvironment, get_environments

    try:
        conf = Config.load(str(tree / "asv.conf.json"))
        conf.env_dir, conf.benchmark_dir = str(ENVIRONMENTS), str(tree / "benchmarks")
        found = list(get_environments(conf, [spec] if spec else None))
        if not found:
            raise UnmeasurableError("no environment of asv.conf.json is available here (is its Python installed?)")
        (env,) = found[:1]
        env.create()
        if not isinstance(env, ExistingEnvironment):
            env = ExistingEnvironment(conf, env.find_executable("python"), {}, {})
    except (util.UserError, util.ProcessError, OSError, RuntimeError, EnvironmentUnavailable) as error:
        raise UnmeasurableError(f"the environment cannot be built: {error}") from error
    return conf, env


def discover(conf: Any, env: Any, tree: Path) -> list[Benchmark]:
    """The benchmarks of the tree, imported with its own code; none where there is no suite yet.

    Raises:
        UnmeasurableError: those of base cannot be imported, so that nothing of head could be compared, or somebody
            ended the process that lists them.
        BrokenHeadError: those of head cannot be imported.
    """
    from asv import util
    from asv.runner import BENCHMARK_RUN_SCRIPT

    if not (tree / "benchmarks").is_dir():
        return []
    with code_of(tree), tempfile.TemporaryDirectory() as place:
        found = Path(place) / "found.json"
        runner = [BENCHMARK_RUN_SCRIPT, "discover", str(tree / "benchmarks"), str(found)]
        try:
            env.run(runner, cwd=place, env=dict(os.environ), dots=False, display_error=False)
        except util.ProcessError as error:
            if error.retcode < 0:
                raise UnmeasurableError(f"the process that lists the benchmarks is gone: {error}") from error
            print(f"the benchmarks of {tree.name} cannot be imported:\n{error.stderr}", file=sys.stderr)
            last = next((line for line in reversed(error.stderr.splitlines()) if line.strip()), "no reason was given")
            broken = BrokenHeadError if tree.name == "head" else UnmeasurableError
            raise broken(f"the benchmarks of {tree.name} cannot be imported: {last.strip()}") from error
        return [{"timeout": conf.default_benchmark_timeout, **it} for it in json.loads(found.read_text())]


@contextlib.contextmanager
def code_of(tree: Path) -> Iterator[None]:
    """What asv starts meanwhile, and what that starts, imports pcalm from the tree."""
    before = dict(os.environ)
    os.environ.update(ASV_PYTHONPATH=str(tree), PYTHONPATH=str(tree))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
