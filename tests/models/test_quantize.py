"""Weight-only int8: how far a weight may move, and that it moves once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.models.quantize import dequantize_int8, quantize_int8

_SIZE = st.floats(2.0**-30, 2.0**30, width=32)
_ELEMENTS = st.just(0.0) | _SIZE | _SIZE.map(lambda x: -x)


@st.composite
def matrices(draw):
    rows, blocks, block = (draw(st.integers(1, 5)) for _ in range(3))
    return draw(arrays(np.float32, (rows, blocks * block), elements=_ELEMENTS)), block


def by_block(matrix, block):
    return matrix.reshape(len(matrix), -1, block).astype(np.float64)


@given(matrices())
def test_no_weight_moves_by_more_than_half_its_blocks_scale(case):
    matrix, block = case
    quantized = quantize_int8(matrix, block)
    blocks = by_block(matrix, block)
    error = np.abs(by_block(dequantize_int8(quantized), block) - blocks)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    # One part in a million allows for the rounding of scale and product to float32.
    assert (error <= largest / 254 * (1 + 1e-6) + largest * 2**-22).all()


@given(matrices())
def test_values_use_the_symmetric_range_and_fill_it(case):
    matrix, block = case
    values = np.abs(by_block(quantize_int8(matrix, block).values, block)).max(axis=2)
    largest = np.abs(by_block(matrix, block)).max(axis=2)
    np.testing.assert_array_equal(values, np.where(largest > 0, 127, 0))


@given(matrices())
def test_quantizing_again_changes_nothing(case):
    matrix, block = case
    once = quantize_int8(matrix, block)
    twice = quantize_int8(dequantize_int8(once), block)
    np.testing.assert_array_equal(twice.values, once.values)
    np.testing.assert_allclose(twice.scales, once.scales, rtol=1e-6)


@given(matrices())
def test_negating_weights_negates_values(case):
    matrix, block = case
    values, scales = quantize_int8(matrix, block)
    opposite = quantize_int8(-matrix, block)
    np.testing.assert_array_equal(opposite.values, -values)
    np.testing.assert_array_equal(opposite.scales, scales)


def test_zeros_stay_zero():
    quantized = quantize_int8(np.zeros((3, 8), np.float32), 4)
    assert not quantized.values.any()
    assert not quantized.scales.any()
    assert not dequantize_int8(quantized).any()


def test_a_block_of_zeros_does_not_touch_its_neighbours():
    matrix = np.array([[0, 0, 127, -63.5]], np.float32)
    quantized = quantize_int8(matrix, 2)
    np.testing.assert_array_equal(quantized.scales, [[0, 1]])
    np.testing.assert_array_equal(quantized.values, [[0, 0, 127, -64]])


def test_blocks_run_along_rows():
    matrix = np.array([[127, 254, 0, 0], [0, 0, 12.7, 1.27]], np.float32)
    quantized = quantize_int8(matrix, 2)
    assert quantized.values.dtype == np.int8
    np.testing.assert_allclose(quantized.scales, [[2, 0], [0, 0.1]], rtol=1e-6)


@pytest.mark.parametrize("block", [3, 5, 16])
def test_a_block_that_does_not_divide_the_row_is_refused(block):
    with pytest.raises(ValueError, match=f"8 columns are not a multiple of the block {block}"):
        quantize_int8(np.ones((2, 8), np.float32), block)
