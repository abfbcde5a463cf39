"""Walk the fields of an ONNX file, which is a protocol buffer, without the `onnx` package."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path


def open_fields(path: Path) -> memoryview:
    """Return a file's bytes without reading them yet; only those that are looked at are.

    Raises:
        ValueError: the file is empty.
    """
    with path.open("rb") as file:
        try:
            # Not closed by hand: slices of it live for as long as an error's traceback does.
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except ValueError as error:
            raise ValueError("the file is empty") from error


def message(value: int | memoryview) -> memoryview:
    """Return a field's value where it must be a message, a text or a block of numbers."""
    if isinstance(value, int):
        raise TypeError("a message was expected")
    return value


def numbers(value: int | memoryview) -> list[int]:
    """Return a field's value where it is one of a list of numbers, or the whole list, packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
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
