"""Read what an ONNX graph's constants weigh, once they are loaded, and how they are used.

Field numbers from onnx.proto: ModelProto.graph = 7; GraphProto.node = 1, initializer = 5;
NodeProto.input = 1, output = 2, op_type = 4; TensorProto.dims = 1, data_type = 2, name = 8.
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
_TABLES = {"Gather": (0,), "GroupQueryAttention": (7, 8)}
_PRODUCTS = ("MatMul", "Gemm")


class Weights(NamedTuple):
    """The constants of one graph as the runtime holds them.

    Attributes:
        read_bytes: read as a whole in every run.
        table_bytes: looked up by row.
        macs: multiplications of one row with all matrices.
        nodes: operators that are left to run once constants are folded.
    """

    read_bytes: int
    table_bytes: int
    macs: int
    nodes: int


class _Constant(NamedTuple):
    elements: int
    loaded_bytes: int


class _Node(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]


def read_weights(path: Path) -> Weights:
    """Weigh the constants of a graph; weights themselves are not read from disk.

    What `DequantizeLinear` widens counts as fp32, because the runtime folds it when it loads
    (ADR 0003).

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
    except (IndexError, KeyError, UnicodeDecodeError, TypeError) as error:
        raise ValueError("it is not an ONNX model") from error
    _fold(nodes, constants)
    tables = {
        name
        for node in nodes
        for place in _TABLES.get(node.kind, ())
        for name in node.inputs[place : place + 1]
        if name in constants
    }
    table_bytes = sum(constants[name].loaded_bytes for name in tables)
    return Weights(
        read_bytes=sum(c.loaded_bytes for c in constants.values()) - table_bytes,
        table_bytes=table_bytes,
        macs=sum(
            constants[node.inputs[1]].elements
            for node in nodes
            if node.kind in _PRODUCTS and node.inputs[1] in constants
        ),
        nodes=len(nodes),
    )


def _fold(nodes: list[_Node], constants: dict[str, _Constant]) -> None:
    """Put a constant in the place of each node that widens one, as the runtime does."""
    for node in [n for n in nodes if n.kind == "DequantizeLinear" and n.inputs[0] in constants]:
        elements = constants[node.inputs[0]].elements
        constants[node.outputs[0]] = _Constant(elements, _WIDENED_BYTES * elements)
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
    for number, value in fields(view):
        if number in texts:
            texts[number].append(bytes(message(value)).decode())
    return _Node(texts[4][0], texts[1], texts[2])


def _constant(view: memoryview) -> tuple[str, _Constant]:
    name, element, shape = "", 0, []
    for number, value in fields(view):
        if number == 1:
            shape += numbers(value)
        elif number == 2 and isinstance(value, int):
            element = value
        elif number == 8:
            name = bytes(message(value)).decode()
    count = prod(shape)
    return name, _Constant(count, int(count * _ELEMENT_BYTES[element]))
