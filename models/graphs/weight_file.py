"""Files of weights beside a graph, laid out so that the runtime maps them instead of reading."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from updraft.errors import BundleError
from updraft.models.bundle import DATA_SUFFIX

# Every tensor begins a page, so that it can be mapped.
_PAGE_BYTES = 4096


class WeightFile:
    """Tensors one after the other in one file, which a graph names by place.

    A file that several graphs share is written by the first of them. Those that come later ask
    for the same tensors in the same order, and nothing is read or written for them.

    Attributes:
        path: of the file, which is there once `close` was called.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".tmp")
        self._file: BinaryIO | None = None
        self._written = path.exists()
        self._at = 0

    def add(
        self,
        name: str,
        element: np.dtype[Any],
        shape: tuple[int, ...],
        parts: Iterable[NDArray[Any]],
    ) -> TensorProto:
        """Append a tensor whose memory comes part by part; return what a graph says of it."""
        start, size = -(-self._at // _PAGE_BYTES) * _PAGE_BYTES, prod(shape) * element.itemsize
        self._at = start + size
        if not self._written:
            if self._file is None:
                self._file = self._partial.open("wb")
            self._file.seek(start)
            for part in parts:
                self._file.write(np.ascontiguousarray(part, element).data)
            if self._file.tell() != self._at:
                raise ValueError(f"{name}: {self._file.tell() - start} bytes where {size} belong")
        kind = helper.np_dtype_to_tensor_dtype(element)
        tensor = TensorProto(name=name, data_type=kind, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self.path.name, "offset": str(start), "length": str(size)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        return tensor

    def close(self) -> list[str]:
        """Put the file in its place; return its name, where it holds anything.

        Raises:
            BundleError: a file that was there holds something else.
        """
        if self._file is not None:
            self._file.close()
            self._partial.replace(self.path)
            self._file = None
        elif self._written and self._at and self.path.stat().st_size != self._at:
            raise BundleError(f"{self.path}: holds other weights; remove it and build again")
        return [self.path.name] if self._at else []

    def discard(self) -> None:
        """Remove what was written, unless the file is in its place."""
        if self._file is not None:
            self._file.close()
            self._partial.unlink()
            self._file = None


def weight_file(folder: Path, stem: str) -> WeightFile:
    """Return the file of weights that goes by this name."""
    return WeightFile(folder / (stem + DATA_SUFFIX))
