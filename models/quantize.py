"""Weights in integers: one scale per block of a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

_LARGEST = 127
# What the largest weight of a block is tried as, in steps of its scale; -8 is the widest that
# four bits hold, and a weight that loses a little there lets all others of its block gain.
_TRIED = (-8.0, 7.0, -8.5, 7.5, -7.5, -9.0, 8.0, 6.5)


class Int8Matrix(NamedTuple):
    """A matrix as integers and scales.

    Attributes:
        values: (rows, columns) int8, in -127..127.
        scales: (rows, columns / block) float32.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


class BlockMatrix(NamedTuple):
    """A matrix as `MatMulNBits` takes it.

    Attributes:
        values: (rows, blocks, block × bits / 8) uint8: integers, raised to be unsigned; of two
            that share a byte the earlier lies in its lower half.
        scales: (rows, blocks) float32.
    """

    values: NDArray[np.uint8]
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
    values, scales = _round_to_int8(matrix.reshape(rows, columns // block, block))
    return Int8Matrix(values.reshape(rows, columns), scales)


def dequantize_int8(matrix: Int8Matrix) -> Matrix:
    """Return the fp32 matrix that the runtime computes with."""
    rows, columns = matrix.values.shape
    blocks = matrix.values.reshape(rows, matrix.scales.shape[1], -1).astype(np.float32)
    return (blocks * matrix.scales[..., None]).reshape(rows, columns)


def quantize_blocks(matrix: Matrix, bits: int, block: int) -> BlockMatrix:
    """Round a matrix to 8 or 4 bits with one scale per `block` neighbours of a row.

    With 8 bits weights move as `quantize_int8` says. With 4, scales are those, of several tried
    per block, with the least squared error.

    Args:
        matrix: (rows, columns) float32; a last block that is not full is filled with zeros.
        block: even.
    """
    rows, columns = matrix.shape
    blocks = -(-columns // block)
    padded = np.pad(matrix, ((0, 0), (0, blocks * block - columns)))
    parts = padded.reshape(rows, blocks, block)
    if bits == 8:
        signed, scales = _round_to_int8(parts)
        return BlockMatrix(signed.view(np.uint8) ^ np.uint8(128), scales)
    values, scales = _round_to_int4(parts)
    raised = (values + 8).astype(np.uint8)
    return BlockMatrix(raised[..., 0::2] | (raised[..., 1::2] << np.uint8(4)), scales)


def dequantize_blocks(matrix: BlockMatrix, bits: int, columns: int) -> Matrix:
    """Return the fp32 matrix that the integers stand for."""
    rows, blocks, _ = matrix.values.shape
    if bits == 8:
        values = matrix.values.astype(np.float32) - 128
    else:
        pairs = np.stack([matrix.values & 15, matrix.values >> 4], axis=-1)
        values = pairs.reshape(rows, blocks, -1).astype(np.float32) - 8
    whole = (values * matrix.scales[..., None]).reshape(rows, -1)
    return np.ascontiguousarray(whole[:, :columns])


def _round_to_int8(blocks: Matrix) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    scales = (np.abs(blocks).max(axis=2) / _LARGEST).astype(np.float32)
    safe = np.where(scales == 0, 1, scales)[..., None]
    return np.rint(blocks / safe).clip(-_LARGEST, _LARGEST).astype(np.int8), scales


def _round_to_int4(blocks: Matrix) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Try scales per block; each time, the best scale for the integers follows in closed form."""
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2)[..., None], axis=2)
    least = np.full(blocks.shape[:2], -np.inf, np.float32)
    values = np.zeros_like(blocks)
    scales = np.zeros(blocks.shape[:2], np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of rows whose extreme is so small that its inverse overflows, all weights become 0.
        inverse = np.nan_to_num(1 / extreme, posinf=0, neginf=0)
    for steps in _TRIED:
        tried = np.rint(blocks * (inverse * np.float32(steps))).clip(-8, 7)
        product = np.einsum("rbk,rbk->rb", blocks, tried)
        squares = np.einsum("rbk,rbk->rb", tried, tried)
        squares[squares == 0] = 1
        # What is explained of the block's squares; the error is the rest.
        gain = product * product / squares
        better = gain > least
        least = np.where(better, gain, least)
        scales = np.where(better, product / squares, scales)
        values = np.where(better[..., None], tried, values)
    return values, scales
