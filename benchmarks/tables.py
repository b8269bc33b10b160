"""The records of `benchmarks.speed` as tables, with the goals and whether they are met."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Figure = float | None

BATCH, INPUTS = 64, 784
CPU_REPLICAS = 3
CUDA_REPLICAS = (1, 3, 64)
SGEMM = 2048  # rows and columns of the large product
BUSY = 30  # times a second that other programs take the CPU; on an idle machine it is below 10
DASH = "–"


def packed(name: str, replicas: int) -> str:
    """The name under which a contender's time for replicas in one pass is recorded."""
    return f"{name}, {replicas} packed"


def separate(name: str, replicas: int) -> str:
    """The same for as many runs one after another."""
    return f"{name}, {replicas} separate"


def useful_flops(record: Record) -> float:
    """0.75·4·B·N²·L·T with T = 2L: two products [B, N]·[N, N] a layer and step, less what the light cone saves."""
    width, depth = record["cell"]["width"], record["cell"]["depth"]
    return 0.75 * 4 * BATCH * width**2 * depth * 2 * depth


def seconds(record: Record, name: str) -> Figure:
    found: Figure = record["seconds"].get(name)
    return found


def ratio(record: Record, slow: str, fast: str) -> Figure:
    """How many times faster `fast` is."""
    above, below = seconds(record, slow), seconds(record, fast)
    return above / below if above and below else None


def rate(record: Record, name: str) -> Figure:
    """Useful flops per second."""
    taken = seconds(record, name)
    return useful_flops(record) / taken if taken else None


def sgemm_rate(record: Record) -> Figure:
    """Flops per second of the machine's own large product: the faster of torch's and numpy's."""
    times = [taken for name in ("sgemm", "sgemm numpy") if (taken := seconds(record, name))]
    return 2 * SGEMM**3 / min(times) if times else None


def share(record: Record, name: str) -> Figure:
    """Useful flops per second, as a part of the machine's own large sgemm."""
    own, library = rate(record, name), sgemm_rate(record)
    return own / library if own and library else None


def device_share(record: Record, name: str, replicas: int) -> Figure:
    """Useful flops per second, as a part of the device's own batched product of the same shape."""
    cell = record["cell"]
    taken, product = seconds(record, packed(name, replicas)), seconds(record, packed("bmm", replicas))
    one_product = 2 * replicas * (cell["depth"] - 2) * BATCH * cell["width"] ** 2
    return replicas * useful_flops(record) / taken / (one_product / product) if taken and product else None


def fastest(record: Record, replicas: int) -> str:
    """The name of the engine that took the least time on a GPU."""
    times = {name: seconds(record, packed(name, replicas)) for name in ("torch eager", "torch", "triton")}
    return min(times, key=lambda name: times[name] or float("inf"))


@dataclass(frozen=True)
class Goal:
    """A bound that a figure has to keep in every one of its cells."""

    claim: str
    bound: float
    at_least: bool
    cells: Callable[[Record], bool]
    figure: Callable[[Record], Figure]

    def verdict(self, records: Iterable[Record]) -> list[str]:
        """One row: claim, met or not, the worst figure with its cell, and every cell that falls short."""
        found = [(record, self.figure(record)) for record in records if self.cells(record)]
        measured = [(figure, record) for record, figure in found if figure is not None]
        if not measured:
            return [self.claim, "not measured", DASH, DASH]
        worst, where = (min if self.at_least else max)(measured, key=lambda pair: pair[0])
        short = [
            f"{_place(record)}: {figure:.2f}"
            for figure, record in measured
            if (figure < self.bound if self.at_least else figure > self.bound)
        ]
        verdict = "not met" if short else "met" if len(measured) == len(found) else "met where measured"
        return [self.claim, verdict, f"{worst:.2f} at {_place(where)}", "; ".join(short) or DASH]


def _place(record: Record) -> str:
    return f"N={record['cell']['width']} L={record['cell']['depth']}"


def _cells(kind: str, *, threads: int | None = 1, width: int = 0, depth: int = 0) -> Callable[[Record], bool]:
    """Cells on the CPU of at least that width and depth; threads=None means more than one."""

    def chosen(record: Record) -> bool:
        cell = record["cell"]
        right_threads = cell["threads"] == threads if threads else cell["threads"] > 1
        right_shape = cell["width"] >= width and cell["depth"] >= depth
        return bool(cell["kind"] == kind and cell["device"] == "cpu" and right_threads and right_shape)

    return chosen


def _narrow(chosen: Callable[[Record], bool], most: int) -> Callable[[Record], bool]:
    return lambda record: chosen(record) and record["cell"]["width"] <= most


def _packing(name: str) -> Callable[[Record], Figure]:
    return lambda record: ratio(record, separate(name, CPU_REPLICAS), packed(name, CPU_REPLICAS))


ONE = _cells("time")
LARGE = _cells("time", width=32, depth=32)
CPU_GOALS = (
    Goal("cpu against the compiled baseline, N, L ≥ 32: ≥ 3×", 3, True, LARGE, lambda r: ratio(r, "compiled", "cpu")),
    Goal(
        "cpu against the textbook baseline, N = 32: ≥ 50×",
        *(50, True, _narrow(_cells("time", width=32), 32)),
        lambda r: ratio(r, "textbook", "cpu"),
    ),
    Goal(
        "cpu: useful flops against the machine's large sgemm, N, L ≥ 32: ≥ 0.75",
        *(0.75, True, LARGE),
        lambda r: share(r, "cpu"),
    ),
    Goal(
        "cpu: two threads against one, N, L ≥ 32: ≥ 1.7×",
        *(1.7, True, _cells("time", threads=None, width=32, depth=32)),
        lambda r: ratio(r, "cpu, 1 thread", "cpu"),
    ),
    Goal("torch: three replicas against three runs, N ≤ 32: ≥ 1.3×", 1.3, True, _narrow(ONE, 32), _packing("torch")),
    # As fast, to the spread of the timings.
    Goal("cpu: three replicas against three runs: ≥ 0.97×", 0.97, True, ONE, _packing("cpu")),
    Goal("torch against the reference: ≥ 1.5×", 1.5, True, ONE, lambda r: ratio(r, "reference", "torch")),
    Goal(
        "cpu: a whole training step against the gradient alone, N, L ≥ 32: ≤ 1.15×",
        *(1.15, False, LARGE),
        lambda r: ratio(r, "cpu, training", "cpu"),
    ),
    Goal(
        "cpu: a whole training step of three replicas against three, N = 8: ≥ 1.3×",
        *(1.3, True, _narrow(ONE, 8)),
        _packing("cpu, training"),
    ),
    Goal(
        "cpu: extra memory of a gradient: ≤ 3 activity-sized buffers",
        *(3, False, _cells("memory", width=32, depth=32)),
        lambda r: r["buffers"].get("cpu"),
    ),
)


def _cuda(width: int, depth: int) -> Callable[[Record], bool]:
    return lambda r: r["cell"]["device"] != "cpu" and (r["cell"]["width"], r["cell"]["depth"]) == (width, depth)


CUDA_GOALS = (
    Goal(
        "a PC-ALM gradient against eager BP, N = 32, L = 128, one replica: ≤ 3×",
        *(3, False, _cuda(32, 128)),
        lambda r: ratio(r, packed(fastest(r, 1), 1), packed("bp", 1)),
    ),
    Goal(
        "64 replicas: useful flops against the device's batched product, N = 32, L = 128: ≥ 0.5",
        *(0.5, True, _cuda(32, 128)),
        lambda r: device_share(r, fastest(r, 64), 64),
    ),
)


def limit(record: Record, best: float) -> str:
    """What keeps the cpu engine from the best rate that it has anywhere (in useful flops per second)."""
    own = rate(record, "cpu")
    if own is None:
        return DASH
    if own >= 0.75 * best:
        return "products"
    width, depth = record["cell"]["width"], record["cell"]["depth"]
    # The input layer's product and its gradient's; the feed-forward pass and the other weight gradients.
    besides = 4 * BATCH * width * INPUTS + 4 * BATCH * width**2 * depth
    return "what is done once a call" if besides >= useful_flops(record) / 4 else "elementwise work, short rows"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    try:
        from tabulate import tabulate
    except ImportError:  # it is not needed to measure
        lines = [headers, ["---"] * len(headers), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _milliseconds(record: Record, name: str) -> str:
    taken = seconds(record, name)
    return DASH if taken is None else f"{1e3 * taken:.3g}"


def _times(figure: Figure) -> str:
    return DASH if figure is None else f"{figure:.2g}×" if figure < 10 else f"{figure:.0f}×"


def _percent(figure: Figure) -> str:
    return DASH if figure is None else f"{100 * figure:.0f} %"


def _shape(record: Record) -> list[str]:
    return [str(record["cell"]["width"]), str(record["cell"]["depth"])]


def _cpu_times(records: list[Record]) -> str:
    names = ("textbook", "compiled", "reference", "torch", "cpu", "bp")
    rows = [[*_shape(record), *(_milliseconds(record, name) for name in names)] for record in records]
    return _table(["N", "L", *names], rows)


def _cpu_ratios(records: list[Record]) -> str:
    headers = ["N", "L", "textbook / cpu", "compiled / cpu", "reference / torch", "cpu / bp", "cpu of sgemm"]
    best = max((own for record in records if (own := rate(record, "cpu"))), default=0.0)
    headers += ["torch, 3 packed", "cpu, 3 packed", "cpu, threads", "step / gradient", "limit of cpu"]
    rows = [
        [
            *_shape(record),
            _times(ratio(record, "textbook", "cpu")),
            _times(ratio(record, "compiled", "cpu")),
            _times(ratio(record, "reference", "torch")),
            _times(ratio(record, "cpu", "bp")),
            _percent(share(record, "cpu")),
            _times(_packing("torch")(record)),
            _times(_packing("cpu")(record)),
            _times(ratio(record, "cpu, 1 thread", "cpu")),
            _times(ratio(record, "cpu, training", "cpu")),
            limit(record, best),
        ]
        for record in records
    ]
    return _table(headers, rows)


def _memory(records: list[Record]) -> str:
    names = ("reference", "torch", "cpu")
    rows = [
        [*_shape(record), *(f"{record['buffers'][n]:.1f}" if n in record["buffers"] else DASH for n in names)]
        for record in records
    ]
    return _table(["N", "L", *names], rows)


def _gpu(records: list[Record]) -> str:
    names = ("torch eager", "torch", "triton", "bp", "bp graph")
    rows = []
    for record in records:
        for replicas in CUDA_REPLICAS:
            best = fastest(record, replicas)
            rows.append(
                [
                    *(*_shape(record), str(replicas)),
                    *(_milliseconds(record, packed(name, replicas)) for name in names),
                    _times(ratio(record, packed(best, replicas), packed("bp", replicas))),
                    _percent(device_share(record, best, replicas)),
                ]
            )
    return _table(["N", "L", "replicas", *names, "best / bp", "best of bmm"], rows)


def _missing(records: Iterable[Record]) -> Iterator[str]:
    """Every reason for a dash, once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in records:
        for name, reason in record["missing"].items():
            reasons.setdefault((name, reason), []).append(_place(record))
    for (name, reason), places in reasons.items():
        yield f"- no figure for {name}: {reason} ({len(places)} cells, from {places[0]})"


def _disturbed(records: Iterable[Record]) -> Iterator[str]:
    """A warning where the machine had other things to do, so that even the best time may not be the engine's own."""
    places = [_place(record) for record in records if record.get("preempted", 0) > BUSY]
    if places:
        yield f"Not to be relied on, measured while other programs took the CPU: {', '.join(places)}."


def _machine(record: Record) -> str:
    found = record["machine"]
    gpu = f"{found['gpu']}, " if "gpu" in found else ""
    return f"{gpu}{found['cpu']}, {found['cores']} cores, {found['vectors']}, torch {found['torch']}"


def _sections(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """(title, text) of everything there is to show."""
    ordered = sorted(records, key=lambda record: (record["cell"]["width"], record["cell"]["depth"]))
    times = [record for record in ordered if record["cell"]["kind"] == "time"]
    for device, threads in sorted({(record["cell"]["device"], record["cell"]["threads"]) for record in times}):
        part = [
            record for record in times if (record["cell"]["device"], record["cell"]["threads"]) == (device, threads)
        ]
        about, remarks = _machine(part[0]), [*_disturbed(part), "\n".join(_missing(part))]
        if device == "cpu":
            products = [product for record in part if (product := sgemm_rate(record))]
            about += f"; large sgemm {max(products, default=0) / 1e9:.0f} Gflop/s"
            title = f"On the CPU, {threads} thread{'s' if threads > 1 else ''}, milliseconds per gradient"
            text = [about, _cpu_times(part), _cpu_ratios(part), *remarks]
        else:
            title, text = f"On {device}, milliseconds per gradient", [about, _gpu(part), *remarks]
        yield title, "\n\n".join(filter(None, text))
    memory = [record for record in ordered if record["cell"]["kind"] == "memory"]
    if memory:
        yield "Extra memory of a gradient, in sizes of the activities", _memory(memory)
    devices = {record["cell"]["device"] == "cpu" for record in records}
    goals = [goal for on_cpu, part in ((True, CPU_GOALS), (False, CUDA_GOALS)) if on_cpu in devices for goal in part]
    rows = [goal.verdict(ordered) for goal in goals]
    yield "Goals", _table(["goal", "verdict", "worst", "cells that fall short"], rows)


def report(records: Sequence[Record]) -> str:
    """What `make speed` prints."""
    if not records:
        return "nothing has been measured"
    return "\n\n".join(f"{title}\n\n{text}" for title, text in _sections(records))


ABOUT = f"""One PC-ALM gradient: relu, batch {BATCH}, T = 2L, float32, D = {INPUTS}, C = 10; `bp` is backpropagation of
the same network by autograd. All contenders of a cell ran in turns in one process, the best time of each counts, and
none has a time that does not agree with the reference (`benchmarks/gate.py`). Made by `python -m benchmarks.speed
--render` from the records of `python -m benchmarks.speed`.

- `textbook`: a list of layers, and autograd of the energy; `compiled`: `torch.compile` of one iteration on stacked
  layers.
- `cpu of sgemm`: useful flops, 0.75·4·B·N²·L·T, per second, against a large product by torch or numpy, whichever is
  faster. It can be more than 100 %, since these libraries are not at their best on every CPU.
- `3 packed`: three replicas in one call against three calls. Packing saves what an operation costs besides its work;
  once the work is much more than that, it saves nothing, and three working sets fit the cache worse than one.
- `threads`: all threads of that table against one, in the same process.
- `step / gradient`: a whole training step (batch, gradient, checks, Adam) in gradients alone.
- `limit of cpu`: "products" where the engine is within a quarter of the best rate that it has in the table; "what is
  done once a call" where the input layer, the feed-forward pass and the weight gradients are a fifth of all flops or
  more; else the work on each element, beside products that a row of N floats is too short for.
"""


def page(records: Sequence[Record]) -> str:
    """The performance page, in Markdown.

    Raises:
        ValueError: there are no records.
    """
    if not records:
        raise ValueError("there are no records to make the page from; measure first: python -m benchmarks.speed")
    sections = "\n\n".join(f"## {title}\n\n{text}" for title, text in _sections(records))
    return f"# Performance\n\n{ABOUT}\n{sections}\n"
