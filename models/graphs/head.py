"""Write the graph of exit heads: where states become logits."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from updraft.models.architecture import Architecture, Quantization
from updraft.models.graphs.graph import Graph, Weights, tensor_info
from updraft.models.graphs.matrices import project


def write_head(
    folder: Path,
    name: str,
    shape: Architecture,
    weights: Weights,
    quantization: Quantization,
    exits: Sequence[int],
    shortlist: NDArray[np.int32] | None = None,
) -> list[str]:
    """Write the head that some exits share as the graph `name`; return the files that it needs.

    Inputs: `state` (n, width) and `exit`, the row of `exits` to use. Output: `logits`
    (n, vocabulary or shortlist).

    Every exit has a norm of its own. Where the weights have `exit_adapters.<layer>.down.weight`
    and `.up.weight` for these exits, a state of unit size is changed to
    state + up(silu(down(state))) before the norm. An exit with an output matrix of its own,
    `exit_heads.<layer>.weight`, is alone in its graph.

    Args:
        name: the file's, ending in `.onnx`.
        shortlist: the tokens that the head chooses among; None: the whole vocabulary.
    """
    rows, own = shape.vocabulary_size, f"exit_heads.{exits[0]}.weight"
    shares = own not in weights
    if not shares:
        shape = shape.model_copy(update={"tied": False})
        weights = ChainMap({"head.weight": weights[own]}, cast("Any", weights))
    if shortlist is not None:
        matrix = "embedding.weight" if shape.tied else "head.weight"
        weights = ChainMap({matrix: weights[matrix][shortlist]}, cast("Any", weights))
        rows = len(shortlist)
    with Graph(folder, name.removesuffix(".onnx"), weights, quantization) as graph:
        gains = np.stack([weights[f"exit_norms.{layer}.weight"] for layer in exits])
        graph.constant("exit_gains", gains)
        graph.node("Gather", ["exit_gains", "exit"], "gain", axis=0)
        state = "state"
        if f"exit_adapters.{exits[0]}.down.weight" in weights:
            graph.constant("ones", np.ones(shape.width, np.float32))
            graph.norm("state", "ones", "unit", shape.norm_epsilon)
            _adapt(graph, exits, "unit", "adapted")
            state = "adapted"
        graph.norm(state, "gain", "normed", shape.norm_epsilon)
        project(graph, shape, "normed", "logits", rows, shares)
        return graph.finish(
            [
                tensor_info("state", ["n", shape.width]),
                tensor_info("exit", [], TensorProto.INT64),
            ],
            [tensor_info("logits", ["n", rows])],
        )


def _adapt(graph: Graph, exits: Sequence[int], x: str, out: str) -> None:
    for which in ("down", "up"):
        names = [f"exit_adapters.{layer}.{which}.weight" for layer in exits]
        stacked = np.stack([graph.weights[name].T for name in names])
        graph.constant(f"exit_{which}", stacked)
        graph.node("Gather", [f"exit_{which}", "exit"], f"adapter_{which}", axis=0)
    graph.node("MatMul", [x, "adapter_down"], "narrow")
    graph.node("Sigmoid", ["narrow"], "narrow_sigmoid")
    graph.node("Mul", ["narrow", "narrow_sigmoid"], "narrow_silu")
    graph.node("MatMul", ["narrow_silu", "adapter_up"], "change")
    graph.node("Add", [x, "change"], out)
