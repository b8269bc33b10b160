"""Measures the engines beside their baselines, and prints the tables and the goals.

    python -m benchmarks.speed                      the CPU, with one thread and with two
    python -m benchmarks.speed --device cuda        the GPU
    python -m benchmarks.speed --render PAGE        only write the page from the records

One record per cell (width, depth, device, number of threads) is written as JSON when the cell is finished; a later run
measures only the cells that are missing, or whose code or machine has changed. Every number of threads has a process of
its own. In it, all contenders of a cell take turns until each has had its share of time, and the best time of each
counts. A contender that does not agree with the reference (`benchmarks.gate`) gets no time.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import tables
from benchmarks.contenders import STEP_SIZE, Cell, contenders
from benchmarks.tables import BATCH, Record
from pcalm.engines import MODULES, load
from pcalm.experiments.machine import cpu_name
from pcalm.experiments.storage import write_json, write_text
from pcalm.methods import PCALM
from pcalm.network import resolve_device

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "reports" / "latest" / "speed"
WIDTHS, DEPTHS = (8, 32, 64, 128), (8, 32, 128)
SHARE_S = 0.8  # of each contender in each cell, or RUNS, if these take at most
RUNS, LONGEST_S = 3, 4.0
ROUND_S = 0.005  # at a time
MINUTES = 20.0
MEMORY_BYTES = 8 * 2**20  # of the activities, at least, when memory is measured
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # of glibc's malloc.h


def measure_times(cell: Cell) -> Record:
    """Seconds of every contender, its disagreement, and what could not be measured with the reason."""
    synchronize: Callable[[], Any] = torch.cuda.synchronize if cell.device != "cpu" else lambda: None
    missing: dict[str, str] = {}
    running: dict[str, Callable[[], Any]] = {}
    checked: dict[str, float] = {}
    for name, run, truth in contenders(cell, missing):
        if any(name.startswith(f"{refused}, ") for refused in missing):
            continue  # another way to run what has already failed
        try:
            found = run()
        except Exception as error:  # whatever a compiler or a small GPU throws is a reason, and no figure
            missing[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
            continue
        if truth is not None:
            off = truth.disagreement(found)
            if not off <= 1:
                missing[name] = f"it does not agree with the reference: its error is {off:.3g} times the bound"
                continue
            checked[name] = off
        running[name] = run
    begun, preempted = time.perf_counter(), _preemptions()
    best = dict.fromkeys(running, float("inf"))
    spent, runs = dict.fromkeys(running, 0.0), dict.fromkeys(running, 0)
    waiting = list(running)
    while waiting:
        for name in waiting:
            until = spent[name] + ROUND_S
            while spent[name] < until:
                synchronize()
                start = time.perf_counter()
                running[name]()
                synchronize()
                taken = time.perf_counter() - start
                best[name] = min(best[name], taken)
                spent[name] += taken
                runs[name] += 1
        waiting = [name for name in waiting if spent[name] < (SHARE_S if runs[name] >= RUNS else LONGEST_S)]
    rate = (_preemptions() - preempted) / (time.perf_counter() - begun)
    return {"seconds": best, "disagreement": checked, "missing": missing, "preempted": rate}


def _preemptions() -> int:
    """How often the system has taken the CPU from this process for another one."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def measure_memory(cell: Cell) -> Record:
    """Peak bytes of one call beyond its inputs and its gradients, by engine, in sizes of the activities.

    It is the process' resident memory at its highest, which Linux lets one reset, so that it counts native code too.
    The kernel counts it in steps of up to 256 KiB, so the batch is made large; only memory that is written to is
    resident, so the budget is one that moves every layer; and blocks come from the system and go back to it, so that
    what an earlier call has freed does not serve this one unseen.
    """
    libc = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_THRESHOLD, 2**16), (M_TRIM_THRESHOLD, 0)):
        if not libc.mallopt(parameter, value):
            raise OSError("mallopt does not take the parameters that measuring memory needs")
    batch = BATCH
    while (size := (cell.depth - 1) * batch * cell.width * torch.float32.itemsize) < MEMORY_BYTES:
        batch *= 2
    net, x, y = cell.problem(None, batch)
    gradients = sum(weight.numel() * weight.element_size() for weight in net.parameters())
    buffers, missing = {}, {}
    for name in MODULES:
        engine = load(name)
        reason = engine.unavailable(net.device, net.dtype)
        if reason is not None:
            missing[name] = reason
            continue
        engine.solve(net, PCALM(2, STEP_SIZE), x, y, None)  # what it sets up once
        gc.collect()
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        solution = engine.solve(net, PCALM(cell.depth, STEP_SIZE), x, y, None)
        buffers[name] = max(0, _resident("VmHWM") - before - gradients) / size
        del solution
    return {"buffers": buffers, "missing": missing}


def _resident(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(text.split()[1]) for text in status.splitlines() if text.startswith(line))


def machine(device: str) -> dict[str, str | int | None]:
    """The machine as far as it matters for speed."""
    found = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    return found if device == "cpu" else {"gpu": torch.cuda.get_device_name(device), **found}


@functools.cache
def fingerprint(device: str) -> str:
    """Of all that a record depends on: the machine, the engines and what they use, and the benchmark itself."""
    names = ("network", "methods", "dynamics", "experiments/config", "experiments/training")
    core = [ROOT / "pcalm" / f"{name}.py" for name in names]
    own = [ROOT / "benchmarks" / f"{name}.py" for name in ("baselines", "contenders", "gate", "speed")]
    engines = [path for path in (ROOT / "pcalm" / "engines").iterdir() if path.suffix in (".py", ".cpp")]
    digest = hashlib.sha256(repr(machine(device)).encode())
    for path in core + own + sorted(engines):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def read(directory: Path, cell: Cell) -> Record | None:
    """The cell's record, or None if there is none, it is damaged, or made with other code or on another machine."""
    try:
        record = json.loads((directory / cell.file).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("fingerprint") == fingerprint(cell.device) else None


def work(cells: Sequence[Cell], directory: Path, deadline: float) -> None:
    """Measures the cells that have no record yet; begins none after the deadline (of `time.time`)."""
    for cell in cells:
        if read(directory, cell) is not None:
            continue
        if time.time() > deadline:
            print(f"out of time before {cell.file}; the same command goes on from there", file=sys.stderr)
            return
        start = time.perf_counter()
        found = measure_memory(cell) if cell.kind == "memory" else measure_times(cell)
        about = {"cell": asdict(cell), "machine": machine(cell.device), "fingerprint": fingerprint(cell.device)}
        write_json(directory / cell.file, about | found)
        print(f"{cell.file}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def plan(
    device: str, threads: Sequence[int], widths: Sequence[int], depths: Sequence[int]
) -> dict[tuple[str, int], list[Cell]]:
    """The cells by process: (kind, number of threads)."""
    shapes = [(width, depth) for depth in depths for width in widths]
    counts = threads if device == "cpu" else [1]
    cells = {("time", count): [Cell("time", device, count, *shape) for shape in shapes] for count in counts}
    large = [(width, depth) for width, depth in shapes if width >= 32 and depth >= 32]  # for which there is a goal
    if device == "cpu" and large and sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        cells["memory", 1] = [Cell("memory", device, 1, *shape) for shape in large]
    return cells


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 if everything that was asked for has been measured."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    if options.render is not None:
        records = [json.loads(path.read_text()) for path in sorted(options.output.glob("*.json"))]
        write_text(options.render, tables.page(records))
        return 0
    threads = options.threads or sorted({1, min(2, os.cpu_count() or 1)})
    parts = plan(options.device, threads, options.widths, options.depths)
    deadline = time.time() + 60 * options.minutes
    options.output.mkdir(parents=True, exist_ok=True)
    if options.only is not None:
        kind, count = options.only[0], int(options.only[1])
        torch.set_num_threads(count)
        work(parts[kind, count], options.output, deadline)
        return 0
    for (kind, count), part in parts.items():
        if any(read(options.output, cell) is None for cell in part):
            status = _in_a_process_of_its_own(options, threads, kind, count, deadline)
            if status != 0:
                return status
    found = [read(options.output, cell) for part in parts.values() for cell in part]
    records = [record for record in found if record is not None]
    print(tables.report(records))
    return 0 if len(records) == len(found) else 1


def _in_a_process_of_its_own(
    options: argparse.Namespace, threads: Sequence[int], kind: str, count: int, deadline: float
) -> int:
    given = {
        "--device": options.device,
        "--threads": ",".join(map(str, threads)),
        "--widths": ",".join(map(str, options.widths)),
        "--depths": ",".join(map(str, options.depths)),
        "--minutes": str((deadline - time.time()) / 60),
        "--output": str(options.output.resolve()),
    }
    command = [sys.executable, "-m", "benchmarks.speed", *(word for pair in given.items() for word in pair)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    return subprocess.run([*command, "--only", kind, str(count)], env=environment, cwd=ROOT, check=False).returncode


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description="Speed and memory of the engines beside their baselines."
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=_numbers, help="CPU thread counts (default: 1,2, or 1 on one core)")
    parser.add_argument("--widths", type=_numbers, default=WIDTHS, help="default: 8,32,64,128")
    parser.add_argument("--depths", type=_numbers, default=DEPTHS, help="default: 8,32,128")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="begin no cell after that (default: 20)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory of the records")
    parser.add_argument("--render", type=Path, metavar="PAGE", help="write the page from the records; measure nothing")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)  # one process' part: a kind and a number of threads
    options = parser.parse_args(arguments)
    try:
        resolve_device(options.device)
    except ValueError as error:
        parser.error(str(error))
    return options


def _numbers(text: str) -> list[int]:
    numbers = [int(number) for number in text.split(",")]
    if min(numbers) < 1:
        raise ValueError
    return numbers


if __name__ == "__main__":
    sys.exit(main())
