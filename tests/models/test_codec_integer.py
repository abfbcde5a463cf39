"""int8, int6 and int4: codes by channel and position scales, packed without gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import ProtocolError
from updraft.models.codecs.integer import Integer

_WIDTH = 16
_SCALES = np.geomspace(0.02, 300, _WIDTH).astype(np.float32)
_LEVELS = {8: 127, 6: 31, 4: 7}
_HALF = np.dtype("<f2")
_SMALLEST, _LARGEST = 2.0**-14, 65504.0
each_size = pytest.mark.parametrize("bits", _LEVELS)


def codec_of(bits, scales=_SCALES):
    return Integer(f"int{bits}", bits, scales)


def position_scales(payload, count):
    rows = np.frombuffer(payload, np.uint8).reshape(count, -1)
    return rows[:, :2].copy().view(_HALF)[:, 0]


@each_size
@given(count=st.integers(0, 5))
def test_a_state_takes_its_bits_and_one_half_precision_scale(bits, count):
    payload = codec_of(bits).encode(np.ones((count, _WIDTH), np.float32))
    assert len(payload) == count * (2 + _WIDTH * bits // 8)


@each_size
@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-6, 4))
def test_the_error_is_at_most_half_a_step_of_the_channel(bits, seed, exponent):
    codec, rng = codec_of(bits), np.random.default_rng(seed)
    states = (rng.standard_t(3, (4, _WIDTH)) * _SCALES * 10**exponent).astype(np.float32)
    payload = codec.encode(states)
    scales = position_scales(payload, 4).astype(np.float64)
    peaks = np.abs(states.astype(np.float64) / _SCALES).max(axis=1) / _LEVELS[bits]
    # No smaller scale would reach the largest value: the step is as fine as it can be.
    np.testing.assert_allclose(scales, peaks.clip(_SMALLEST, _LARGEST), rtol=2**-11 + 1e-6)
    within = peaks <= _LARGEST
    error = np.abs(codec.decode(payload, 4, _WIDTH).astype(np.float64) - states)
    assert (error <= 0.5001 * scales[:, None] * _SCALES)[within].all()


def test_channel_scales_keep_outliers_from_drowning_the_other_channels():
    width = 256
    scales = np.ones(width, np.float32)
    scales[::64] = 100
    states = np.random.default_rng(0).normal(0, 1, (64, width)).astype(np.float32) * scales
    usual = scales == 1
    noise_db = {}
    for name, given_scales in (("scaled", scales), ("alike", np.ones(width, np.float32))):
        codec = codec_of(8, given_scales)
        error = codec.decode(codec.encode(states), *states.shape) - states
        power = np.square(states[:, usual]).mean() / np.square(error[:, usual]).mean()
        noise_db[name] = 10 * np.log10(power)
    assert noise_db["scaled"] > 40
    assert noise_db["alike"] < 10


@each_size
def test_values_beyond_the_largest_scale_are_bounded_and_the_others_are_kept(bits):
    codec = codec_of(bits, np.ones(_WIDTH, np.float32))
    largest = _LEVELS[bits] * _LARGEST
    states = np.zeros((1, _WIDTH), np.float32)
    states[0, :4] = 1e30, -1e30, largest, 3 * _LARGEST
    decoded = codec.decode(codec.encode(states), 1, _WIDTH)
    np.testing.assert_array_equal(decoded[0, :4], [largest, -largest, largest, 3 * _LARGEST])


@each_size
def test_zeros_stay_zeros(bits):
    codec, states = codec_of(bits), np.zeros((2, _WIDTH), np.float32)
    payload = codec.encode(states)
    assert (position_scales(payload, 2) == _SMALLEST).all()
    np.testing.assert_array_equal(codec.decode(payload, 2, _WIDTH), states)


@each_size
@given(st.data())
def test_every_code_survives_packing(bits, data):
    levels = _LEVELS[bits]
    codes = data.draw(
        st.lists(st.integers(-levels, levels), min_size=_WIDTH - 1, max_size=_WIDTH - 1)
    )
    states = np.array([[*codes, -levels]], np.float32) * np.float32(0.75)
    codec = codec_of(bits, np.ones(_WIDTH, np.float32))
    np.testing.assert_array_equal(codec.decode(codec.encode(states), 1, _WIDTH), states)


_STEPS = [1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 0, 7, -7, 0]


@pytest.mark.parametrize(
    ("bits", "top", "golden"),
    [
        # 0.5 as fp16, then the codes; the last one is the largest.
        (8, 127, "0038 01ff02fe 03fd04fc 05fb06fa 0007f97f"),
        # Codes + 32; the last four lend two bits each to the twelve before them.
        (6, 31, "0038 21df62de 235da4dc a59b66da"),
        # Codes + 8; the second half above the first.
        (4, 7, "0038 d937ea268bf51cf4"),
    ],
)
def test_bytes_on_the_wire(bits, top, golden):
    scales = np.array([1, 2] * (_WIDTH // 2), np.float32)
    steps = np.array([*_STEPS[:-1], top], np.float32)
    states = (steps * np.float32(0.5) * scales)[None]
    codec = codec_of(bits, scales)
    assert codec.encode(states) == bytes.fromhex(golden)
    np.testing.assert_array_equal(codec.decode(bytes.fromhex(golden), 1, _WIDTH), states)


@each_size
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 0.0, -1.0, 2.0**-15, 2.0**-24])
def test_a_position_scale_that_no_encoder_gives_is_refused(bits, scale):
    codec = codec_of(bits)
    payload = bytearray(codec.encode(np.ones((3, _WIDTH), np.float32)))
    row = len(payload) // 3
    payload[row : row + 2] = np.array(scale, _HALF).tobytes()
    with pytest.raises(ProtocolError, match=r"scale is not a finite number of at least 6\.1"):
        codec.decode(bytes(payload), 3, _WIDTH)


@each_size
def test_a_row_whose_scale_is_larger_than_its_codes_need_is_refused(bits):
    codec = codec_of(bits)
    payload = codec.encode(np.zeros((1, _WIDTH), np.float32))
    larger = np.array(1.0, _HALF).tobytes() + payload[2:]
    with pytest.raises(ProtocolError, match=f"largest code is not {_LEVELS[bits]}, its scale"):
        codec.decode(larger, 1, _WIDTH)


def test_the_code_below_the_smallest_is_refused():
    codec = codec_of(8)
    payload = bytearray(codec.encode(np.ones((1, _WIDTH), np.float32)))
    payload[2] = 0x80
    with pytest.raises(ProtocolError, match="largest code is not 127"):
        codec.decode(bytes(payload), 1, _WIDTH)
