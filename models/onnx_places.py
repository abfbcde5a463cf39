"""Read where the weights of an ONNX file lie that are not in it, without loading them.

A graph names a file, an offset and a length; the runtime would map whatever they point to. Field
numbers from onnx.proto: ModelProto.graph = 7, functions = 25; GraphProto.node = 1,
initializer = 5, sparse_initializer = 15; NodeProto.attribute = 5; AttributeProto.t = 5, g = 6,
tensors = 10, graphs = 11, sparse_tensor = 22, sparse_tensors = 23; TensorProto.external_data = 13,
data_location = 14; StringStringEntryProto.key = 1, value = 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from updraft.models.onnx_fields import fields, message, open_fields

_NESTED = {6: "a graph", 11: "graphs", 22: "a sparse tensor", 23: "sparse tensors"}
_MOST_DIGITS = 18


class Place(NamedTuple):
    """Where a tensor's bytes lie."""

    file: str
    offset: int
    length: int


def read_places(path: Path) -> list[Place]:
    """Return where the weights lie that a graph keeps outside of its file.

    Raises:
        ValueError: the file is not an ONNX model, or holds what no graph of a bundle needs:
            weights whose place is not said in full, functions, graphs within graphs.
    """
    try:
        return _read_model(open_fields(path))
    except (IndexError, UnicodeDecodeError, TypeError) as error:
        raise ValueError("it is not an ONNX model") from error


def _read_model(view: memoryview) -> list[Place]:
    places = []
    for number, value in fields(view):
        if number == 25:
            raise ValueError("it has functions, which graphs of bundles do without")
        if number != 7:
            continue
        for inner, entry in fields(message(value)):
            if inner == 1:
                _check_node(message(entry))
            elif inner == 15:
                raise ValueError("it has sparse weights, which graphs of bundles do without")
            elif inner == 5:
                place = _place(message(entry))
                if place is not None:
                    places.append(place)
    return places


def _check_node(view: memoryview) -> None:
    for number, attribute in fields(view):
        if number != 5:
            continue
        for inner, value in fields(message(attribute)):
            if inner in _NESTED:
                raise ValueError(f"one of its operators holds {_NESTED[inner]}")
            if inner in (5, 10) and _place(message(value)) is not None:
                raise ValueError("one of its operators keeps a value outside of the file")


def _place(view: memoryview) -> Place | None:
    said: list[tuple[str, str]] = []
    outside = False
    for number, value in fields(view):
        if number == 13:
            said.append(_entry(message(value)))
        elif number == 14 and value != 0:
            outside = True
    if not outside and not said:
        return None
    known = dict(said)
    numbers = (known.get("offset", ""), known.get("length", ""))
    if len(said) != len(known) or not all(
        text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS for text in numbers
    ):
        raise ValueError("where some of its weights lie is not said as location, offset and length")
    return Place(known.get("location", ""), *map(int, numbers))


def _entry(view: memoryview) -> tuple[str, str]:
    texts = {number: bytes(message(value)).decode() for number, value in fields(view)}
    return texts.get(1, ""), texts.get(2, "")
