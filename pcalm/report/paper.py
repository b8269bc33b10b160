"""What the authors report, to stand beside our own figures: Seely & Gould, arXiv:2605.31022."""

from __future__ import annotations

# Fashion-MNIST, relu, N = L = 32, one epoch, T = 2L, seed 0.
CELL = {
    "network": "mlp",
    "loss": "squared",
    "validation": 0.0,
    "dataset": "fashion-mnist",
    "activation": "relu",
    "width": 32,
    "depth": 32,
    "epochs": 1,
}
BUDGET = 2.0
SEED = 0
# method: (test accuracy, gradient cosine to BP after training)
FIGURES: dict[str, tuple[float, float | None]] = {"bp": (0.787, None), "pc": (0.681, 0.60), "pcalm": (0.778, 0.91)}
