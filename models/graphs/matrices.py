"""How matrices are stored in a graph, and multiplied with, by their precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from updraft.errors import BundleError
from updraft.models.architecture import Architecture, Precision
from updraft.models.graphs.graph import CONTRIB, Graph
from updraft.models.quantize import quantize_blocks, quantize_int8

_FINEST_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")
_BITS: dict[Precision, int] = {"int8": 8, "int4": 4}
# Accuracy levels of MatMulNBits: sums in fp32, or of integers.
_LEVELS = {"fp32": 1, "int8": 4}
# Rows that are rounded at a time.
_ROWS = 4096
_FLOAT, _HALF, _BYTE = np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8)


class Stack(NamedTuple):
    """Matrices (outputs, inputs) set one below the other, so that one product does for all.

    Attributes:
        name: of the constants that it becomes.
        weights: their names; the finest of their precisions holds for all.
        rows, columns: of the whole.
        shared: the file that the constants are kept in, where several graphs use them.
    """

    name: str
    weights: tuple[str, ...]
    rows: int
    columns: int
    shared: str | None = None

    def parts(self, graph: Graph) -> Iterator[NDArray[np.float32]]:
        """Yield the rows, some at a time."""
        for name in self.weights:
            matrix = graph.weights[name]
            for start in range(0, len(matrix), _ROWS):
                yield matrix[start : start + _ROWS]

    def precision(self, graph: Graph) -> Precision:
        """Return how it is stored."""
        precisions = [graph.quantization.precision_of(name) for name in self.weights]
        return min(precisions, key=_FINEST_FIRST.index)


class Experts(NamedTuple):
    """One matrix of every expert of a layer, and the operator that takes it so.

    Attributes:
        inputs: what the operator is to read.
    """

    operator: str
    inputs: list[str]
    attributes: dict[str, int]


def linear(graph: Graph, x: str, stack: Stack, out: str, bias: str | None = None) -> None:
    """Multiply by matrices, and add a bias if there is one."""
    precision = stack.precision(graph)
    if _stays_in_integers(graph, precision):
        _product_of_blocks(graph, x, stack, precision, out, bias)
        return
    product = out if bias is None else f"{out}_product"
    graph.node("MatMul", [x, _transposed(graph, stack, precision)], product)
    if bias is not None:
        graph.node("Add", [product, bias], out)


def embed(graph: Graph, shape: Architecture, tokens: str, out: str) -> None:
    """Look tokens up; only the rows that are asked for are widened."""
    precision = _embedding_precision(graph, shape)
    stack = _embedding(shape, _is_shared(graph, shape))
    if precision in _BITS:
        block = graph.quantization.block or 0
        if shape.width % block:
            raise BundleError(
                f"an embedding {shape.width} wide cannot be kept in blocks of {block}: choose a "
                "block that divides it, or fp16 for `embedding`"
            )
        values, scales = _blocks(graph, stack, precision, flat=True)
        graph.node(
            "GatherBlockQuantized", [values, tokens, scales], out,
            domain=CONTRIB, bits=_BITS[precision], block_size=block,
            gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        return
    looked_up = out if precision == "fp32" else f"{out}_narrow"
    graph.node("Gather", [_plain(graph, stack, precision), tokens], looked_up, axis=0)
    if precision == "fp16":
        graph.node("Cast", [looked_up], out, to=TensorProto.FLOAT)


def project(
    graph: Graph, shape: Architecture, x: str, out: str, rows: int, shares: bool = True
) -> None:
    """Turn normed states (n, width) into logits by the LM head, which may be the embedding.

    Args:
        rows: of the head; fewer than the vocabulary has for a head that chooses among some.
        shares: other graphs of the bundle may hold the same matrix.
    """
    whole = shares and rows == shape.vocabulary_size
    precision = graph.quantization.precision_of("head.weight")
    if shape.tied:
        stack = _embedding(shape, whole and _is_shared(graph, shape))
    else:
        stack = Stack("head", ("head.weight",), rows, shape.width, "lm-head" if whole else None)
    stack = stack._replace(rows=rows)
    if _stays_in_integers(graph, precision):
        _product_of_blocks(graph, x, stack, precision, out, None)
    elif precision == "int8":
        graph.node("MatMul", [x, _transposed(graph, stack, precision)], out)
    else:
        graph.node("Gemm", [x, _widened(graph, stack, precision)], out, transB=1)


def store_experts(
    graph: Graph,
    name: str,
    weight: str,
    size: tuple[int, int, int],
    matrices: Iterable[NDArray[np.float32]],
) -> Experts:
    """Store one matrix of each expert of a layer.

    Args:
        weight: whose precision holds for all of them.
        size: experts, rows, columns.
    """
    precision = graph.quantization.precision_of(weight)
    count, rows, columns = size
    block = graph.quantization.block or 0
    if precision in _BITS and columns % block:
        raise BundleError(f"{name} has {columns} columns: blocks of {block} do not divide them")
    scale_size = (count, rows, columns // block) if block else ()
    if not _stays_in_integers(graph, precision):
        return _widened_experts(graph, name, precision, size, matrices)
    bits, scales = _BITS[precision], list[NDArray[np.float32]]()

    def values() -> Iterator[NDArray[np.uint8]]:
        for matrix in matrices:
            rounded = quantize_blocks(matrix, bits, block)
            scales.append(rounded.scales)
            yield rounded.values

    graph.stream(f"{name}.values", _BYTE, (count, rows, columns * bits // 8), values())
    graph.stream(f"{name}.scales", _FLOAT, scale_size, scales)
    attributes = {
        "expert_weight_bits": bits,
        "block_size": block,
        "accuracy_level": _LEVELS[graph.quantization.activations],
    }
    return Experts("QMoE", [f"{name}.values", f"{name}.scales"], attributes)


def _widened_experts(
    graph: Graph,
    name: str,
    precision: Precision,
    size: tuple[int, int, int],
    matrices: Iterable[NDArray[np.float32]],
) -> Experts:
    experts = Experts("MoE", [name], {})
    if precision == "fp32":
        graph.stream(name, _FLOAT, size, matrices)
    elif precision == "fp16":
        graph.stream(f"{name}.fp16", _HALF, size, matrices)
        graph.node("Cast", [f"{name}.fp16"], name, to=TensorProto.FLOAT)
    else:
        block, scales = graph.quantization.block or 1, list[NDArray[np.float32]]()

        def values() -> Iterator[NDArray[np.int8]]:
            for matrix in matrices:
                rounded = quantize_int8(matrix, block)
                scales.append(rounded.scales)
                yield rounded.values

        graph.stream(f"{name}.values", np.dtype(np.int8), size, values())
        graph.stream(f"{name}.scales", _FLOAT, (*size[:2], size[2] // block), scales)
        inputs = [f"{name}.values", f"{name}.scales"]
        graph.node("DequantizeLinear", inputs, name, axis=2, block_size=block)
    return experts


def _embedding(shape: Architecture, shared: bool) -> Stack:
    names = ("embedding.weight",)
    file = "embedding" if shared else None
    return Stack("embedding", names, shape.vocabulary_size, shape.width, file)


def _is_shared(graph: Graph, shape: Architecture) -> bool:
    """Whether embedding and head are one matrix, kept in the same form."""
    precision = graph.quantization.precision_of("head.weight")
    widened = precision == "int8" and not _stays_in_integers(graph, precision)
    return shape.tied and _embedding_precision(graph, shape) == precision and not widened


def _embedding_precision(graph: Graph, shape: Architecture) -> Precision:
    """Return how the embedding is kept: tied, as the head, unless something else is asked for."""
    quantization = graph.quantization
    if shape.tied and "embedding" not in quantization.overrides:
        return quantization.precision_of("head.weight")
    return quantization.precision_of("embedding.weight")


def _stays_in_integers(graph: Graph, precision: Precision) -> bool:
    """Whether a product is taken with integers, or with what they are widened to on loading.

    8 bits with sums in fp32 would be widened anew in every product, which takes ten times as long.
    """
    return precision == "int4" or (precision == "int8" and graph.quantization.activations == "int8")


def _product_of_blocks(
    graph: Graph, x: str, stack: Stack, precision: Precision, out: str, bias: str | None
) -> None:
    inputs = [x, *_blocks(graph, stack, precision)]
    graph.node(
        "MatMulNBits", inputs if bias is None else [*inputs, "", "", bias], out,
        domain=CONTRIB, N=stack.rows, K=stack.columns, bits=_BITS[precision],
        block_size=graph.quantization.block,
        accuracy_level=_LEVELS[graph.quantization.activations],
    )  # fmt: skip


def _blocks(
    graph: Graph, stack: Stack, precision: Precision, flat: bool = False
) -> tuple[str, str]:
    """Store matrices in integers; return the names of values and scales.

    Args:
        flat: as look-ups take them, without an axis for blocks; the bytes are the same.
    """
    block, bits = graph.quantization.block or 0, _BITS[precision]
    blocks, block_bytes = -(-stack.columns // block), block * bits // 8
    scales: list[NDArray[np.float32]] = []

    def values() -> Iterator[NDArray[np.uint8]]:
        for part in stack.parts(graph):
            rounded = quantize_blocks(part, bits, block)
            scales.append(rounded.scales)
            yield rounded.values

    size = (stack.rows, blocks * block_bytes) if flat else (stack.rows, blocks, block_bytes)
    name = graph.stream(f"{stack.name}.values", _BYTE, size, values(), stack.shared)
    # Beside the values: where those are in a shared file already, nothing is rounded again.
    size = (stack.rows, blocks)
    return name, graph.stream(
        f"{stack.name}.scales", _FLOAT, size, scales, stack.shared, beside=name
    )


def _transposed(graph: Graph, stack: Stack, precision: Precision) -> str:
    """Store matrices as (inputs, outputs), as products in fp32 take them; return what to use."""
    name = f"{stack.name}.T"
    if precision == "int8":
        block = graph.quantization.block or 0
        if stack.columns % block:
            raise BundleError(
                f"{stack.name} has {stack.columns} columns: blocks of {block} do not divide them"
            )
        rounded = [quantize_int8(part, block) for part in stack.parts(graph)]
        values = np.concatenate([part.values for part in rounded]).T
        scales = np.concatenate([part.scales for part in rounded]).T
        inputs = [graph.constant(f"{stack.name}.values.T", values)]
        inputs.append(graph.constant(f"{stack.name}.scales.T", scales))
        graph.node("DequantizeLinear", inputs, name, axis=0, block_size=block)
        return name
    element = _FLOAT if precision == "fp32" else _HALF
    whole = np.empty((stack.columns, stack.rows), element)
    at = 0
    for part in stack.parts(graph):
        whole[:, at : at + len(part)] = part.T
        at += len(part)
    if precision == "fp32":
        return graph.constant(name, whole)
    graph.node("Cast", [graph.constant(f"{name}.fp16", whole)], name, to=TensorProto.FLOAT)
    return name


def _plain(graph: Graph, stack: Stack, precision: Precision) -> str:
    """Store a matrix as it is, in floating point."""
    element = _FLOAT if precision == "fp32" else _HALF
    size = (stack.rows, stack.columns)
    return graph.stream(stack.name, element, size, stack.parts(graph), stack.shared)


def _widened(graph: Graph, stack: Stack, precision: Precision) -> str:
    name = _plain(graph, stack, precision)
    if precision == "fp32":
        return name
    graph.node("Cast", [name], f"{name}.wide", to=TensorProto.FLOAT)
    return f"{name}.wide"
