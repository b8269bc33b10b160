"""A grid of training runs: which runs it has, what they cost, and how they are packed into passes.

    grid = Grid(widths=(8, 16), depths=(8, 16, 32))        or read_toml(path), or PRESETS["quick"]
    grid.runs()                                            every run, with the key of its record
    pack(runs, workers)                                    runs of one shape as replicas, the longest pass first

`pcalm.experiments.scheduling` runs them.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pcalm.blocks import LOSSES
from pcalm.checks import choice, integer, items, number, require
from pcalm.engines import choose
from pcalm.experiments import records
from pcalm.experiments.config import AUTO, OWN, STEP_SIZES, TrainingConfig
from pcalm.experiments.data import NAMES
from pcalm.experiments.networks import NETWORKS, PHI
from pcalm.experiments.training import PROBE, made
from pcalm.methods import anchored

# The methods of a grid by name: what each sets in a TrainingConfig, at depth L.
SETTINGS: dict[str, Callable[[int], dict[str, Any]]] = {
    "bp": lambda depth: {"method": "bp"},
    "pc": lambda depth: {"method": "pc"},
    "pcalm": lambda depth: {"method": "pcalm"},
    "anchored": lambda depth: {"method": "pcalm", **anchored(depth)},
    "gauged": lambda depth: {"method": "pcalm", "gauge": "credit", **anchored(depth)},
}


@dataclass(frozen=True)
class Planned:
    """A run of a grid.

    Attributes:
        setting: its method's name in SETTINGS.
        config: its whole configuration; the engine is never "auto".
        key: that of its record.
    """

    setting: str
    config: TrainingConfig
    key: str

    @property
    def title(self) -> str:
        config = self.config
        steps = "" if config.method == "bp" else f" T={config.steps}"
        network = "" if config.network == "mlp" else f" {config.network}"
        loss = "" if config.loss == NETWORKS[config.network].loss else f" {config.loss}"
        return (
            f"{self.setting}{network}{loss} {config.dataset} N={config.width} L={config.depth} {config.activation}"
            f"{steps} seed {config.seed}"
        )


Pack = list[Planned]


@dataclass(frozen=True)
class Grid:
    """Every combination of the given values.

    Args:
        networks, losses, datasets, widths, depths, activations, seeds: as in `TrainingConfig`; "auto" is the network's
            own loss and activation.
        methods: names in SETTINGS: "bp", "pc", "pcalm" (the paper's settings), "anchored" (`methods.anchored`),
            whose step size is tracked, and "gauged" (the same in a gauge that follows the credit).
        budgets: T in multiples of L, rounded to whole steps. BP has no budget, and one run for all of them.
        epochs, lr, batch_size, log_every, engine, device, dtype, validation: of all runs, as in `TrainingConfig`;
            an lr of None is the network's own.
        step_size: how all methods find η, "start" or "tracked"; None is each method's own way.

    Raises:
        ValueError: an empty list, an unknown method or a budget that is not positive; the message names it.
    """

    networks: tuple[str, ...] = ("mlp",)
    losses: tuple[str, ...] = (AUTO,)
    datasets: tuple[str, ...] = ("digits",)
    widths: tuple[int, ...] = (32,)
    depths: tuple[int, ...] = (32,)
    activations: tuple[str, ...] = (AUTO,)
    methods: tuple[str, ...] = ("bp", "pc", "pcalm", "anchored")
    seeds: tuple[int, ...] = (0, 1, 2)
    budgets: tuple[float, ...] = (2.0,)
    epochs: int = 1
    lr: float | None = None
    batch_size: int = 64
    log_every: int = 10
    engine: str = "auto"
    device: str = "cpu"
    dtype: str = "float32"
    validation: float = 0.0
    step_size: str | None = None

    def __post_init__(self) -> None:
        checks: dict[str, Callable[[Any], Any]] = {
            "datasets": lambda value: choice("datasets", value, NAMES),
            "widths": lambda value: integer("widths", value, 1),
            "depths": lambda value: integer("depths", value, 3),
            "networks": lambda value: choice("networks", value, NETWORKS),
            "losses": lambda value: choice("losses", value, (AUTO, *LOSSES)),
            "activations": lambda value: choice("activations", value, (AUTO, *PHI)),
            "methods": lambda value: choice("methods", value, SETTINGS),
            "seeds": lambda value: integer("seeds", value, 0),
            "budgets": lambda value: number("budgets", value, positive=True),
        }
        for name, check in checks.items():
            values = items(getattr(self, name))
            require(
                values is not None and len(values) > 0,
                f"{name} must be a list of at least one value, got {getattr(self, name)!r}",
            )
            object.__setattr__(self, name, tuple(map(check, values or ())))
        # The settings that all runs share are checked, and made plain, by a configuration.
        if self.step_size is not None:
            object.__setattr__(self, "step_size", choice("step_size", self.step_size, STEP_SIZES))
        shared = TrainingConfig(method="bp", **{name: getattr(self, name) for name in SHARED})
        for name in SHARED:
            if name != "step_size" and getattr(self, name) is not None:
                object.__setattr__(self, name, getattr(shared, name))

    def runs(self) -> list[Planned]:
        """Every run once, with the engine that "auto" stands for on this machine.

        Raises:
            ValueError: a value that `TrainingConfig` refuses; the message names it.
        """
        shared = {name: getattr(self, name) for name in SHARED}
        engines = {each: self._engine(*each) for each in product(self.networks, self.losses)}
        found: dict[str, Planned] = {}
        for network, loss, dataset, width, depth, activation, setting, seed, budget in product(
            *(self.networks, self.losses, self.datasets, self.widths, self.depths, self.activations, self.methods),
            *(self.seeds, self.budgets),
        ):
            own: dict[str, Any] = {"network": network, "loss": loss, "dataset": dataset, "width": width}
            own |= {"activation": activation, "seed": seed, "depth": depth, **SETTINGS[setting](depth)}
            if own["method"] != "bp":
                own["steps"] = max(1, round(number("budgets · depths", budget * depth, positive=True)))
            config = TrainingConfig(**shared | own | {"engine": engines[network, loss]})
            key = records.key_of(config.resolved())
            found.setdefault(key, Planned(setting, config, key))
        return list(found.values())

    def _engine(self, network: str, loss: str) -> str:
        smallest = TrainingConfig(network=network, loss=loss, depth=3, width=1, dtype=self.dtype, device=self.device)
        return choose(self.engine, made([smallest], pixels=64, classes=10))


AXES = ("networks", "losses", "datasets", "widths", "depths", "activations", "methods", "seeds", "budgets")
SHARED = tuple(field.name for field in dataclasses.fields(Grid) if field.name not in AXES)

SIZES = (8, 16, 32, 64, 128)
PRESETS = {
    # What can be seen in minutes: PC falls behind as networks get deeper, PC-ALM does not.
    "quick": Grid(widths=(8, 16, 32), depths=(8, 16, 32), epochs=20, lr=1e-2),
    "paper": Grid(
        datasets=("fashion-mnist",), widths=SIZES, depths=SIZES, activations=("linear", "tanh", "relu"), epochs=1
    ),
}


def read_toml(path: str | Path) -> dict[str, Any]:
    """The settings in a TOML file, named as the arguments of `Grid`: widths = [8, 16], epochs = 20, ...

    Raises:
        ValueError: no such file, no TOML, or an unknown name; the message names it.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"file must be a TOML file, got {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no TOML file: {error}") from error
    names = (*AXES, *SHARED)
    for name in settings:
        require(name in names, f"{path} sets {name!r}, which a grid does not have; it has {', '.join(names)}")
    return settings


def cost(config: TrainingConfig) -> float:
    """The seconds that a run takes on one core of the machine on which these constants were fitted (digits and
    Fashion-MNIST, N and L from 8 to 128, engine "cpu"; within a factor of 1.5 there).

    Elsewhere only the ratios matter: they order the passes, and a grid in progress scales them to what it measured.
    """
    samples, tests, inputs = (1440, 357, 64) if config.dataset == "digits" else (60_000, 10_000, 784)
    if config.of_blocks:
        return _cost_of_blocks(config, samples, tests)
    width, depth, batch = config.width, config.depth, config.batch_size
    weights = width * inputs + (depth - 2) * width**2 + 10 * width
    update = 1e-4 + 6e-11 * batch * weights  # feed-forward pass, weight gradients, Adam
    epoch = tests * (2.3e-11 * weights + 1e-9 * depth * width)
    if config.method != "bp":
        assert config.steps is not None
        state = batch * depth * width
        update += config.steps * config.inner_steps * state * (1.2e-11 * width + 9e-11)
        epoch += 64 * PROBE * depth * width * (1.1e-10 * width + 5.7e-9)  # λ_max for the margin
    return config.epochs * (samples // batch * update + epoch)


# Seconds of a step of inference in a block: of a call, and for each sample and unit of width.
BLOCK = {"mlp": (1e-4, 2e-8), "conv": (4e-5, 1e-6), "transformer": (8e-4, 4e-7)}


def _cost_of_blocks(config: TrainingConfig, samples: int, tests: int) -> float:
    """The same for networks of blocks, in steps of inference (L = 16, N from 4 to 32, within a factor of 2 there).

    BP takes three, a look at λ_max and the gauge eight, and an iteration towards a λ_max found anew four.
    """
    call, unit = BLOCK[config.network.removeprefix("plain-")]

    def seconds(batch: int) -> float:
        return config.depth * (call + unit * config.width * batch)

    update, epoch = 3 * seconds(config.batch_size), 0.3 * seconds(tests)
    if config.method != "bp":
        assert config.steps is not None
        update += config.steps * config.inner_steps * seconds(config.batch_size)
        update += 8 * seconds(PROBE) if config.step_size == "tracked" else 0
        epoch += 64 * 4 * seconds(PROBE)
    return config.epochs * (samples // config.batch_size * update + epoch)


# What a pass with several replicas saves is the overhead of each call, and what it costs is the cache: measured with
# one thread, 3 replicas took half the time of 3 single runs at N = L = 8, and as long at N = L = 32.
LARGEST_PASS = 8
LARGEST_REPLICA = 32 * 32**2


def pack(runs: Iterable[Planned], workers: int) -> list[Pack]:
    """The runs in passes of equal shape, the longest pass first.

    Only where a run's result is the same, bit for bit, however it is packed: that is engine "cpu" on a CPU. Passes stay
    small enough to keep all workers busy.
    """
    shapes: dict[tuple[Any, ...], Pack] = {}
    for run in runs:
        config = run.config
        shape = tuple(value for name, value in vars(config).items() if name not in OWN)
        shapes.setdefault((run.setting, *shape) if _packable(config) else (run.key,), []).append(run)
    share = sum(cost(each[0].config) * len(each) for each in shapes.values()) / (2 * workers)
    packs = []
    for each in shapes.values():
        most = max(1, min(LARGEST_PASS, int(share / cost(each[0].config))))
        packs += [each[start : start + most] for start in range(0, len(each), most)]
    return sorted(packs, key=pack_cost, reverse=True)


def pack_cost(runs: Collection[Planned]) -> float:
    return sum(cost(run.config) for run in runs)


def _packable(config: TrainingConfig) -> bool:
    small = config.depth * config.width**2 < LARGEST_REPLICA
    return small and config.engine == "cpu" and config.device == "cpu"
