"""Weight-only int8: one scale per block of a row, sums in fp32."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

_LARGEST = 127


class Int8Matrix(NamedTuple):
    """A matrix as integers and scales.

    Attributes:
        values: (rows, columns) int8, in -127..127.
        scales: (rows, columns / block) float32.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantize_int8(matrix: Matrix, block: int) -> Int8Matrix:
    """Round a matrix to int8 with one scale per `block` neighbours of a row.

    The error of a weight is at most half its block's scale, that is, max|block| / 254.

    Args:
        matrix: (rows, columns) float32.
        block: divides the number of columns.
    """
    rows, columns = matrix.shape
    if columns % block:
        raise ValueError(f"{columns} columns are not a multiple of the block {block}")
    blocks = matrix.reshape(rows, columns // block, block)
    scales = (np.abs(blocks).max(axis=2) / _LARGEST).astype(np.float32)
    safe = np.where(scales == 0, 1, scales)[..., None]
    values = np.rint(blocks / safe).clip(-_LARGEST, _LARGEST).astype(np.int8)
    return Int8Matrix(values.reshape(rows, columns), scales)


def dequantize_int8(matrix: Int8Matrix) -> Matrix:
    """Return the fp32 matrix that the runtime computes with."""
    rows, columns = matrix.values.shape
    blocks = matrix.values.reshape(rows, matrix.scales.shape[1], -1).astype(np.float32)
    return (blocks * matrix.scales[..., None]).reshape(rows, columns)
