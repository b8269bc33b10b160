"""What conformance/peers/jpc_adapter.py calls of optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class GradientTransformation(NamedTuple):
    init: Callable[..., Any]
    update: Callable[..., Any]


def sgd(learning_rate: Any) -> GradientTransformation:
    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda grad: -learning_rate * grad, grads), state

    return GradientTransformation(lambda params: (), update)
