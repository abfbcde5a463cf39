"""Write consecutive layers as one graph with its own KV cache."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from updraft.errors import BundleError
from updraft.models.architecture import Architecture, Quantization
from updraft.models.graphs.feed_forward import feed_forward
from updraft.models.graphs.graph import CONTRIB, Graph, Weights, tensor_info
from updraft.models.graphs.matrices import Stack, embed, linear
from updraft.models.rotary import rotary_tables


def write_partition(
    folder: Path,
    shape: Architecture,
    weights: Weights,
    quantization: Quantization,
    first: int,
    last: int,
) -> list[str]:
    """Write layers `first` (excluded) to `last` as a graph; return the files that it needs.

    The first partition takes token ids and embeds them; the others take the state that the
    partition before them gave. Caches are fp32 (1, kv_heads, context_length, head_width) per layer
    and meant to be bound to the same memory as input and output; `quantize_kv` makes them int8
    once it has seen what they hold.

    A cut changes nothing: whether a layer begins a partition or follows another in one, the same
    operators see the same numbers.

    Raises:
        BundleError: a matrix, or the caches, cannot be kept as it is asked for.
    """
    if quantization.kv == "fp16":
        raise BundleError(
            "keys and values in fp16 need attention in fp16, which rounds its sums too and is "
            "slower than in fp32 on processors: choose int8, which is smaller, or fp32"
        )
    with Graph(folder, f"layers-{first}-{last}", weights, quantization) as graph:
        state: list[int | str] = [1, "n", shape.width]
        inputs = [
            tensor_info("tokens", [1, "n"], TensorProto.INT64)
            if first == 0
            else tensor_info("state_in", state)
        ]
        inputs += [
            tensor_info("seqlens_k", [1], TensorProto.INT32),
            tensor_info("total_length", [], TensorProto.INT32),
        ]
        outputs = [tensor_info("state_out", state)]
        for name, table in zip(("rope_cos", "rope_sin"), rotary_tables(shape), strict=True):
            graph.constant(name, table, shared="rotary")
        if first == 0:
            embed(graph, shape, "tokens", "embedded")
            residual = Residual("embedded", None)
        else:
            # A layer within a partition norms the sum of two states. One that begins a partition
            # norms state + 0, by the same operator: a norm of its own would round differently.
            graph.node("Sub", ["state_in", "state_in"], "nothing")
            residual = Residual("state_in", "nothing")
        for layer in range(first, last):
            cache: list[int | str] = [1, shape.kv_heads, shape.context_length, shape.head_width]
            for which in ("key", "value"):
                inputs.append(tensor_info(f"past_{which}_{layer}", cache))
                outputs.append(tensor_info(f"present_{which}_{layer}", cache))
            residual = _layer(graph, shape, layer, residual)
        assert residual.change is not None, "there is a layer"
        graph.node("Add", [residual.state, residual.change], "state_out")
        return graph.finish(inputs, outputs)


class Residual(NamedTuple):
    """A state, and what is yet to be added to it."""

    state: str
    change: str | None


def _layer(graph: Graph, shape: Architecture, layer: int, residual: Residual) -> Residual:
    own, at = f"layers.{layer}.", f"layer_{layer}_"
    gain = graph.constant(at + "attention_gain", graph.weights[own + "attention_norm.weight"])
    state = residual.state
    if residual.change is None:
        graph.norm(state, gain, at + "attention_in", shape.norm_epsilon)
    else:
        graph.add_norm(
            state, residual.change, gain, at + "attention_in", at + "in", shape.norm_epsilon
        )
        state = at + "in"
    _attention(graph, shape, layer, at + "attention_in", at + "attention_out")
    gain = graph.constant(at + "ffn_gain", graph.weights[own + "ffn_norm.weight"])
    graph.add_norm(at + "attention_out", state, gain, at + "ffn_in", at + "mid", shape.norm_epsilon)
    feed_forward(graph, shape, layer, at + "ffn_in", at + "ffn_out")
    return Residual(at + "mid", at + "ffn_out")


def _attention(graph: Graph, shape: Architecture, layer: int, x: str, out: str) -> None:
    own, at = f"layers.{layer}.", f"layer_{layer}_"
    rows = shape.attention_width + 2 * shape.kv_width
    names = tuple(f"{own}{which}.weight" for which in "qkv")
    bias = None
    if shape.qkv_bias:
        parts = [graph.weights[f"{own}{which}.bias"] for which in "qkv"]
        bias = graph.constant(own + "qkv.bias", np.concatenate(parts))
    linear(graph, x, Stack(own + "qkv", names, rows, shape.width), at + "qkv", bias)
    projected = _normed(graph, shape, layer) if shape.qk_norm else [at + "qkv", "", ""]
    inputs = [*projected, f"past_key_{layer}", f"past_value_{layer}"]
    inputs += ["seqlens_k", "total_length", "rope_cos", "rope_sin"]
    attributes = {"num_heads": shape.heads, "kv_num_heads": shape.kv_heads, "do_rotary": 1}
    if shape.windows is not None and shape.windows[layer]:
        attributes["local_window_size"] = shape.windows[layer]
    graph.node(
        "GroupQueryAttention", inputs,
        at + "attended", f"present_key_{layer}", f"present_value_{layer}",
        domain=CONTRIB, **attributes,
    )  # fmt: skip
    bias = None
    if shape.output_bias:
        bias = graph.constant(own + "o.bias", graph.weights[own + "o.bias"])
    stack = Stack(own + "o", (own + "o.weight",), shape.width, shape.attention_width)
    linear(graph, at + "attended", stack, out, bias)


def _normed(graph: Graph, shape: Architecture, layer: int) -> list[str]:
    """Norm queries and keys head by head; return queries, keys and values, each on its own."""
    own, at = f"layers.{layer}.", f"layer_{layer}_"
    widths = [shape.attention_width, shape.kv_width, shape.kv_width]
    graph.constant("qkv_widths", np.array(widths, np.int64))
    graph.constant("by_head", np.array([0, 0, -1, shape.head_width], np.int64))
    graph.constant("by_position", np.array([0, 0, -1], np.int64))
    graph.node("Split", [at + "qkv", "qkv_widths"], *(at + which for which in "qkv"), axis=-1)
    for which in "qk":
        gain = graph.constant(f"{own}{which}_gain", graph.weights[f"{own}{which}_norm.weight"])
        graph.node("Reshape", [at + which, "by_head"], f"{at}{which}_heads")
        graph.norm(f"{at}{which}_heads", gain, f"{at}{which}_heads_normed", shape.norm_epsilon)
        graph.node("Reshape", [f"{at}{which}_heads_normed", "by_position"], f"{at}{which}_normed")
    return [at + "q_normed", at + "k_normed", at + "v"]
