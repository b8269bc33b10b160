"""fabricpc 0.6.0: BP and PC by its graph, its inference and its local weight gradients.

Deviates in: its nodes put the activation behind the weights, and its own μPC counts merge nodes as depth (L − 2 of
them here), so the network is made of a node of ours that has the protocol's scales; what computes is fabricpc's. A
precision must be a Python number there, so every new penalty compiles anew; step size and number of steps do not.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fabricpc.core.activations import IdentityActivation, ReLUActivation, TanhActivation
from fabricpc.core.energy import GaussianEnergy
from fabricpc.core.inference import InferenceSGD, run_inference
from fabricpc.core.topology import Edge
from fabricpc.core.types import GraphParams, GraphStructure, NodeParams
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization.state_initializer import initialize_graph_state
from fabricpc.nodes import IdentityNode
from fabricpc.nodes.base import NodeBase, SlotSpec
from fabricpc.training.trainer import _batch_grads, pc_weight_gradients
from jax_library import Array, JaxLibrary, Program, start
from pcalm_conformance.protocol import Problem

PHI = {"linear": IdentityActivation, "tanh": TanhActivation, "relu": ReLUActivation}


class Block(NodeBase):
    """A node whose prediction is s φ(z) Wᵀ, plus z where it has a skip connection."""

    def __init__(self, width: int, name: str, scale: float, skip: bool, activation: Any, precision: float) -> None:
        super().__init__(
            shape=(width,),
            name=name,
            activation=activation,
            energy=GaussianEnergy(precision=precision),
            scale=scale,
            skip=skip,
        )

    @staticmethod
    def get_slots() -> dict[str, SlotSpec]:
        return {"in": SlotSpec(name="in", is_multi_input=False)}

    @staticmethod
    def initialize_params(*_: Any) -> NodeParams:
        raise NotImplementedError("the weights are the problem's")

    @staticmethod
    def predict(params: NodeParams, inputs: dict[str, Array], state: Any, node_info: Any) -> tuple[Array, None]:
        ((edge, z),) = inputs.items()
        activation, settings = node_info.activation, node_info.node_config
        change = settings["scale"] * type(activation).forward(z, activation.config) @ params.weights[edge]
        return (z + change if settings["skip"] else change), None


def names(weights: list[Array]) -> list[str]:
    """Of the nodes above the input."""
    return [f"layer{layer}" for layer in range(1, len(weights))] + ["output"]


def chain(
    weights: list[Array], activation: str, penalties: tuple[float, ...], inference: InferenceSGD
) -> tuple[GraphStructure, GraphParams]:
    """The protocol's network: its graph and its parameters."""
    (width, inputs), depth = weights[0].shape, len(weights)
    phi = PHI[activation]()
    nodes = [IdentityNode(shape=(inputs,), name="input")]
    params = {"input": NodeParams(weights={}, biases={})}
    edges = []
    for layer, (name, weight) in enumerate(zip(names(weights), weights, strict=True), start=1):
        top = layer == depth
        scale = inputs**-0.5 if layer == 1 else 1 / width if top else (width * depth) ** -0.5
        node = Block(
            len(weight),
            name,
            scale,
            skip=1 < layer < depth,
            activation=IdentityActivation() if layer == 1 else phi,
            precision=1.0 if top else penalties[layer - 1],
        )
        edges.append(Edge(source=nodes[-1], target=node.slot("in")))
        params[name] = NodeParams(weights={f"{nodes[-1].name}->{name}:in": weight.T}, biases={})
        nodes.append(node)
    tasks = TaskMap(x=nodes[0], y=nodes[-1])
    return graph(nodes=nodes, edges=edges, task_map=tasks, inference=inference), GraphParams(nodes=params)


def in_order(gradients: GraphParams, state: Any, weights: list[Array]) -> tuple[list[Array], list[Array]]:
    """The hidden states, and the gradients shaped as the weights."""
    per_node = [next(iter(gradients.nodes[name].weights.values())).T for name in names(weights)]
    return [state.nodes[name].z_latent for name in names(weights)[:-1]], per_node


@functools.partial(jax.jit, static_argnames=["activation"])
def backprop(weights: list[Array], x: Array, y: Array, activation: str) -> tuple[list[Array], list[Array]]:
    structure, params = chain(weights, activation, (1.0,) * len(weights), InferenceSGD())
    gradients, _, state = _batch_grads(params, {"x": x, "y": y}, structure, jax.random.key(0), algorithm="backprop")
    return in_order(gradients, state, weights)


@functools.partial(jax.jit, static_argnames=["activation", "penalties"])
def infer(
    weights: list[Array],
    x: Array,
    y: Array,
    initial: Array,
    cold: Array,
    steps: Array,
    step_size: Array,
    activation: str,
    penalties: tuple[float, ...],
) -> tuple[list[Array], list[Array]]:
    """Hidden states and weight gradients after the whole budget; `cold`: from the feed-forward states."""
    structure, params = chain(weights, activation, penalties, InferenceSGD(eta_infer=step_size, infer_steps=steps))
    clamps = {"input": x, "output": y}
    state = initialize_graph_state(structure, len(x), jax.random.key(0), clamps=clamps, params=params)
    nodes = dict(state.nodes)
    for name, z in zip(names(weights)[:-1], initial, strict=True):
        nodes[name] = nodes[name]._replace(z_latent=jnp.where(cold, nodes[name].z_latent, z))
    state = run_inference(params, state._replace(nodes=nodes), clamps, structure)
    return in_order(pc_weight_gradients(params, state, structure, clamps), state, weights)


class Fabricpc(JaxLibrary):
    """One compiled program per shape, activation, penalty and precision, and another for BP."""

    name = "fabricpc"

    def supports(self, problem: Problem) -> bool:
        one_rate = not isinstance(problem.step_size, tuple)  # its inference has one rate for all nodes
        return problem.method == "bp" or (problem.method == "pc" and one_rate)

    def program(self, problem: Problem) -> Program:
        double = problem.dtype == "float64"  # the library's own arrays have JAX's default precision
        with jax.enable_x64(double):
            network = jax.device_put((list(problem.weights), problem.inputs, problem.targets))
            if problem.method == "bp":
                call = functools.partial(backprop, *network, problem.activation)
            else:
                penalties = tuple(np.broadcast_to(problem.penalty, len(problem.weights) - 1).tolist())
                budget = jnp.asarray(problem.steps), jnp.asarray(problem.step_size, problem.dtype)
                call = functools.partial(infer, *network, *start(problem), *budget, problem.activation, penalties)

        def run() -> tuple[list[Array], list[Array]]:
            with jax.enable_x64(double):
                return call()

        return run


impl = Fabricpc()
