"""Read the inputs and outputs of an ONNX file without loading it.

A device must refuse a wrong graph before the runtime allocates anything for it, and should not
need the `onnx` package for that. The file is a protocol buffer; only these fields are followed
(numbers from onnx.proto): ModelProto.graph = 7; GraphProto.input = 11, output = 12;
ValueInfoProto.name = 1, type = 2; TypeProto.tensor_type = 1; Tensor.elem_type = 1, shape = 2;
TensorShapeProto.dim = 1; Dimension.dim_value = 1, dim_param = 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from updraft.models.onnx_fields import fields, message, open_fields

_ELEMENT_NAMES = {1: "float32", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}


class Tensor(NamedTuple):
    """Element type and shape; a free dimension is a name."""

    element: str
    shape: tuple[int | str, ...]


class Signature(NamedTuple):
    """Named inputs and outputs of a graph."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def read_signature(path: Path) -> Signature:
    """Read a graph's signature.

    Raises:
        ValueError: the file is not an ONNX model.
    """
    try:
        return _read_model(open_fields(path))
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise ValueError("it is not an ONNX model") from error


def _read_model(view: memoryview) -> Signature:
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for number, value in fields(view):
        if number != 7:
            continue
        for inner, entry in fields(message(value)):
            if inner in (11, 12):
                name, tensor = _value_info(message(entry))
                (inputs if inner == 11 else outputs)[name] = tensor
    if not inputs or not outputs:
        raise ValueError("it is not an ONNX model")
    return Signature(inputs, outputs)


def _value_info(view: memoryview) -> tuple[str, Tensor]:
    name, element = "", "unknown"
    shape: tuple[int | str, ...] = ()
    for number, value in fields(view):
        if number == 1:
            name = bytes(message(value)).decode()
        elif number == 2:
            for kind, tensor in fields(message(value)):
                if kind == 1:
                    element, shape = _tensor(message(tensor))
    return name, Tensor(element, shape)


def _tensor(view: memoryview) -> tuple[str, tuple[int | str, ...]]:
    element, shape = "unknown", []
    for number, value in fields(view):
        if number == 1 and isinstance(value, int):
            element = _ELEMENT_NAMES.get(value, f"type {value}")
        elif number == 2:
            shape = [_dimension(message(d)) for n, d in fields(message(value)) if n == 1]
    return element, tuple(shape)


def _dimension(view: memoryview) -> int | str:
    for number, value in fields(view):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2:
            return bytes(message(value)).decode()
    return "?"
