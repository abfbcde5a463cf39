"""Build the ONNX graphs of a bundle from weights: partitions and the exit head.

Weights are stored as they are named in the decoder (`layers.0.q.weight`, …). int8 weights go
through `DequantizeLinear`, which the runtime folds into fp32 when it loads (see
`models/runtime.py`), so that results do not depend on how tokens are grouped into calls.
Needs the `onnx` package (extra `train`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from updraft.models.manifest import Architecture, Quantization
from updraft.models.quantize import quantize_int8

Weights = Mapping[str, NDArray[np.float32]]

_CONTRIB = "com.microsoft"


def build_partition(
    shape: Architecture, weights: Weights, quantization: Quantization, first: int, last: int
) -> onnx.ModelProto:
    """Build layers `first` (excluded) to `last` as one graph with its own KV cache.

    The first partition takes token ids and embeds them; the others take the state that the
    partition before them gave. Caches are (1, kv_heads, context_length, head_width) per layer
    and meant to be bound to the same memory as input and output.
    """
    graph = _Graph(weights, quantization)
    state: list[int | str] = [1, "n", shape.width]
    inputs = [
        _info("tokens", [1, "n"], TensorProto.INT64) if first == 0 else _info("state_in", state)
    ]
    inputs += [
        _info("seqlens_k", [1], TensorProto.INT32),
        _info("total_length", [], TensorProto.INT32),
    ]
    outputs = [_info("state_out", state)]
    cos, sin = rotary_tables(shape)
    graph.constant("rope_cos", cos)
    graph.constant("rope_sin", sin)
    residual = graph.embed("tokens", shape) if first == 0 else "state_in"
    for layer in range(first, last):
        cache: list[int | str] = [1, shape.kv_heads, shape.context_length, shape.head_width]
        for which in ("key", "value"):
            inputs.append(_info(f"past_{which}_{layer}", cache))
            outputs.append(_info(f"present_{which}_{layer}", cache))
        name = "state_out" if layer == last - 1 else f"layer_{layer}_out"
        residual = _layer(graph, shape, layer, residual, name)
    return graph.finish(f"layers_{first}_to_{last}", inputs, outputs)


def build_head(
    shape: Architecture, weights: Weights, quantization: Quantization, exits: Sequence[int]
) -> onnx.ModelProto:
    """Build the head that all exits share: a norm of its own per exit, then the tied embedding.

    Inputs: `state` (n, width) and `exit`, the row of `exits` to use. Outputs: `logits`
    (n, vocabulary), the best `token` (n) and its `probability` (n).
    """
    graph = _Graph(weights, quantization)
    gains = np.stack([weights[f"exit_norms.{layer}.weight"] for layer in exits])
    graph.constant("exit_gains", gains)
    graph.node("Gather", ["exit_gains", "exit"], "gain", axis=0)
    graph.constant("ones", np.ones(shape.width, np.float32))
    graph.norm("state", "ones", "unit", shape.norm_epsilon)
    graph.node("Mul", ["unit", "gain"], "normed")
    graph.linear("normed", "embedding.weight", "logits")
    graph.node("ArgMax", ["logits"], "token", axis=-1, keepdims=0)
    # The best token's probability is 1 / Σ exp(logit - best logit): no softmax is stored.
    graph.constant("last_axis", np.array([-1], np.int64))
    graph.node("ReduceMax", ["logits", "last_axis"], "best", keepdims=1)
    graph.node("Sub", ["logits", "best"], "below_best")
    graph.node("Exp", ["below_best"], "odds")
    graph.node("ReduceSum", ["odds", "last_axis"], "mass", keepdims=0)
    graph.node("Reciprocal", ["mass"], "probability")
    return graph.finish(
        "exit_head",
        [_info("state", ["n", shape.width]), _info("exit", [], TensorProto.INT64)],
        [
            _info("logits", ["n", shape.vocabulary_size]),
            _info("token", ["n"], TensorProto.INT64),
            _info("probability", ["n"]),
        ],
    )


def rotary_tables(shape: Architecture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cos and sin, each (context_length, head_width / 2), for non-interleaved RoPE."""
    half = shape.head_width // 2
    frequencies = shape.rope_theta ** (-np.arange(half) / half)
    angles = np.arange(shape.context_length)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _layer(graph: _Graph, shape: Architecture, layer: int, residual: str, out: str) -> str:
    own, at = f"layers.{layer}.", f"layer_{layer}_"
    graph.constant(at + "attention_gain", graph.weights[own + "attention_norm.weight"])
    graph.norm(residual, at + "attention_gain", at + "attention_in", shape.norm_epsilon)
    for which in "qkv":
        graph.linear(at + "attention_in", f"{own}{which}.weight", at + which)
    graph.attention(shape, layer, [at + which for which in "qkv"], at + "attended")
    graph.linear(at + "attended", own + "o.weight", at + "attention_out")
    graph.constant(at + "ffn_gain", graph.weights[own + "ffn_norm.weight"])
    graph.add_norm(
        at + "attention_out", residual, at + "ffn_gain", at + "ffn_in", at + "mid",
        shape.norm_epsilon,
    )  # fmt: skip
    graph.linear(at + "ffn_in", own + "gate.weight", at + "gate")
    graph.linear(at + "ffn_in", own + "up.weight", at + "up")
    graph.node("Sigmoid", [at + "gate"], at + "gate_sigmoid")
    graph.node("Mul", [at + "gate", at + "gate_sigmoid"], at + "gate_silu")
    graph.node("Mul", [at + "gate_silu", at + "up"], at + "product")
    graph.linear(at + "product", own + "down.weight", at + "ffn_out")
    graph.node("Add", [at + "mid", at + "ffn_out"], out)
    return out


class _Graph:
    """Nodes and initializers of one graph under construction."""

    def __init__(self, weights: Weights, quantization: Quantization) -> None:
        self.weights = weights
        self._quantization = quantization
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        *outputs: str,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        self._nodes.append(
            helper.make_node(kind, list(inputs), list(outputs), domain=domain, **attributes)
        )

    def linear(self, x: str, weight: str, out: str) -> None:
        """Multiply by a weight stored as (outputs, inputs)."""
        matrix = self.weights[weight]
        if self._quantization.block is None:
            self.node("MatMul", [x, self.constant(weight + ".T", matrix.T)], out)
            return
        quantized = quantize_int8(matrix, self._quantization.block)
        values = self.constant(weight + ".values.T", quantized.values.T)
        scales = self.constant(weight + ".scales.T", quantized.scales.T)
        self.node(
            "DequantizeLinear", [values, scales], weight + ".T",
            axis=0, block_size=self._quantization.block,
        )  # fmt: skip
        self.node("MatMul", [x, weight + ".T"], out)

    def embed(self, tokens: str, shape: Architecture) -> str:
        """Look tokens up; int8 rows are widened after the look-up, so the table stays small."""
        matrix = self.weights["embedding.weight"]
        block = self._quantization.block
        if block is None:
            table = self.constant("embedding.weight", matrix)
            self.node("Gather", [table, tokens], "embedded", axis=0)
            return "embedded"
        quantized = quantize_int8(matrix, block)
        blocks = shape.width // block
        values = self.constant(
            "embedding.values", quantized.values.reshape(shape.vocabulary_size, blocks, block)
        )
        scales = self.constant("embedding.scales", quantized.scales[..., None])
        self.node("Gather", [values, tokens], "embedded_values", axis=0)
        self.node("Gather", [scales, tokens], "embedded_scales", axis=0)
        self.node("Cast", ["embedded_values"], "embedded_wide", to=TensorProto.FLOAT)
        self.node("Mul", ["embedded_wide", "embedded_scales"], "embedded_blocks")
        self.constant("state_shape", np.array([1, -1, shape.width], np.int64))
        self.node("Reshape", ["embedded_blocks", "state_shape"], "embedded")
        return "embedded"

    def norm(self, x: str, gain: str, out: str, epsilon: float) -> None:
        self.node("SimplifiedLayerNormalization", [x, gain], out, axis=-1, epsilon=epsilon)

    def add_norm(
        self, x: str, residual: str, gain: str, out: str, total: str, epsilon: float
    ) -> None:
        self.node(
            "SkipSimplifiedLayerNormalization", [x, residual, gain], out, "", "", total,
            domain=_CONTRIB, epsilon=epsilon,
        )  # fmt: skip

    def attention(self, shape: Architecture, layer: int, qkv: list[str], out: str) -> None:
        self.node(
            "GroupQueryAttention",
            [*qkv, f"past_key_{layer}", f"past_value_{layer}", "seqlens_k", "total_length",
             "rope_cos", "rope_sin"],
            out, f"present_key_{layer}", f"present_value_{layer}",
            domain=_CONTRIB, num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1,
        )  # fmt: skip

    def finish(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self._nodes, name, inputs, outputs, list(self._initializers.values())
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(_CONTRIB, 1)],
            ir_version=10,
            producer_name="updraft",
        )


def _info(
    name: str, shape: Sequence[int | str], element: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, list(shape))
