"""Arrays whose memory goes back to the system when they are dropped."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


def zeros(shape: tuple[int, ...], element: DTypeLike) -> NDArray[Any]:
    """Return zeros in pages of their own, which take memory once they are written to.

    The C library keeps freed blocks of this size for later, so a coordinator would stay as large
    as in its busiest moment.
    """
    dtype, count = np.dtype(element), math.prod(shape)
    pages = mmap.mmap(-1, count * dtype.itemsize, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, count).reshape(shape)
