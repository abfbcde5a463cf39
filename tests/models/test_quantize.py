"""Weights in integers: how far a weight may move, and that it moves once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.models.quantize import (
    dequantize_blocks,
    dequantize_int8,
    quantize_blocks,
    quantize_int8,
)

_SIZE = st.floats(2.0**-30, 2.0**30, width=32)
_ELEMENTS = st.just(0.0) | _SIZE | _SIZE.map(lambda x: -x)


@st.composite
def matrices(draw):
    rows, blocks, block = (draw(st.integers(1, 5)) for _ in range(3))
    return draw(arrays(np.float32, (rows, blocks * block), elements=_ELEMENTS)), block


def by_block(matrix, block):
    return matrix.reshape(len(matrix), -1, block).astype(np.float64)


@settings(deadline=None)
@given(matrices())
def test_no_weight_moves_by_more_than_half_its_blocks_scale(case):
    matrix, block = case
    quantized = quantize_int8(matrix, block)
    blocks = by_block(matrix, block)
    error = np.abs(by_block(dequantize_int8(quantized), block) - blocks)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    # One part in a million allows for the rounding of scale and product to float32.
    assert (error <= largest / 254 * (1 + 1e-6) + largest * 2**-22).all()


@settings(deadline=None)
@given(matrices())
def test_values_use_the_symmetric_range_and_fill_it(case):
    matrix, block = case
    values = np.abs(by_block(quantize_int8(matrix, block).values, block)).max(axis=2)
    largest = np.abs(by_block(matrix, block)).max(axis=2)
    np.testing.assert_array_equal(values, np.where(largest > 0, 127, 0))


@settings(deadline=None)
@given(matrices())
def test_quantizing_again_changes_nothing(case):
    matrix, block = case
    once = quantize_int8(matrix, block)
    twice = quantize_int8(dequantize_int8(once), block)
    np.testing.assert_array_equal(twice.values, once.values)
    np.testing.assert_allclose(twice.scales, once.scales, rtol=1e-6)


@settings(deadline=None)
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


@st.composite
def blocked(draw):
    """A matrix whose last block need not be full, and an even block."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    matrix = draw(arrays(np.float32, (rows, columns), elements=_ELEMENTS))
    return matrix, draw(st.sampled_from([2, 4, 8]))


def filled(matrix, block):
    """Return the blocks (rows, blocks, block), the last one filled with zeros."""
    rows, columns = matrix.shape
    padded = np.pad(matrix.astype(np.float64), ((0, 0), (0, -columns % block)))
    return padded.reshape(rows, -1, block)


@settings(deadline=None, max_examples=50)
@given(blocked())
def test_8_bits_in_blocks_are_those_of_int8(case):
    matrix, block = case
    packed = quantize_blocks(matrix, 8, block)
    rows, columns = matrix.shape
    padded = filled(matrix, block).reshape(rows, -1).astype(np.float32)
    expected = dequantize_int8(quantize_int8(padded, block))[:, :columns]
    np.testing.assert_array_equal(dequantize_blocks(packed, 8, columns), expected)
    assert packed.values.shape == (rows, -(-columns // block), block)


@settings(deadline=None, max_examples=50)
@given(blocked())
def test_4_bits_err_no_more_than_rounding_to_the_largest_weight_would(case):
    matrix, block = case
    rows, columns = matrix.shape
    packed = quantize_blocks(matrix, 4, block)
    assert packed.values.shape == (rows, -(-columns // block), block // 2)
    blocks = filled(matrix, block)
    found = filled(dequantize_blocks(packed, 4, columns), block)
    largest = np.abs(blocks).max(axis=2, keepdims=True)
    scale = np.where(largest == 0, 1, largest) / 7
    plain = np.rint(blocks / scale) * scale
    error, plain_error = (((x - blocks) ** 2).sum(axis=2) for x in (found, plain))
    # A part in ten thousand allows for sums in float32.
    assert (error <= plain_error + 1e-4 * (blocks**2).sum(axis=2)).all()


@settings(deadline=None, max_examples=50)
@given(blocked())
def test_4_bits_keep_signs_and_zeros(case):
    matrix, block = case
    found = dequantize_blocks(quantize_blocks(matrix, 4, block), 4, matrix.shape[1])
    assert (np.sign(found) * np.sign(matrix) >= 0).all()
    assert not found[matrix == 0].any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_4_bits_give_back_what_4_bits_can_hold(seed):
    rng = np.random.default_rng(seed)
    integers = rng.integers(-7, 8, (3, 4, 32))
    integers[..., 0] = rng.choice([-8, 7], (3, 4))
    scales = rng.uniform(0.01, 10, (3, 4, 1))
    matrix = (integers * scales).astype(np.float32).reshape(3, -1)
    found = dequantize_blocks(quantize_blocks(matrix, 4, 32), 4, 128)
    np.testing.assert_allclose(found, matrix, rtol=1e-5)


def test_of_two_weights_in_a_byte_the_earlier_lies_in_the_lower_half():
    packed = quantize_blocks(np.array([[-8, 7, 0, 1]], np.float32), 4, 4)
    np.testing.assert_array_equal(packed.values, [[[0xF0, 0x98]]])
    np.testing.assert_allclose(packed.scales, [[1]])
