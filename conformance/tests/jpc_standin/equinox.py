"""What conformance/peers/jpc_adapter.py calls of equinox, for models that hold nothing but arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

filter_jit = jax.jit
filter_value_and_grad = jax.value_and_grad


def tree_at(where: Callable[[Any], Any], tree: Any, replace: Any) -> Any:
    """The tree with one of its leaves replaced."""
    chosen = where(tree)
    return jax.tree.map(lambda leaf: replace if leaf is chosen else leaf, tree)
