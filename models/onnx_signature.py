"""Read the inputs and outputs of an ONNX file without loading it.

A device must refuse a wrong graph before the runtime allocates anything for it, and should not
need the `onnx` package for that. The file is a protocol buffer; only these fields are followed
(numbers from onnx.proto): ModelProto.graph = 7; GraphProto.input = 11, output = 12;
ValueInfoProto.name = 1, type = 2; TypeProto.tensor_type = 1; Tensor.elem_type = 1, shape = 2;
TensorShapeProto.dim = 1; Dimension.dim_value = 1, dim_param = 2.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ELEMENT_NAMES = {1: "float32", 6: "int32", 7: "int64", 10: "float16"}


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
    with path.open("rb") as file:
        try:
            # Not closed by hand: slices of it live for as long as an error's traceback does.
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise ValueError("the file is empty") from error
        try:
            return _read_model(view)
        except (IndexError, UnicodeDecodeError, TypeError) as error:
            raise ValueError("it is not an ONNX model") from error


def _read_model(view: memoryview) -> Signature:
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for number, value in _fields(view):
        if number != 7:
            continue
        for inner, entry in _fields(_message(value)):
            if inner in (11, 12):
                name, tensor = _value_info(_message(entry))
                (inputs if inner == 11 else outputs)[name] = tensor
    if not inputs or not outputs:
        raise ValueError("it is not an ONNX model")
    return Signature(inputs, outputs)


def _value_info(view: memoryview) -> tuple[str, Tensor]:
    name, element = "", "unknown"
    shape: tuple[int | str, ...] = ()
    for number, value in _fields(view):
        if number == 1:
            name = bytes(_message(value)).decode()
        elif number == 2:
            for kind, tensor in _fields(_message(value)):
                if kind == 1:
                    element, shape = _tensor(_message(tensor))
    return name, Tensor(element, shape)


def _tensor(view: memoryview) -> tuple[str, tuple[int | str, ...]]:
    element, shape = "unknown", []
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            element = _ELEMENT_NAMES.get(value, f"type {value}")
        elif number == 2:
            shape = [_dimension(_message(d)) for n, d in _fields(_message(value)) if n == 1]
    return element, tuple(shape)


def _dimension(view: memoryview) -> int | str:
    for number, value in _fields(view):
        if number == 1 and isinstance(value, int):
            return value
        if number == 2:
            return bytes(_message(value)).decode()
    return "?"


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a message was expected")
    return value


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of one message; fixed-width values are skipped."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield tag >> 3, value
        elif kind == 2:
            size, at = _varint(view, at)
            if at + size > end:
                raise ValueError("it ends in the middle of a field")
            yield tag >> 3, view[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("it is not an ONNX model")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("it is not an ONNX model")
