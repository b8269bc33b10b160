"""The model: a residual MLP without biases in the mean-field parameterisation.

    z_1 = s_1 x W_1ᵀ                                  (no activation on the input, no skip)
    z_l = z_{l-1} + s_l φ(z_{l-1}) W_lᵀ               2 ≤ l ≤ L−1
    out = s_L φ(z_{L-1}) W_Lᵀ                         (no skip)

with s_1 = 1/√D, s_l = 1/√(N·L), s_L = 1/N, and weights stored unscaled. Every formula works on the last
dimensions, so that an optional leading replica dimension [R, ...] runs R independent networks of one shape in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pcalm.checks import choice, finite, integer, items, require
from pcalm.surroundings import independent, plain

Map = Callable[[Tensor], Tensor]
# φ and φ' by name, both functions of the pre-activation; φ'(0) = 0 for relu.
ACTIVATIONS: dict[str, tuple[Map, Map]] = {
    "linear": (lambda z: z, torch.ones_like),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
}
DTYPES = (torch.float32, torch.float64)


def resolve_device(device: str | torch.device) -> torch.device:
    """The device, or an error that says why this machine does not have it.

    Raises:
        ValueError: no such kind of device, or none on this machine.
    """
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"device must be such as 'cpu', 'cuda' or 'cuda:0', got {device!r}") from error
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # torch takes an index modulo 256, into negative numbers too.
        named = not isinstance(device, str) or device in ("cuda", f"cuda:{resolved.index}")
        require(
            named and 0 <= (resolved.index or 0) < count,
            f"device {str(device)!r} is not on this machine (torch {torch.__version__} sees {count} CUDA devices); "
            "use device='cpu', or install a CUDA wheel of torch (see the README)",
        )
    elif resolved.type == "cpu":
        require(resolved.index in (None, 0), f"device must be 'cpu', which has no numbers, got {str(device)!r}")
        return torch.device("cpu")
    elif resolved.type == "meta":
        raise ValueError("device must be one that holds numbers, and 'meta' holds shapes alone; use 'cpu'")
    else:
        try:
            torch.empty(0, device=resolved)
        except Exception as error:
            reason = str(error).partition(". ")[0] or type(error).__name__
            raise ValueError(f"device {str(device)!r} does not work on this machine: {reason}; use 'cpu'") from error
    return resolved


def _fits(weights: int, shapes: Sequence[tuple[int, ...]], seeds: int) -> None:
    """Refuses a network whose weights, in float32, are more than the memory of this machine."""
    size = 4 * weights
    if size > 2**30:
        import psutil  # not at the top: only large networks need it

        total = psutil.virtual_memory().total
        require(
            size <= total,
            f"depth, width, input_dim, output_dim and seed must give weights that fit into memory: shapes {shapes} for "
            f"{seeds} seeds take {size / 2**30:.3g} GiB, and this machine has {total / 2**30:.3g}",
        )


def scales(input_weight: Tensor, hidden_weight: Tensor, output_weight: Tensor) -> tuple[float, float, float]:
    """s_1 = 1/√D, s_l = 1/√(N·L) and s_L = 1/N."""
    width, depth = input_weight.shape[-2], hidden_weight.shape[-3] + 2
    return 1 / math.sqrt(input_weight.shape[-1]), 1 / math.sqrt(width * depth), 1 / width


class ResidualMLP(nn.Module):
    """Residual MLP with L = `depth` weight matrices and N = `width` units in every hidden layer.

    Args:
        depth: L ≥ 3, the number of weight matrices.
        width: N ≥ 1.
        input_dim: D ≥ 1.
        output_dim: C ≥ 1.
        activation: "linear", "tanh" or "relu".
        seed: draws all weights from N(0, 1) with a CPU generator in float32, in the order W_1, the stack W_2..W_{L-1},
            W_L, so that a seed is the same network on every device and in every dtype. A sequence of R seeds makes
            R replicas: every weight then has a leading dimension R, as have inputs, states and gradients.
        dtype: torch.float32 or torch.float64.
        device: where the weights live.

    Attributes:
        input_weight: W_1, parameter [N, D].
        hidden_weight: W_2..W_{L-1} stacked, parameter [L−2, N, N].
        output_weight: W_L, parameter [C, N].
        scales: the three fixed scales (s_1, s_2 = … = s_{L-1}, s_L).

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    @independent
    def __init__(
        self,
        depth: int,
        width: int,
        input_dim: int = 784,
        output_dim: int = 10,
        activation: str = "relu",
        *,
        seed: int | Sequence[int] = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        depth, width = integer("depth", depth, 3), integer("width", width, 1)
        input_dim, output_dim = integer("input_dim", input_dim, 1), integer("output_dim", output_dim, 1)
        choice("activation", activation, ACTIVATIONS)
        choice("dtype", dtype, DTYPES)
        where = resolve_device(device)
        shapes = [(width, input_dim), (depth - 2, width, width), (output_dim, width)]
        several = items(seed)
        seeds = [integer("seed", one, 0) for one in ([seed] if several is None else several)]
        require(len(seeds) > 0, f"seed must be an integer or at least one of them, got {seed!r}")
        _fits(len(seeds) * sum(math.prod(shape) for shape in shapes), shapes, len(seeds))
        drawn = []
        for number in seeds:
            generator = torch.Generator("cpu").manual_seed(number)
            drawn.append(
                [torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for shape in shapes]
            )
        parts = drawn[0] if several is None else [torch.stack(part) for part in zip(*drawn, strict=True)]
        super().__init__()
        self._adopt([part.to(device=where, dtype=dtype) for part in parts], activation)

    def _adopt(self, parts: Sequence[Tensor], activation: str) -> None:
        self.activation: str = choice("activation", activation, ACTIVATIONS)
        self.input_weight, self.hidden_weight, self.output_weight = (nn.Parameter(part) for part in parts)
        self.scales = scales(*parts)

    @classmethod
    @independent
    def from_weights(cls, weights: Sequence[Tensor], activation: str = "relu") -> ResidualMLP:
        """A network with a copy of the given weights.

        Args:
            weights: L ≥ 3 tensors [out, in]: [N, D], L−2 times [N, N], [C, N]; for R replicas each with a leading R.
            activation: as in the constructor.

        Raises:
            ValueError: fewer than three weights, weights that do not chain, of mixed dtype or device, or not finite.
        """
        weights = list(weights)
        require(len(weights) >= 3, f"weights must be at least 3 matrices (depth >= 3), got {len(weights)}")
        for number, weight in enumerate(weights, 1):
            plain(f"weights[{number - 1}]", weight)
            resolve_device(weight.device)
        first, last = weights[0], weights[-1]
        require(first.ndim in (2, 3), f"weights[0] must be [N, D] or [R, N, D], got shape {list(first.shape)}")
        choice("weights[0].dtype", first.dtype, DTYPES)
        lead, width = list(first.shape[:-2]), first.shape[-2]
        for index, weight in enumerate(weights):
            rows = last.shape[-2] if index == len(weights) - 1 and last.ndim >= 2 else width
            columns = first.shape[-1] if index == 0 else width
            require(
                list(weight.shape) == [*lead, rows, columns] and weight.numel() > 0,
                f"weights must chain as [N, D], [N, N], ..., [C, N] with N = {width}: "
                f"weights[{index}] has shape {list(weight.shape)}, expected {[*lead, rows, columns]}",
            )
            require(
                weight.dtype == first.dtype and weight.device == first.device,
                f"weights must share one dtype and device: weights[{index}] is {weight.dtype} on {weight.device}, "
                f"weights[0] is {first.dtype} on {first.device}",
            )
            finite(f"weights[{index}]", weight)
        net = cls.__new__(cls)
        nn.Module.__init__(net)
        hidden = torch.stack([weight.detach() for weight in weights[1:-1]], dim=-3)
        net._adopt([first.detach().clone(), hidden, last.detach().clone()], activation)
        return net

    @property
    def depth(self) -> int:
        return self.hidden_weight.shape[-3] + 2

    @property
    def width(self) -> int:
        return self.input_weight.shape[-2]

    @property
    def input_dim(self) -> int:
        return self.input_weight.shape[-1]

    @property
    def output_dim(self) -> int:
        return self.output_weight.shape[-2]

    @property
    def replicas(self) -> int | None:
        """R for a network with a leading replica dimension, else None."""
        return self.input_weight.shape[0] if self.input_weight.ndim == 3 else None

    @property
    def dtype(self) -> torch.dtype:
        return self.input_weight.dtype

    @property
    def device(self) -> torch.device:
        return self.input_weight.device

    @property
    def weights(self) -> list[Tensor]:
        """W_1..W_L, unscaled, each [out, in] (with replicas [R, out, in]); views of the parameters."""
        return [self.input_weight, *self.hidden_weight.unbind(-3), self.output_weight]

    def replica(self, index: int) -> ResidualMLP:
        """Replica `index` as a network of its own (a copy)."""
        require(self.replicas is not None, "replica() needs a network with replicas: give ResidualMLP several seeds")
        return ResidualMLP.from_weights([weight[index] for weight in self.weights], self.activation)

    def phi(self, z: Tensor) -> Tensor:
        """The activation φ, elementwise."""
        return ACTIVATIONS[self.activation][0](z)

    def dphi(self, z: Tensor) -> Tensor:
        """The derivative φ', elementwise; φ'(0) = 0 for relu."""
        return ACTIVATIONS[self.activation][1](z)

    def feedforward(self, x: Tensor) -> Tensor:
        """The feed-forward states z_1..z_{L-1} of inputs [..., B, D], stacked [..., L−1, B, N]."""
        s_in, s, _ = self.scales
        states = [s_in * x @ self.input_weight.mT]
        for weight in self.hidden_weight.unbind(-3):
            states.append(states[-1] + s * self.phi(states[-1]) @ weight.mT)
        return torch.stack(states, dim=-3)

    def readout(self, top: Tensor) -> Tensor:
        """out = s_L φ(z_{L-1}) W_Lᵀ for z_{L-1} of shape [..., B, N]: [..., B, C]."""
        return self.scales[2] * self.phi(top) @ self.output_weight.mT

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [..., B, C] for inputs [..., B, D]; differentiable."""
        return self.readout(self.feedforward(x)[..., -1, :, :])

    def extra_repr(self) -> str:
        replicas = "" if self.replicas is None else f", replicas={self.replicas}"
        return (
            f"depth={self.depth}, width={self.width}, input_dim={self.input_dim}, output_dim={self.output_dim}, "
            f"activation={self.activation!r}, dtype={self.dtype}{replicas}"
        )
