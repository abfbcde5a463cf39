"""Channel scales: how large the values of each channel of the split states usually are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError

Scales = NDArray[np.float32]

# With scales within these bounds, no product of scales and codes leaves the range of fp32.
SMALLEST, LARGEST = 2.0**-64, 2.0**64
# A channel that was silent in the calibration texts must not set a position's scale alone.
_QUIETEST = 1e-3


def fit_scales(states: NDArray[np.float32]) -> Scales:
    """Return the root mean square of each channel, over (positions, width) states.

    Of the static scales that were tried none leaves noticeably less error behind
    (docs/adr/0009-wire-codecs.md).
    """
    scales = np.sqrt(np.square(states, dtype=np.float64).mean(axis=0))
    scales = np.maximum(scales, _QUIETEST * np.sqrt(np.square(scales).mean()))
    return scales.clip(SMALLEST, LARGEST).astype(np.float32)


def scales_to_bytes(scales: Scales) -> bytes:
    """Return the scales as a bundle keeps them: little-endian fp32."""
    return scales.astype("<f4").tobytes()


def read_scales(path: Path, width: int) -> Scales:
    """Read the scales of `width` channels.

    Raises:
        BundleError: there are more or fewer, or one is not a number that a scale can be.
    """
    content = path.read_bytes()
    if len(content) != 4 * width:
        raise BundleError(
            f"{path}: {len(content)} bytes, the scales of {width} channels take {4 * width}"
        )
    scales = np.frombuffer(content, "<f4").astype(np.float32)
    if not ((scales >= SMALLEST) & (scales <= LARGEST)).all():
        raise BundleError(f"{path}: a channel scale lies outside {SMALLEST:g} to {LARGEST:g}")
    return scales
