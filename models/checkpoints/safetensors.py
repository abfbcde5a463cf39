"""Read safetensors files: a header that is believed nowhere, tensors as fp32 one at a time.

A file is eight bytes with the header's length, the header (JSON: name, dtype, shape and place of
every tensor), and the tensors. They are read, not mapped: what is read is gone when it is no
longer used, and a file that shrinks meanwhile is an error and not a dead process.
"""

from __future__ import annotations

import hashlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError
from updraft.models.checkpoints.documents import parse_object, refuse_pointer

_LENGTH_BYTES = 8
# Headers of published checkpoints have some hundred kilobytes; ten times as many tensors fit.
_MAX_HEADER_BYTES = 16 << 20
_MAX_DIMENSIONS = 8
_METADATA = "__metadata__"
# Values that are widened at once: they stay in the cache.
_CHUNK = 1 << 18

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
_READABLE = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}


class TensorEntry(NamedTuple):
    """A tensor as the header describes it; `start` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


class SafetensorsFile:
    """One file, whose header has been checked.

    Attributes:
        tensors: by name.
        header_sha256: of the header, which tells files of one model's versions apart.
        size_bytes: of the whole file.
    """

    def __init__(self, path: Path) -> None:
        """Read and check the header.

        Raises:
            BundleError: the file cannot be read, or its header describes another file.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                header = self._header(file)
                self.size_bytes = file.seek(0, 2)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        self.header_sha256 = hashlib.sha256(header).hexdigest()
        start = _LENGTH_BYTES + len(header)
        described = parse_object(header, f"{path}: header")
        self._check_metadata(described.pop(_METADATA, None))
        self.tensors = {
            name: self._entry(name, entry, start, self.size_bytes - start)
            for name, entry in described.items()
        }
        self._check_places(start)

    def check_dtype(self, name: str) -> None:
        """Refuse a tensor whose numbers are no plain weights.

        Raises:
            BundleError: naming the dtype and those that are read.
        """
        dtype = self.tensors[name].dtype
        if dtype not in _READABLE:
            raise BundleError(
                f"{self.path}: {name} has dtype {dtype}; weights are read from "
                f"{', '.join(_READABLE)}: import the checkpoint that is not quantized"
            )

    def read(self, name: str) -> NDArray[np.float32]:
        """Return a tensor, widened or narrowed to fp32.

        Raises:
            BundleError: it cannot be read, or holds values that are no numbers.
        """
        self.check_dtype(name)
        entry = self.tensors[name]
        values = np.empty(prod(entry.shape), np.float32)
        try:
            with self.path.open("rb") as file:
                file.seek(entry.start)
                for first in range(0, values.size, _CHUNK):
                    self._read_chunk(file, name, values[first : first + _CHUNK])
        except OSError as error:
            raise BundleError(f"{self.path}: cannot be read: {error.strerror}") from error
        return values.reshape(entry.shape)

    def digest(self, name: str) -> str:
        """Return a hash of a tensor's dtype, shape and content.

        Raises:
            BundleError: it cannot be read.
        """
        entry = self.tensors[name]
        digest = hashlib.sha256(f"{entry.dtype}{entry.shape}".encode())
        try:
            with self.path.open("rb") as file:
                file.seek(entry.start)
                left = entry.size_bytes
                while left and (block := file.read(min(left, _CHUNK))):
                    digest.update(block)
                    left -= len(block)
        except OSError as error:
            raise BundleError(f"{self.path}: cannot be read: {error.strerror}") from error
        return digest.hexdigest()

    def _read_chunk(self, file: BinaryIO, name: str, out: NDArray[np.float32]) -> None:
        dtype = self.tensors[name].dtype
        stored = np.dtype(_READABLE[dtype])
        content = file.read(out.size * stored.itemsize)
        if len(content) < out.size * stored.itemsize:
            raise BundleError(f"{self.path}: {name} ends early: the file became shorter meanwhile")
        raw = np.frombuffer(content, stored)
        if dtype == "BF16":
            np.left_shift(raw, 16, out=out.view(np.uint32), dtype=np.uint32)
        else:
            with np.errstate(over="ignore"):  # found right below
                out[:] = raw
        if not np.isfinite(out).all():
            kind = "NaN" if np.isnan(out).any() else "infinity"
            raise BundleError(f"{self.path}: {name} holds {kind}: the checkpoint is damaged")

    def _header(self, file: BinaryIO) -> bytes:
        start = file.read(_LENGTH_BYTES)
        refuse_pointer(self.path, start)
        length = int.from_bytes(start, "little")
        if len(start) < _LENGTH_BYTES or length < 2:
            raise BundleError(f"{self.path}: not a safetensors file: it has no header")
        if length > _MAX_HEADER_BYTES:
            raise BundleError(
                f"{self.path}: not a safetensors file, or a hostile one: a header of {length} "
                f"bytes, at most {_MAX_HEADER_BYTES} are read"
            )
        header = file.read(length)
        if len(header) < length:
            raise BundleError(f"{self.path}: truncated: the header has {length} bytes")
        return header

    def _check_metadata(self, metadata: object) -> None:
        if metadata is not None and not isinstance(metadata, dict):
            raise BundleError(f"{self.path}: header: {_METADATA} is no object")

    def _entry(self, name: str, entry: Any, data_start: int, data_bytes: int) -> TensorEntry:
        where = f"{self.path}: header: {name[:200]!r}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise BundleError(f"{where}: dtype, shape and data_offsets are expected")
        dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
            raise BundleError(f"{where}: dtype {str(dtype)[:40]!r} is unknown")
        if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
            raise BundleError(f"{where}: shape: at most {_MAX_DIMENSIONS} sizes are expected")
        if not _are_sizes(place) or len(place) != 2 or place[0] > place[1]:
            raise BundleError(f"{where}: data_offsets: a start and an end are expected")
        begin, end = place
        if end > data_bytes:
            raise BundleError(
                f"{where}: its data end at {end}, the file holds {data_bytes} bytes of data: "
                "it is truncated"
            )
        size = prod(shape) * _ITEM_BYTES[dtype]
        if size != end - begin:
            raise BundleError(
                f"{where}: {dtype}{shape} takes {size} bytes, data_offsets span {end - begin}"
            )
        return TensorEntry(dtype, tuple(shape), data_start + begin, size)

    def _check_places(self, start: int) -> None:
        """Refuse tensors that share bytes, and bytes that belong to none."""
        at, before = start, ""
        for name, entry in sorted(self.tensors.items(), key=lambda item: item[1][2:]):
            if entry.start != at:
                what = "overlap" if entry.start < at else "leave bytes unused between them"
                raise BundleError(f"{self.path}: header: {before!r} and {name!r} {what}")
            at, before = at + entry.size_bytes, name
        if at != self.size_bytes:
            raise BundleError(
                f"{self.path}: {self.size_bytes - at} bytes after the last tensor: the header "
                "belongs to another file"
            )


def _are_sizes(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 48 for one in found
    )
