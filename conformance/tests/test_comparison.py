"""The comparison: adapters that would be faster than they are get no time or the one that they deserve, equal ones get
equal figures from equal clocks, and what was measured is kept.

Nothing here asserts that something is quick. Lower bounds are those of work that an adapter does for certain: it spins
until its own CPU clock says so, or it sleeps.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from pcalm_conformance import oracle, rounding
from pcalm_conformance.comparison import cells, clocks, command, keeping, memory, suite, tables, timing, training
from pcalm_conformance.comparison.cells import Cell, Copies, Truth
from pcalm_conformance.comparison.clocks import Spent
from pcalm_conformance.comparison.page import page
from pcalm_conformance.comparison.timing import FREE, Call, Contender, Times, charged
from pcalm_conformance.implementations import numpy_loop
from pcalm_conformance.isolation import Isolated, Workplace

CONFORMANCE = Path(__file__).parents[1]
SMALL = Cell(4, 3, batch=3)
BURNT = 0.05  # seconds of CPU time, or of sleep
ADAPTERS = f"""
import os, subprocess, sys, time
import numpy as np
from numpy_loop import NumpyLoop

def burn(clock=time.process_time):
    until = clock() + {BURNT}
    while clock() < until:
        pass

class Honest(NumpyLoop):
    def __init__(self, name="honest"):
        self.name = name

class Prepared(Honest):
    def prepare(self, problem):
        return lambda: self.solve(problem).gradients

class InPrepare(Honest):
    def prepare(self, problem):
        burn()
        found = self.solve(problem).gradients
        return lambda: found

class SleepsInPrepare(Prepared):
    def prepare(self, problem):
        time.sleep({BURNT})
        return super().prepare(problem)

class SleepsInCall(Honest):
    def prepare(self, problem):
        def run():
            time.sleep({BURNT})
            return self.solve(problem).gradients
        return run

class Lazy(Honest):
    def prepare(self, problem):
        class Later:
            def __init__(self, array):
                self.array = array
            def __array__(self, dtype=None, copy=None):
                burn()
                return self.array
        return lambda: [Later(array) for array in self.solve(problem).gradients]

class InAnother(Honest):
    def solve(self, problem):
        code = "import time\\nwhile time.process_time() < {BURNT}: pass"
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        return super().solve(problem)

class Wrong(Honest):
    def prepare(self, problem):
        return lambda: [np.zeros_like(weight) for weight in problem.weights]

class Remembers(Honest):
    known = None
    def solve(self, problem):
        self.known = self.known or super().solve(problem)
        return self.known

class WrongOnceTimed(Honest):
    calls = 0
    def solve(self, problem):
        self.calls += 1
        found = super().solve(problem)
        if self.calls > 3:
            found.gradients[-1][:] *= 1.01
        return found

class NoFunction(Honest):
    def prepare(self, problem):
        return self.solve(problem).gradients

class Nothing(Honest):
    def supports(self, problem):
        return False

class OnlyBP(Honest):
    def supports(self, problem):
        return problem.method == "bp"

class Raises(Honest):
    def solve(self, problem):
        raise RuntimeError("no <b>such|thing</b>")

honest, twin = Honest(), Honest("<i>a|b</i>")
prepared, in_prepare, sleeps_in_prepare = Prepared("p"), InPrepare("i"), SleepsInPrepare("s")
sleeps_in_call, lazy, in_another, wrong = SleepsInCall("c"), Lazy("l"), InAnother("a"), Wrong("w")
remembers, wrong_once_timed, no_function = Remembers("r"), WrongOnceTimed("o"), NoFunction("f")
nothing, only_bp, raises = Nothing("n"), OnlyBP("b"), Raises("x")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(numpy_loop.__file__, tmp_path / "numpy_loop.py")
    (tmp_path / "adapters.py").write_text(ADAPTERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def contenders(folder: Path) -> Iterator[Any]:
    """By attribute of the adapters' module."""
    made: list[Contender] = []

    def make(*names: str) -> dict[str, Contender]:
        found = {name: Contender(Isolated("adapters", name, name, Workplace(str(folder)))) for name in names}
        made.extend(found.values())
        return found

    yield make
    for one in made:
        one.isolated.stop()


def measured(contenders: dict[str, Contender], rounds: int = 2, method: str = "pcalm") -> dict[str, Times]:
    return timing.time_method(SMALL, method, cells.truth(SMALL.problem(method)), contenders, rounds)


@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("method", cells.METHODS)
def test_a_copy_looks_new_and_has_the_answer_of_the_original(method: str, activation: str) -> None:
    problem = dataclasses.replace(SMALL, activation=activation, dtype="float64").problem(method)
    right = cells.truth(problem)
    copies = Copies(problem, right, seed=1)
    drawn = [copies.draw() for _ in range(3)]
    for copy in drawn:
        assert copy.truth.disagreement(oracle.solve(copy.problem).gradients) < 0.1
        assert not np.array_equal(copy.problem.inputs, problem.inputs)
        # The bounds are estimates from random errors: of the same size, not the same.
        ratios = rounding.bounds(copy.problem).gradients / right.bounds
        assert (ratios > 0.5).all()
        assert (ratios < 2).all()
    assert not np.array_equal(drawn[0].problem.inputs, drawn[1].problem.inputs)
    moved = [matrix * 1.0 for matrix in drawn[0].truth.gradients]
    moved[1][0, 0] += 2 * right.bounds[1]
    assert drawn[0].truth.disagreement(moved) > 1
    moved[1][0, 0] = np.nan
    assert drawn[0].truth.disagreement(moved) == np.inf


def test_flops_are_those_of_the_products() -> None:
    problem = SMALL.problem("bp")
    block, first, last = 2 * 3 * 4 * 4, 2 * 3 * 4 * 784, 2 * 3 * 4 * 10
    assert cells.flops(problem) == 3 * block + 2 * first + 3 * last
    # T = 6 and one block, which every iteration reaches.
    assert cells.flops(SMALL.problem("pc")) == 2 * 6 * block + 2 * block + 2 * first + 2 * 7 * last
    deep = Cell(4, 12, batch=3).problem("pc")
    reached = sum(range(1, 11)) + 10 * 14
    assert cells.flops(deep) == 2 * reached * block + 20 * block + 2 * first + 2 * 25 * last


@pytest.mark.parametrize("part", [0.0, 0.01, FREE / (1 + FREE), 0.5, 1.0])
def test_moving_work_into_prepare_saves_less_than_the_comparison_resolves(part: float) -> None:
    saved = 1 - charged(call=1 - part, prepare=part)
    assert 0 <= saved <= FREE / (1 + FREE) + 1e-12


def test_work_counts_wherever_it_is_done(contenders: Any) -> None:
    found = measured(contenders("prepared", "in_prepare", "lazy", "in_another"))
    assert [one.missing for one in found.values()] == [""] * 4
    assert found["prepared"].how == "prepare"
    assert found["in_another"].how == "solve"
    for name in ("in_prepare", "lazy", "in_another"):
        # 20 ms for the ticks in which the kernel counts children that have ended.
        assert min(one.seconds for one in found[name].rounds) > BURNT - 0.02, name
    for one in [one for times in found.values() for one in times.rounds]:
        assert one.seconds == charged(one.call, one.prepare)
    assert found["in_prepare"].agreement is not None
    assert found["in_prepare"].agreement <= 1


@pytest.mark.skipif(not clocks.LINUX, reason="waiting is seen on Linux only")
def test_sleep_is_no_way_to_be_fast(contenders: Any) -> None:
    found = measured(contenders("sleeps_in_prepare", "sleeps_in_call"))
    for times in found.values():
        assert not times.missing
        assert min(one.seconds for one in times.rounds) > BURNT / 2
        assert min(one.waiting for one in times.rounds) > BURNT / 2


def test_what_is_wrong_has_no_time(contenders: Any) -> None:
    found = measured(contenders("honest", "wrong", "remembers", "wrong_once_timed", "no_function", "nothing", "raises"))
    assert found["honest"].rounds
    assert not found["honest"].missing
    for name in ("wrong", "remembers", "wrong_once_timed"):
        assert "its gradients are wrong: the error is" in found[name].missing, name
    assert "prepare() must return a function without arguments" in found["no_function"].missing
    assert found["nothing"].missing == "unsupported"
    assert "solve() raised RuntimeError: no <b>such|thing</b>" in found["raises"].missing
    assert not any(times.rounds for name, times in found.items() if name != "honest")


def spent(seconds: float, waiting: float = 0.0) -> Spent:
    return Spent(seconds - waiting, waiting, 2 * seconds, 0.0)


def test_figures_are_paired_in_rounds_and_the_suites_share_goes_off() -> None:
    """The same implementation twice, on a machine that is three times slower in one round: the same figures."""
    found = {key: Times(flops=1e9) for key in ("nothing", "product", "baseline", "one", "two", "slow")}
    found["slow"].missing = "wrong"
    turns = []
    for index, slower in enumerate((1, 3, 1)):
        for key, seconds in (("product", 0.02), ("baseline", 0.101), ("one", 0.011), ("two", 0.011), ("slow", 0.5)):
            own = 0.001
            call = Call(clocks.NOTHING, spent(slower * (seconds - own) + own))
            turns.append((index, key, call))
        turns.append((index, "nothing", Call(spent(0.0001), spent(0.001))))
    timing._count(turns, found)
    one, two = (timing.figures(found[key].rounds) for key in ("one", "two"))
    assert one == two
    assert one["times_baseline"] == pytest.approx(10)
    assert one["seconds"] == pytest.approx(0.01)
    assert found["slow"].rounds == []
    assert timing.figures([]) == {}


def test_clocks_see_a_process_and_its_children(tmp_path: Path) -> None:
    code = f"import subprocess, sys, time\nburn = 'import time\\nwhile time.process_time() < {BURNT}: pass'\n"
    code += "subprocess.run([sys.executable, '-S', '-c', burn])\nexec(burn)\nprint(1, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert clocks.read(process.pid).computing > 2 * BURNT - 0.02
        process.communicate("\n")
    assert clocks.read(process.pid).computing == 0


@pytest.mark.skipif(not memory.MEASURED, reason="the system does not tell the peak of another process")
def test_memory_is_what_a_cell_takes_beyond_next_to_nothing(folder: Path) -> None:
    (folder / "greedy.py").write_text(
        "import numpy as np\nfrom numpy_loop import NumpyLoop\n"
        "class Greedy(NumpyLoop):\n    name = 'greedy'\n    def solve(self, problem):\n"
        "        if len(problem.inputs) > 2:\n            np.ones(8 << 20)\n"
        "        return super().solve(problem)\nimpl = Greedy()\n"
    )
    place = Workplace(str(folder))
    nothing = Isolated("pcalm_conformance.comparison.yardsticks", "nothing", "nothing", place)
    found = memory.measure(Isolated("greedy", "impl", "greedy", place), nothing, SMALL, ["bp", "pc"])
    assert 60 < found["bytes"] / 2**20 < 80
    assert found["method"] == "pc"
    found = memory.measure(Isolated("adapters", "only_bp", "b", place), nothing, SMALL, ["bp", "pc"])
    assert (found["method"], found["missing"]) == ("bp", "")
    found = memory.measure(Isolated("adapters", "nothing", "nothing", place), nothing, SMALL, ["bp", "pc"])
    assert found["missing"] == "unsupported"


TRAINING = training.RECIPE.but(depth=4, width=6, budget=1, epochs=1)


def test_training_takes_the_suites_batches_and_shows_nothing_that_is_wrong(contenders: Any) -> None:
    made = contenders("honest", "prepared", "remembers", "nothing")
    runs = {name: training.train(one, "pcalm", TRAINING) for name, one in made.items()}
    assert runs["honest"].steps == 1440 // 64
    assert runs["honest"].accuracy == runs["prepared"].accuracy
    assert runs["honest"].steps_per_second is not None
    assert runs["nothing"].missing == "unsupported"
    # One step of its 22 is right, the first; were that the one that is looked at, it would pass.
    assert "is wrong" in runs["remembers"].missing or runs["remembers"].accuracy is not None


def test_training_that_takes_too_long_ends_after_an_epoch(contenders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LONGEST", 0.0)
    found = training.train(contenders("honest")["honest"], "bp", TRAINING.but(epochs=3))
    assert found.cut
    assert [epoch for epoch, _, _ in found.curve] == [1]


def run(folder: Path, *arguments: str) -> int:
    """The command in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        return command.main(["--output", str(folder / "out"), "--rounds", "1", "--suite", "none", *arguments])
    finally:
        os.chdir(before)


BOTH = (
    "--implementation",
    "adapters:honest",
    "--implementation",
    "adapters:twin",
    "--batch",
    "3",
    "--methods",
    "bp,pc",
)


def test_a_comparison_is_kept_and_gone_on_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, *BOTH, "--cells", "4x3") == 0
    printed = capsys.readouterr().out
    assert "<i>a|b</i>" in printed
    files = sorted((folder / "out" / "records").glob("*.json"))
    first = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert {record["implementation"] for record in first} == {"honest", "<i>a|b</i>"}
    for record in first:
        assert set(record["methods"]) == {"bp", "pc"}
        assert all(times["agreement"] <= 1 and len(times["rounds"]) == 1 for times in record["methods"].values())
        assert record["versions"]["numpy"] == np.__version__
    table = (folder / "out" / "table.md").read_text(encoding="utf-8")
    assert r"`<i>a\|b</i>`" in table
    html = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert "&lt;i&gt;a|b&lt;/i&gt;" in html
    assert "<i>" not in html
    assert "http" not in html.replace("http-equiv", "")

    assert run(folder, *BOTH, "--cells", "4x3,5x3") == 0
    again = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert again == first
    assert len(list((folder / "out" / "records").glob("*.json"))) == 4

    (folder / "adapters.py").write_text(ADAPTERS + "# changed\n", encoding="utf-8")
    assert run(folder, *BOTH, "--cells", "4x3") == 0
    changed = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert all(a["key"] != b["key"] for a, b in zip(first, changed, strict=True))


def test_what_went_wrong_is_the_status(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--cells", "4x3", "--batch", "3", "--methods", "bp")
    assert run(folder, "--implementation", "adapters:nothing", *few) == 0
    assert run(folder, "--implementation", "adapters:raises", *few) == 1
    assert "solve() raised RuntimeError" in capsys.readouterr().out
    assert "<b>" not in (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert r"`solve() raised RuntimeError: no <b>such\|thing</b>`" in (folder / "out" / "table.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cells", "32"], "--cells must be NxL, such as 32x128, with N ≥ 1 and L ≥ 3, got '32'"),
        (["--cells", "0x3"], "got '0x3'"),
        (["--cells", "4x2"], "got '4x2'"),
        (["--cells", "4x3,"], "got ''"),
        (["--methods", "bp,dfa"], "--methods must be some of bp, pc, pcalm, got 'dfa'"),
        (["--batch", "0"], "--batch must be at least 1, got 0"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--threads", "0"], "--threads must be from 1 to"),
        (["--threads", "100000"], "--threads must be from 1 to"),
        (["--time-limit", "nan"], "--time-limit must be a positive, finite number of seconds, got nan"),
        (["--memory-limit", "-1"], "--memory-limit must be a positive, finite number of GiB, got -1"),
        (["--report", "honest"], "--report must be NAME=FILE"),
        (["--report", "honest=no.json"], "--report honest=no.json: that is no whole report of the suite"),
        (["--python", "no-such-python"], "--python no-such-python: there is no such program"),
        ([], "name what is to be tested: --implementation MODULE:NAME"),
        (["--implementation", "none:impl"], "cannot import 'none'"),
    ],
)
def test_options_that_make_no_sense(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *arguments) == pytest.ExitCode.USAGE_ERROR
    assert words in capsys.readouterr().err


def test_an_output_that_is_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").touch()
    assert run(folder, "--implementation", "adapters:honest") == pytest.ExitCode.USAGE_ERROR
    assert "out: cannot be written to" in capsys.readouterr().err


def report(verdicts: dict[str, str], name: str = "honest", complete: bool = True) -> str:
    records = [
        {"requirement": identity, "chapter": f"{index}. chapter", "implementation": name, "verdict": verdict}
        for index, (identity, verdict) in enumerate(verdicts.items())
    ]
    return json.dumps({"complete": complete, "records": records})


def test_verdicts_are_counted_by_chapter(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    kinds = ["passed", "passed in part", "failed", "unsupported", "not run", "error", "xpassed"]
    verdicts = dict(zip("abcdefg", kinds, strict=True))
    file.write_text(report(verdicts))
    found = suite.read(file, "honest")
    assert found is not None
    assert suite.counts(found)["all"] == {"met": 2, "failed": 2, "in part": 1, "unsupported": 1, "not run": 1}
    assert tables.chapter_cell(suite.counts(found)["all"]) == "3/5 (2 failed, 1 in part, 1 unsupported)"
    assert suite.read(file, "another") is None
    file.write_text(report(verdicts, complete=False))
    assert suite.read(file, "honest") is None
    assert suite.counts([]) == {}


def test_a_report_that_is_given_is_not_computed_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "known.json").write_text(report({"a": "passed", "b": "failed"}))
    given = f"honest={folder / 'known.json'}"
    few = ("--cells", "4x3", "--batch", "3", "--methods", "bp", "--report", given)
    assert run(folder, "--implementation", "adapters:honest", *few) == 1  # a requirement failed
    assert "1/2 (1 failed)" in capsys.readouterr().out
    assert run(folder, "--implementation", "adapters:twin", *few) == pytest.ExitCode.USAGE_ERROR
    assert "no implementation is named so; there is <i>a|b</i>" in capsys.readouterr().err


def test_the_suite_is_run_where_nothing_is_known(folder: Path) -> None:
    asked = suite.Asked("adapters:nothing", "n", Workplace(str(folder)), "quick", 60.0)
    assert suite.run(asked, folder / "report.json") == ""
    found = suite.read(folder / "report.json", "n")
    assert found is not None
    counts = suite.counts(found)["all"]
    assert counts["unsupported"] + counts["not run"] == len(found)
    said = suite.run(dataclasses.replace(asked, spec="adapters:none"), folder / "none.json")
    assert "the suite ended with status 4" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_can_be_stopped(number: int, folder: Path) -> None:
    (folder / "stuck.py").write_text(
        "import os, time\nfrom pathlib import Path\nfrom numpy_loop import NumpyLoop\n"
        "class Stuck(NumpyLoop):\n    name = 'stuck'\n    def solve(self, problem):\n"
        "        Path(f'pid-{os.getpid()}').touch()\n        time.sleep(600)\nimpl = Stuck()\n"
    )
    line = [sys.executable, "-m", "pcalm_conformance", "compare", "--implementation", "stuck:impl", "--output", "out"]
    line += ["--suite", "none", "--cells", "4x3", "--batch", "3", "--methods", "bp", "--time-limit", "500"]
    with subprocess.Popen(
        line, cwd=folder, env=os.environ | {"PYTHONPATH": str(CONFORMANCE)}, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (there := list(folder.glob("pid-*"))) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == command.STOPPED
    assert "stopped; the same command goes on from the records in out" in said
    assert "Traceback" not in said
    assert not psutil.pid_exists(int(there[0].name.partition("-")[2]))


def test_a_signal_to_all_its_processes_ends_it(tmp_path: Path) -> None:
    """As `timeout` and a cancelled job send it: here while what is right is being computed."""
    line = [sys.executable, "-m", "pcalm_conformance", "compare", "--output", "out", "--suite", "none"]
    line += ["--implementation", "numpy_loop:impl", "--cells", "64x64,64x65"]
    environment = os.environ | {"PYTHONPATH": f"{CONFORMANCE}:{CONFORMANCE / 'pcalm_conformance/implementations'}"}
    with subprocess.Popen(
        line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        me = psutil.Process(process.pid)
        while process.poll() is None and len(me.children(recursive=True)) < 2:  # one that computes, and their tracker
            time.sleep(0.05)
        processes = me.children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == command.STOPPED
    assert "the same command goes on from the records in out" in said
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_names_of_files_tell_implementations_apart() -> None:
    names = ["honest", "<i>a|b</i>", "i-a-b-i", "../x", "...", "größer"]
    files = [keeping.file_name(name, "4x3") for name in names]
    assert len(set(files)) == len(names)
    assert all("/" not in file and not file.startswith(".") and file.isascii() for file in files)
    assert files[0] == "honest-4x3.json"


def test_a_record_that_is_damaged_is_measured_again(tmp_path: Path) -> None:
    keeper = keeping.Keeper(tmp_path / "records")
    record = {"comparison": "training", "implementation": "a", "key": "k", "methods": {}}
    keeper.keep(record)
    assert keeper.find("a", "training", "k") is not None
    assert keeper.find("a", "training", "other") is None
    file = tmp_path / "records" / "a-training.json"
    for text in ("", "[]", "{", '{"schema": 2, "comparison": "training", "key": "k"}', '{"schema": 1, "key": "k"}'):
        file.write_text(text)
        assert keeper.find("a", "training", "k") is None


def test_the_page_of_nothing_is_a_page() -> None:
    assert "<h1>Comparison</h1>" in page([], "nothing")
    assert tables.terminal([]) == ""


def test_truths_are_computed_once(tmp_path: Path) -> None:
    problems = [SMALL.problem(method) for method in ("bp", "pc")]
    first = list(cells.truths(problems, tmp_path / "truth", 2))
    times = [file.stat().st_mtime_ns for file in sorted((tmp_path / "truth").iterdir())]
    again: list[Truth] = list(cells.truths(problems, tmp_path / "truth", 2))
    assert times == [file.stat().st_mtime_ns for file in sorted((tmp_path / "truth").iterdir())]
    for problem, one, other in zip(problems, first, again, strict=True):
        assert one.disagreement(oracle.solve(problem).gradients) == 0
        assert np.array_equal(one.bounds, other.bounds)
