"""Integer codecs: 8, 6 or 4 bits per value, by static channel scales and one scale per position.

A row on the wire is the position's scale (fp16), then its codes: value = code × position scale ×
channel scale. The channels' scales, from the bundle, make channels alike; the position's scale
then brings the largest of them to the largest code.

The largest code is always reached, unless the position's scale is the smallest there is. So what
was decoded finds the same scale when it is encoded again, and the same bytes; `decode` refuses
rows that do not keep to this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProtocolError
from updraft.models.codecs.codec import check_size, check_width
from updraft.models.manifest import CodecName
from updraft.models.partition import States

Codes = NDArray[np.int8]
Packed = NDArray[np.uint8]

_SCALE = np.dtype("<f2")
# Below the smallest normal number fp16 is too coarse for a scale to be found again.
_SMALLEST = float(np.finfo(_SCALE).smallest_normal)
_LARGEST = float(np.finfo(_SCALE).max)
_SHIFTS = np.array([[0], [2], [4]], np.uint8)


class Quantized(NamedTuple):
    """Position scales (n, 1) and codes (n, width)."""

    scales: NDArray[np.float16]
    codes: Codes


class Integer:
    """Codes of `bits` bits, packed without gaps."""

    def __init__(self, name: CodecName, bits: int, scales: NDArray[np.float32]) -> None:
        self.name: CodecName = name
        self._levels = np.float32(2 ** (bits - 1) - 1)
        self._scales = scales
        self._inverse = 1 / scales
        self._row_bytes = _SCALE.itemsize + len(scales) * bits // 8
        self._pack, self._unpack = _PACKING[bits]

    def quantize(self, states: States) -> Quantized:
        """Round (n, width) states to codes.

        NaN gives a NaN scale, which `decode` refuses; infinity the largest code.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            alike = states * self._inverse
            peaks = np.abs(alike).max(axis=1, keepdims=True)
            scales = (peaks / self._levels).clip(_SMALLEST, _LARGEST).astype(_SCALE)
            alike /= scales.astype(np.float32)
            codes = np.rint(alike).clip(-self._levels, self._levels).astype(np.int8)
        return Quantized(scales, codes)

    def encode(self, states: States) -> bytes:
        scales, codes = self.quantize(states)
        rows = np.empty((len(states), self._row_bytes), np.uint8)
        rows[:, : _SCALE.itemsize] = scales.view(np.uint8)
        rows[:, _SCALE.itemsize :] = self._pack(codes)
        return rows.tobytes()

    def decode(self, payload: bytes, count: int, width: int) -> States:
        check_width(self.name, width, len(self._scales))
        check_size(self.name, payload, count, count * self._row_bytes)
        rows = np.frombuffer(payload, np.uint8).reshape(count, self._row_bytes)
        scales = rows[:, : _SCALE.itemsize].copy().view(_SCALE).astype(np.float32)
        if not ((scales >= _SMALLEST) & (scales <= _LARGEST)).all():
            raise ProtocolError(
                f"a position's scale is not a finite number of at least {_SMALLEST:g}"
            )
        states: States = self._unpack(rows[:, _SCALE.itemsize :]).astype(np.float32)
        peaks = np.abs(states).max(axis=1, keepdims=True)
        if not ((peaks == self._levels) | (peaks < self._levels) & (scales == _SMALLEST)).all():
            raise ProtocolError(
                f"a position's largest code is not {self._levels:g}, its scale fits other values"
            )
        states *= scales
        states *= self._scales
        return states


def _pack8(codes: Codes) -> Packed:
    return codes.view(np.uint8)


def _unpack8(packed: Packed) -> Codes:
    return packed.view(np.int8)


def _pack6(codes: Codes) -> Packed:
    """Put the row's last quarter, two bits at a time, above the codes of the other three."""
    count, width = codes.shape
    quarters = (codes.view(np.uint8) + np.uint8(32)).reshape(count, 4, width // 4)
    packed: Packed = quarters[:, 3:] >> _SHIFTS << np.uint8(6)
    packed |= quarters[:, :3]
    return packed.reshape(count, width // 4 * 3)


def _unpack6(packed: Packed) -> Codes:
    count, quarter = len(packed), packed.shape[1] // 3
    thirds = packed.reshape(count, 3, quarter)
    quarters = np.empty((count, 4, quarter), np.uint8)
    quarters[:, :3] = thirds & np.uint8(63)
    np.bitwise_or.reduce(thirds >> np.uint8(6) << _SHIFTS, axis=1, out=quarters[:, 3])
    quarters -= np.uint8(32)
    return quarters.view(np.int8).reshape(count, 4 * quarter)


def _pack4(codes: Codes) -> Packed:
    """Put the row's second half above its first."""
    count, width = codes.shape
    halves = (codes.view(np.uint8) + np.uint8(8)).reshape(count, 2, width // 2)
    packed: Packed = halves[:, 0] | halves[:, 1] << np.uint8(4)
    return packed


def _unpack4(packed: Packed) -> Codes:
    count, half = packed.shape
    halves = np.empty((count, 2, half), np.uint8)
    np.bitwise_and(packed, np.uint8(15), out=halves[:, 0])
    np.right_shift(packed, np.uint8(4), out=halves[:, 1])
    halves -= np.uint8(8)
    return halves.view(np.int8).reshape(count, 2 * half)


_PACKING: dict[int, tuple[Callable[[Codes], Packed], Callable[[Packed], Codes]]] = {
    8: (_pack8, _unpack8),
    6: (_pack6, _unpack6),
    4: (_pack4, _unpack4),
}
