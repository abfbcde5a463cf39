"""bf16: states rounded to bfloat16, whose exponents are coded without further loss.

Sign and mantissa of a value look random and go as one byte. Its exponent lies near that of its
channel's scale, so the wire has the distance between the two, in three parts for a whole payload:
two bits per value for the three commonest distances or "rarer"; for each rarer one, the rank of
its distance in unary; for distances without a rank, the exponent itself. All parts are decoded by
whole-array operations, and a payload of one position needs no table and no header.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProtocolError
from updraft.models.codecs.codec import check_width
from updraft.models.manifest import CodecName
from updraft.models.partition import States

Bytes = NDArray[np.uint8]

# Distances of an exponent from that of the channel's scale, commonest first: so they come for
# values that are normally distributed around zero, and so they were counted in the shipped model.
_DISTANCES = np.array([-1, 0, -2, -3, -4, 1, -5, -6, 2, -7, -8])
_RARER = 3
_ESCAPE = len(_DISTANCES)
_RANKS = np.full(256, _ESCAPE, np.uint8)
_RANKS[_DISTANCES] = np.arange(_ESCAPE)
# Unsigned bytes that wrap around; what stands for the escape is overwritten.
_STEPS = np.append(_DISTANCES, 0).astype(np.uint8)
# The scale is counted to the power of two that its values' exponents gather around.
_CENTRE = np.float32(0.75)
_LARGEST = np.uint32(0x7F7F0000).view(np.float32)
_NOT_FINITE = 255
_SHIFTS = np.array([[0], [2], [4], [6]], np.uint8)


class BrainFloat:
    """bfloat16 with coded exponents; takes widths that are multiples of four."""

    name: CodecName = "bf16"

    def __init__(self, scales: NDArray[np.float32]) -> None:
        self._centres = (np.frexp(scales / _CENTRE)[1] + 126).astype(np.uint8)

    def encode(self, states: States) -> bytes:
        rounded = _round(states)
        exponents = (rounded >> np.uint16(7)).astype(np.uint8)
        signs = (rounded >> np.uint16(8)).astype(np.uint8) & np.uint8(128)
        ranks = _RANKS[exponents - self._centres].ravel()
        parts = [
            (signs | rounded.astype(np.uint8) & np.uint8(127)).tobytes(),
            _pack_pairs(np.minimum(ranks, _RARER)).tobytes(),
        ]
        rarer = ranks[ranks >= _RARER]
        if len(rarer):
            ends = np.cumsum(rarer - np.uint8(_RARER - 1), dtype=np.int64)
            unary = np.zeros(ends[-1], np.uint8)
            unary[ends - 1] = 1
            parts.append(np.packbits(unary).tobytes())
            parts.append(exponents.ravel()[ranks == _ESCAPE].tobytes())
        return b"".join(parts)

    def decode(self, payload: bytes, count: int, width: int) -> States:
        check_width(self.name, width, len(self._centres))
        values = count * width
        fixed = values + values // 4
        if count < 0 or len(payload) < fixed:
            raise ProtocolError(
                f"a payload of {count} states has {len(payload)} bytes, {self.name} takes at "
                f"least {fixed}"
            )
        content = np.frombuffer(payload, np.uint8)
        mantissas = content[:values].reshape(count, width)
        ranks = _unpack_pairs(content[values:fixed])
        escaped = _read_tail(ranks, content[fixed:])
        ranks = ranks.reshape(count, width)
        exponents = _STEPS[ranks] + self._centres
        if len(escaped):
            exponents[ranks == _ESCAPE] = escaped
            if (escaped == _NOT_FINITE).any():
                raise ProtocolError("a payload holds values that are not finite")
            if not (_RANKS[exponents - self._centres] == ranks).all():
                raise ProtocolError("a payload spells out an exponent that has a shorter code")
        bits = (mantissas & np.uint8(128)).astype(np.uint32) << np.uint32(24)
        bits |= exponents.astype(np.uint32) << np.uint32(23)
        bits |= (mantissas & np.uint8(127)).astype(np.uint32) << np.uint32(16)
        states: States = bits.view(np.float32)
        return states


def _round(states: States) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even; NaN stays NaN."""
    bounded = states.clip(-_LARGEST, _LARGEST)
    bits = bounded.view(np.uint32)
    rounded: NDArray[np.uint16] = (
        (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    ).astype(np.uint16)
    missing = np.isnan(bounded)
    if missing.any():
        rounded[missing] = 0x7FC0
    return rounded


def _read_tail(ranks: Bytes, tail: Bytes) -> Bytes:
    """Put the ranks of the rarer distances in their places; return the exponents spelled out."""
    rarer = np.flatnonzero(ranks == _RARER)
    wanted = len(rarer)
    if not wanted:
        if len(tail):
            raise ProtocolError(f"a payload has {len(tail)} bytes too many")
        return tail
    longest = _ESCAPE - _RARER + 1
    ends = np.flatnonzero(np.unpackbits(tail[: -(-wanted * longest // 8)]))[:wanted] + 1
    if len(ends) < wanted:
        raise ProtocolError(f"a payload is truncated: {len(ends)} of {wanted} ranks are there")
    steps = ends.copy()
    steps[1:] -= ends[:-1]
    if steps.max() > longest:
        raise ProtocolError(f"a payload holds a rank beyond {_ESCAPE}")
    ranks[rarer] = steps + (_RARER - 1)
    stop = -(-int(ends[-1]) // 8)
    if int(tail[stop - 1]) & (1 << (8 * stop - int(ends[-1]))) - 1:
        raise ProtocolError("a payload has bits set where none belong")
    escapes = int((steps == longest).sum())
    if len(tail) != stop + escapes:
        raise ProtocolError(
            f"a payload spells out {len(tail) - stop} exponents, its ranks announce {escapes}"
        )
    return tail[stop:]


def _pack_pairs(pairs: Bytes) -> Bytes:
    """Pack values of two bits, the four quarters of an array side by side."""
    packed: Bytes = np.bitwise_or.reduce(pairs.reshape(4, -1) << _SHIFTS, axis=0)
    return packed


def _unpack_pairs(packed: Bytes) -> Bytes:
    pairs: Bytes = (packed >> _SHIFTS & np.uint8(3)).ravel()
    return pairs
