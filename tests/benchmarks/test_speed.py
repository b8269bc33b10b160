"""The speed benchmark: baselines that are right, a gate that shuts, records that are resumed, and honest verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import baselines, contenders, speed, tables
from benchmarks.contenders import Cell, Contender
from benchmarks.gate import Truth
from benchmarks.tables import Goal, Record
from pcalm.dynamics import Gradients, State
from pcalm.engines import Solution, reference, stacked
from pcalm.experiments.data import Dataset
from pcalm.methods import BP, PCALM
from pcalm.network import ResidualMLP

CELL = Cell("time", "cpu", 1, 4, 5)


def problem(seed: int | range = 0) -> tuple[ResidualMLP, Tensor, Tensor]:
    net = ResidualMLP(5, 4, 6, 3, "tanh", seed=seed)
    lead = () if net.replicas is None else (net.replicas,)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(*lead, 8, columns, generator=generator) for columns in (6, 3))
    return net, x, y


def record(seconds: dict[str, float], width: int = 32, depth: int = 32) -> Record:
    return {
        "cell": asdict(Cell("time", "cpu", 1, width, depth)),
        "machine": {"cpu": "abacus", "cores": 2, "vectors": "AVX2", "torch": "2.11"},
        "seconds": seconds,
        "missing": {},
    }


@pytest.mark.parametrize("credit", ["before", "after"])
def test_baselines_agree_with_the_reference(credit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    net, x, y = problem()
    method = PCALM(7, 0.2, penalty=0.5, dual_step=0.8, credit=credit, anchor=0.1)
    truth = Truth(net, method, x, y)
    assert truth.disagreement(baselines.textbook(net, method, x, y)) <= 1
    assert truth.disagreement(baselines.Compiled(net, method, x, y)()) <= 1
    for seed in (0, range(2)):
        net, x, y = problem(seed)
        assert Truth(net, BP(), x, y).disagreement(baselines.bp(net, x, y)) <= 1


def test_textbook_takes_inner_steps() -> None:
    net, x, y = problem()
    method = PCALM(3, 0.1, inner_steps=2)
    assert Truth(net, method, x, y).disagreement(baselines.textbook(net, method, x, y)) <= 1


def _replace(solution: Solution, part: str, change: Callable[[Tensor], Tensor]) -> Solution:
    if part in State._fields:
        return solution._replace(state=solution.state._replace(**{part: change(getattr(solution.state, part))}))
    return solution._replace(gradients=solution.gradients._replace(**{part: change(getattr(solution.gradients, part))}))


def _round_to_tf32(tensor: Tensor) -> Tensor:
    """Ten bits of mantissa."""
    return ((tensor.view(torch.int32) + 2**12) >> 13 << 13).view(torch.float32)


def _spoil_last_sample(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor[..., -1, -1] += 1e-3
    return tensor


@pytest.mark.parametrize("part", [*State._fields, *Gradients._fields])
@pytest.mark.parametrize("change", [torch.neg, _round_to_tf32, _spoil_last_sample, lambda t: t * torch.nan])
def test_the_gate_shuts(part: str, change: Callable[[Tensor], Tensor]) -> None:
    net, x, y = problem()
    method = PCALM(10, 0.2)
    truth, solution = Truth(net, method, x, y), reference.solve(net, method, x, y, None)
    assert truth.disagreement(solution) <= 1
    assert not truth.disagreement(_replace(solution, part, change)) <= 1


def test_the_truth_of_a_replica_is_that_of_its_own_run() -> None:
    nets, x, y = problem(range(2))
    method = PCALM(6, 0.2)
    single = reference.solve(nets.replica(1), method, x[1], y[1], None)
    truths = Truth(nets, method, x, y)
    assert truths.replica(1).disagreement(single) <= 1
    assert not truths.replica(0).disagreement(single) <= 1


def test_only_what_agrees_gets_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = problem()
    method = PCALM(4, 0.2)
    truth, right = Truth(net, method, x, y), reference.solve(net, method, x, y, None)
    wrong = _replace(right, "hidden", torch.neg)

    def compete(cell: Cell, missing: dict[str, str]) -> Iterator[Contender]:
        missing["absent"] = "not installed"
        yield Contender("right", lambda: right, truth)
        yield Contender("wrong", lambda: wrong, truth)
        yield Contender("wrong, 3 packed", lambda: right, truth)
        yield Contender("broken", lambda: 1 // 0)
        yield Contender("product", lambda: None)

    monkeypatch.setattr(speed, "contenders", compete)
    monkeypatch.setattr(speed, "SHARE_S", 1e-4)
    found = speed.measure_times(CELL)
    assert set(found["seconds"]) == {"right", "product"}
    assert found["disagreement"] == {"right": truth.disagreement(right)}
    assert set(found["missing"]) == {"absent", "wrong", "broken"}
    assert "does not agree with the reference" in found["missing"]["wrong"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small training data, and no compiling or capturing."""
    images = torch.randn(128, tables.INPUTS, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(128) % contenders.CLASSES
    data = Dataset("fashion-mnist", images, labels, images, labels, contenders.CLASSES, 0.0, 1.0)
    monkeypatch.setattr(contenders, "_images", lambda: data)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(stacked, "capture", lambda function, device: function)


@pytest.mark.usefixtures("small")
def test_all_contenders_on_a_cpu_run_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "SGEMM", 16)
    missing: dict[str, str] = {}
    names = []
    for name, run, truth in contenders.contenders(Cell("time", "cpu", 2, 8, 4), missing):
        found = run()
        assert truth is None or truth.disagreement(found) <= 1, name
        names.append(name)
    expected = {"sgemm", "sgemm numpy", "bp", "textbook", "compiled", "reference"}
    for name in {"torch", "cpu"} - set(missing):
        expected |= {name, f"{name}, 3 packed", f"{name}, 3 separate", f"{name}, 1 thread"}
    if "cpu" not in missing:
        expected |= {"cpu, training", "cpu, training, 3 packed", "cpu, training, 3 separate"}
    assert len(names) == len(set(names))
    assert set(names) == expected


@pytest.mark.usefixtures("small")
def test_all_contenders_on_a_gpu_run_and_agree() -> None:
    """On the CPU: what runs is the same but for the device and the graphs."""
    missing: dict[str, str] = {}
    names = set()
    for name, run, truth in contenders._on_gpu(CELL, missing):
        found = run()
        assert truth is None or truth.disagreement(found) <= 1, name
        names.add(name)
    for replicas in tables.CUDA_REPLICAS:
        for name in ("bmm", "bp", "bp graph", "torch eager", "torch"):
            assert f"{name}, {replicas} packed" in names


def test_records_are_resumed_by_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Cell] = []

    def measure(cell: Cell) -> Record:
        measured.append(cell)
        return {"seconds": {"cpu": 1.0}, "missing": {}}

    monkeypatch.setattr(speed, "measure_times", measure)
    monkeypatch.setattr(speed, "measure_memory", measure)
    monkeypatch.setattr(speed, "fingerprint", lambda device: "of this code")
    cells = [cell for part in speed.plan("cpu", [1, 2], [8, 32], [32]).values() for cell in part]
    assert {(cell.kind, cell.threads) for cell in cells} >= {("time", 1), ("time", 2)}
    speed.work(cells, tmp_path, deadline=float("-inf"))
    assert measured == []
    speed.work(cells, tmp_path, deadline=float("inf"))
    speed.work(cells, tmp_path, deadline=float("inf"))
    assert measured == cells
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cell.file for cell in cells)
    (tmp_path / cells[1].file).write_text('{"cell":')
    speed.work(cells, tmp_path, deadline=float("inf"))
    assert measured[len(cells) :] == [cells[1]]
    monkeypatch.setattr(speed, "fingerprint", lambda device: "of changed code")
    assert speed.read(tmp_path, cells[0]) is None


def test_a_cell_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure_times", lambda cell: {"seconds": {"cpu": float("nan")}})
    with pytest.raises(ValueError, match="JSON"):
        speed.work([CELL], tmp_path, deadline=float("inf"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_measures_what_is_missing_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts: list[tuple[str, int]] = []

    def process(options: Any, threads: list[int], kind: str, count: int, deadline: float) -> int:
        parts.append((kind, count))
        cells = speed.plan(options.device, threads, options.widths, options.depths)[kind, count]
        speed.work(cells, options.output, deadline)
        return 0

    monkeypatch.setattr(speed, "_in_a_process_of_its_own", process)
    monkeypatch.setattr(speed, "measure_times", lambda cell: {"seconds": {"cpu": 0.001}, "missing": {}})
    command = ["--threads", "1,2", "--widths", "8", "--depths", "8", "--output", str(tmp_path)]
    assert speed.main([*command, "--minutes", "-1"]) == 1
    assert "nothing has been measured" in capsys.readouterr().out
    parts.clear()
    assert speed.main(command) == 0
    assert speed.main(command) == 0
    assert parts == [("time", 1), ("time", 2)]
    assert "milliseconds per gradient" in capsys.readouterr().out
    page = tmp_path / "page.md"
    assert speed.main(["--output", str(tmp_path), "--render", str(page)]) == 0
    assert page.read_text().startswith("# Performance")


def test_a_process_of_its_own_has_its_threads_and_its_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert env["OMP_NUM_THREADS"] == "2"
        parsed = speed.parse(command[command.index("benchmarks.speed") + 1 :])
        assert parsed.only == ["time", "2"]
        assert (parsed.widths, parsed.depths, parsed.threads, parsed.output) == ([8], [8], [1, 2], tmp_path)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", run)
    options = speed.parse(["--widths", "8", "--depths", "8", "--output", str(tmp_path)])
    assert speed._in_a_process_of_its_own(options, [1, 2], "time", 2, 0.0) == 3


@pytest.mark.parametrize("arguments", [["--device", "abacus"], ["--threads", "0"], ["--widths", "wide"]])
def test_bad_options_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(arguments)
    assert arguments[0].removeprefix("--") in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_memory_counts_at_least_what_is_returned() -> None:
    code = (
        "import json; from benchmarks import speed; speed.MEMORY_BYTES = 2**22; "
        "print(json.dumps(speed.measure_memory(speed.Cell('memory', 'cpu', 1, 32, 8))))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=speed.ROOT, capture_output=True, text=True, check=True)
    # Activities and multipliers, less the 256 KiB in 4 MiB that the kernel may be off by at either reading.
    assert min(json.loads(run.stdout)["buffers"].values()) >= 2 - 2 / 16


def test_useful_flops() -> None:
    # Two products of 2·B·N² flops for each layer that step t reaches: the top min(t, L) of them, for T = 2L steps.
    width, depth = 32, 32
    reached = sum(min(step, depth) for step in range(1, 2 * depth + 1))
    exact = 2 * 2 * tables.BATCH * width**2 * reached
    assert tables.useful_flops(record({}, width, depth)) == pytest.approx(exact, rel=1 / depth)


def test_shares_are_rates_over_the_faster_librarys() -> None:
    made = record({"cpu": 0.5, "sgemm": 2.0, "sgemm numpy": 3.0})
    assert tables.share(made, "cpu") == tables.useful_flops(made) / 0.5 / (2 * tables.SGEMM**3 / 2.0)
    assert tables.share(record({"cpu": 0.5}), "cpu") is None


@pytest.mark.parametrize(
    ("width", "depth", "part", "expected"),
    [(32, 32, 0.8, "products"), (32, 32, 0.5, "elementwise work, short rows"), (8, 8, 0.5, "what is done once a call")],
)
def test_limits(width: int, depth: int, part: float, expected: str) -> None:
    made = record({"cpu": 1.0}, width, depth)
    assert tables.limit(made, best=tables.useful_flops(made) / part) == expected


@pytest.mark.parametrize(
    ("at_least", "figures", "verdict", "worst", "short"),
    [
        (True, [3.0, 4.0], "met", "3.00 at N=0 L=8", tables.DASH),
        (True, [2.9, 4.0], "not met", "2.90 at N=0 L=8", "N=0 L=8: 2.90"),
        (False, [2.9, 3.1], "not met", "3.10 at N=1 L=8", "N=1 L=8: 3.10"),
        (False, [2.9, None], "met where measured", "2.90 at N=0 L=8", tables.DASH),
        (True, [None, None], "not measured", tables.DASH, tables.DASH),
        (True, [], "not measured", tables.DASH, tables.DASH),
    ],
)
def test_verdicts(at_least: bool, figures: list[float | None], verdict: str, worst: str, short: str) -> None:
    goal = Goal("claim", 3, at_least, lambda r: True, lambda r: figures[r["cell"]["width"]])
    records = [record({}, number, 8) for number in range(len(figures))]
    assert goal.verdict(records) == ["claim", verdict, worst, short]


@pytest.mark.parametrize("installed", [True, False], ids=["tabulate", "no tabulate"])
def test_the_page_shows_figures_reasons_and_verdicts(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "tabulate", None)
    names = {"textbook": 0.2, "compiled": 0.01, "reference": 0.02, "torch": 0.008, "cpu": 0.002, "bp": 0.001}
    cell = record(names | {"sgemm": 0.2})
    cell["missing"] = {"triton": "it needs a GPU (test)"}
    gpu = record({"torch, 1 packed": 0.02, "triton, 1 packed": 0.01, "bp, 1 packed": 0.004}, 32, 128)
    gpu["cell"]["device"], gpu["machine"]["gpu"] = "cuda", "a GPU (test)"
    gpu["preempted"] = tables.BUSY + 1
    memory = record({})
    memory["cell"]["kind"], memory["buffers"] = "memory", {"cpu": 2.0}
    page = tables.page([cell, gpu, memory])
    assert "| 100×" in page  # textbook / cpu
    assert "Not to be relied on, measured while other programs took the CPU: N=32 L=128." in page
    assert "it needs a GPU (test)" in page
    assert "a GPU (test), abacus" in page
    assert "| 2.5×" in page  # triton, the fastest, / bp
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| cpu")}
    assert "| met" in rows["cpu against the compiled baseline, N, L ≥ 32: ≥ 3×"]
    assert "| not measured" in rows["cpu: two threads against one, N, L ≥ 32: ≥ 1.7×"]


def test_no_records_no_page() -> None:
    with pytest.raises(ValueError, match="no records"):
        tables.page([])
