"""Read what an ONNX graph's constants weigh, once they are loaded, and how they are used.

Field numbers from onnx.proto: ModelProto.graph = 7; GraphProto.node = 1, initializer = 5;
NodeProto.input = 1, output = 2, op_type = 4, attribute = 5; AttributeProto.name = 1, i = 3;
TensorProto.dims = 1, data_type = 2, name = 8, data_location = 14.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from updraft.models.onnx_fields import fields, message, numbers, open_fields

# Bytes of one element by the number that ONNX gives its type.
_ELEMENT_BYTES = {
    1: 4.0,
    2: 1.0,
    3: 1.0,
    6: 4.0,
    7: 8.0,
    10: 2.0,
    11: 8.0,
    16: 2.0,
    21: 0.5,
    22: 0.5,
}
_WIDENED_BYTES = 4
# Which inputs of an operator are looked up by row: an embedding; the rotary tables.
_TABLES = {"Gather": (0,), "GatherBlockQuantized": (0, 2), "GroupQueryAttention": (7, 8)}
_PRODUCTS = ("MatMul", "Gemm")
_WIDENING = ("DequantizeLinear", "Cast")
_EXTERNAL = 1


class Weights(NamedTuple):
    """The constants of one graph as the runtime holds them.

    Attributes:
        read_bytes: read as a whole in every run.
        idle_bytes: held beside those: what kernels derive from scales and read for prompts alone,
            and experts that a token does not pass.
        table_bytes: looked up by row.
        mapped_bytes: of the tables, those that are mapped: only rows that were used take memory.
        macs: multiplications of one row with all matrices.
        nodes: operators that are left to run once constants are folded.
    """

    read_bytes: int
    idle_bytes: int
    table_bytes: int
    mapped_bytes: int
    macs: int
    nodes: int


class _Constant(NamedTuple):
    """A constant; `external` where it lies in another file, which is mapped."""

    shape: tuple[int, ...]
    loaded_bytes: int
    external: bool

    @property
    def elements(self) -> int:
        return prod(self.shape)


class _Node(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    numbers: dict[str, int]


class _Matrix(NamedTuple):
    """Integers and their scales, as an operator that multiplies by them names its inputs.

    Attributes:
        read: share of them that one row passes.
        bits: of one value.
    """

    values: str
    scales: str
    read: float
    bits: int


def read_weights(path: Path) -> Weights:
    """Weigh the constants of a graph; weights themselves are not read from disk.

    What `DequantizeLinear` and `Cast` widen counts as fp32, because the runtime folds it when it
    loads (ADR 0003). Matrices in integers stay what they are.

    Raises:
        ValueError: the file is not an ONNX model.
    """
    constants: dict[str, _Constant] = {}
    nodes: list[_Node] = []
    try:
        for number, value in _graph(open_fields(path)):
            if number == 1:
                nodes.append(_node(message(value)))
            elif number == 5:
                name, constant = _constant(message(value))
                constants[name] = constant
        _fold(nodes, constants)
        return _weigh(nodes, constants)
    except (IndexError, KeyError, UnicodeDecodeError, TypeError) as error:
        raise ValueError("it is not an ONNX model") from error


def _weigh(nodes: list[_Node], constants: dict[str, _Constant]) -> Weights:
    tables = {
        name
        for node in nodes
        for place in _TABLES.get(node.kind, ())
        for name in node.inputs[place : place + 1]
        if name in constants
    }
    matrices = [matrix for node in nodes for matrix in _matrices(node, constants)]
    integers = {name for matrix in matrices for name in (matrix.values, matrix.scales)}
    table_bytes = sum(constants[name].loaded_bytes for name in tables)
    mapped_bytes = sum(constants[n].loaded_bytes for n in tables if constants[n].external)
    read, idle, macs = 0.0, 0.0, 0.0
    for matrix in matrices:
        values, scales = constants[matrix.values], constants[matrix.scales].loaded_bytes
        # The kernel reads a sum beside each scale, and holds what corrects one; the graph's own
        # scales stay too.
        read += matrix.read * (values.loaded_bytes + 2 * scales)
        idle += (1 - matrix.read) * (values.loaded_bytes + 2 * scales) + 2 * scales
        macs += matrix.read * values.elements * 8 / matrix.bits
    for name, constant in constants.items():
        if name not in tables and name not in integers:
            read += constant.loaded_bytes
    for node in nodes:
        if node.kind in _PRODUCTS and node.inputs[1] in constants:
            macs += constants[node.inputs[1]].elements
    return Weights(int(read), int(idle), table_bytes, mapped_bytes, int(macs), len(nodes))


def _matrices(node: _Node, constants: dict[str, _Constant]) -> list[_Matrix]:
    if node.kind == "MatMulNBits":
        return [_Matrix(node.inputs[1], node.inputs[2], 1.0, node.numbers.get("bits", 4))]
    if node.kind == "QMoE":
        share = node.numbers.get("k", 1) / constants[node.inputs[2]].shape[0]
        bits = node.numbers.get("expert_weight_bits", 4)
        pairs = [(at, at + 1) for at in (2, 5, 8) if at + 1 < len(node.inputs) and node.inputs[at]]
        return [_Matrix(node.inputs[a], node.inputs[b], share, bits) for a, b in pairs]
    return []


def _fold(nodes: list[_Node], constants: dict[str, _Constant]) -> None:
    """Put a constant in the place of each node that widens one, as the runtime does."""
    for node in [n for n in nodes if n.kind in _WIDENING and n.inputs[0] in constants]:
        narrow = constants[node.inputs[0]]
        size = _WIDENED_BYTES * narrow.elements
        constants[node.outputs[0]] = _Constant(narrow.shape, size, external=False)
        nodes.remove(node)
        for name in node.inputs:
            if not any(name in other.inputs for other in nodes):
                constants.pop(name, None)


def _graph(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    for number, value in fields(view):
        if number == 7:
            yield from fields(message(value))


def _node(view: memoryview) -> _Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    numbers_of: dict[str, int] = {}
    for number, value in fields(view):
        if number in texts:
            texts[number].append(bytes(message(value)).decode())
        elif number == 5:
            name, whole = _attribute(message(value))
            numbers_of[name] = whole
    return _Node(texts[4][0], texts[1], texts[2], numbers_of)


def _attribute(view: memoryview) -> tuple[str, int]:
    """Return an attribute's name and its whole number, 0 where it is something else."""
    name, whole = "", 0
    for number, value in fields(view):
        if number == 1:
            name = bytes(message(value)).decode()
        elif number == 3 and isinstance(value, int):
            whole = value
    return name, whole


def _constant(view: memoryview) -> tuple[str, _Constant]:
    name, element, shape, place = "", 0, [], 0
    for number, value in fields(view):
        if number == 1:
            shape += numbers(value)
        elif number == 2 and isinstance(value, int):
            element = value
        elif number == 8:
            name = bytes(message(value)).decode()
        elif number == 14 and isinstance(value, int):
            place = value
    size = int(prod(shape) * _ELEMENT_BYTES[element])
    return name, _Constant(tuple(shape), size, place == _EXTERNAL)
