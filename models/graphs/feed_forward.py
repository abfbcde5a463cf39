"""The feed-forward part of a layer: one gated network, or a mixture of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from updraft.models.architecture import Architecture, Mixture
from updraft.models.graphs.graph import CONTRIB, Graph
from updraft.models.graphs.matrices import Stack, linear, store_experts


def feed_forward(graph: Graph, shape: Architecture, layer: int, x: str, out: str) -> None:
    """Add a layer's feed-forward part."""
    own, at = f"layers.{layer}.", f"layer_{layer}_ffn"
    if shape.mixture is None or not shape.is_mixture(layer):
        _gated(graph, shape.width, shape.ffn_width, own, x, at, out)
        return
    shared_width = shape.mixture.shared_ffn_width
    routed = out if shared_width is None else f"{at}_routed"
    _experts(graph, shape, shape.mixture, own, x, at, routed)
    if shared_width is not None:
        _gated(graph, shape.width, shared_width, f"{own}shared.", x, f"{at}_shared", f"{at}_every")
        gate = graph.constant(f"{own}shared_gate.T", graph.weights[f"{own}shared_gate.weight"].T)
        graph.node("MatMul", [x, gate], f"{at}_share")
        graph.node("Sigmoid", [f"{at}_share"], f"{at}_share_of_one")
        graph.node("Mul", [f"{at}_every", f"{at}_share_of_one"], f"{at}_every_gated")
        graph.node("Add", [routed, f"{at}_every_gated"], out)


def _gated(graph: Graph, width: int, ffn_width: int, own: str, x: str, at: str, out: str) -> None:
    """Add down(silu(gate(x)) × up(x))."""
    names = (f"{own}gate.weight", f"{own}up.weight")
    linear(graph, x, Stack(f"{own}gate_up", names, 2 * ffn_width, width), f"{at}_gate_up")
    graph.node("Split", [f"{at}_gate_up"], f"{at}_gate", f"{at}_up", axis=-1, num_outputs=2)
    graph.node("QuickGelu", [f"{at}_gate"], f"{at}_silu", domain=CONTRIB, alpha=1.0)
    graph.node("Mul", [f"{at}_silu", f"{at}_up"], f"{at}_product")
    down = Stack(own + "down", (own + "down.weight",), width, ffn_width)
    linear(graph, f"{at}_product", down, out)


def _experts(
    graph: Graph, shape: Architecture, mixture: Mixture, own: str, x: str, at: str, out: str
) -> None:
    """Let each row pass the experts that the router, which stays in fp32, gives most weight."""
    router = graph.constant(f"{own}router.T", graph.weights[f"{own}router.weight"].T)
    graph.node("MatMul", [x, router], f"{at}_scores")
    graph.constant("by_row", np.array([-1, mixture.experts], np.int64))
    graph.node("Reshape", [f"{at}_scores", "by_row"], f"{at}_row_scores")
    names = [f"{own}experts.{expert}." for expert in range(mixture.experts)]

    def rising() -> Iterator[NDArray[np.float32]]:
        # The kernel takes rows of gate and up in turn.
        for name in names:
            pair = (graph.weights[f"{name}{which}.weight"] for which in ("gate", "up"))
            yield np.stack(list(pair), axis=1).reshape(-1, shape.width)

    def falling() -> Iterator[NDArray[np.float32]]:
        for name in names:
            yield graph.weights[f"{name}down.weight"]

    count, wide = mixture.experts, 2 * mixture.ffn_width
    weight = f"{own}experts.0.down.weight"
    up = store_experts(graph, f"{own}experts.rising", weight, (count, wide, shape.width), rising())
    down = store_experts(
        graph, f"{own}experts.falling", weight, (count, shape.width, mixture.ffn_width), falling()
    )
    attributes = {
        "k": mixture.active,
        # Without it, the kernel of ONNX Runtime 1.31 writes over the rows that it still reads.
        "normalize_routing_weights": 1,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": 1.0,
        "activation_beta": 0.0,
    }
    inputs = [x, f"{at}_row_scores", *up.inputs, "", *down.inputs]
    mixed = out if mixture.normalized else f"{at}_mixed"
    graph.node(up.operator, inputs, mixed, domain=CONTRIB, **attributes, **up.attributes)
    if not mixture.normalized:
        _scale_by_share(graph, mixture, at, mixed, out)


def _scale_by_share(graph: Graph, mixture: Mixture, at: str, x: str, out: str) -> None:
    """Multiply by the share of the active experts' weights in those of all."""
    graph.constant("active", np.array([mixture.active], np.int64))
    graph.constant("last_axis", np.array([-1], np.int64))
    graph.node("Softmax", [f"{at}_scores"], f"{at}_odds", axis=-1)
    graph.node("TopK", [f"{at}_odds", "active"], f"{at}_best", f"{at}_best_experts", axis=-1)
    graph.node("ReduceSum", [f"{at}_best", "last_axis"], f"{at}_active_share", keepdims=1)
    graph.node("Mul", [x, f"{at}_active_share"], out)
