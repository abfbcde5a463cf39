"""fp32 and fp16: floats as they are."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from updraft.errors import ProtocolError
from updraft.models.codecs.plain import Plain

_HALF_MAX = 65504.0
_SIZES = {"fp32": 4, "fp16": 2}
_CODECS = {"fp32": Plain("fp32", "<f4"), "fp16": Plain("fp16", "<f2")}
_GOLDEN = np.array([[1.0, -2.0], [0.5, 65504.0]], np.float32)


def states_of(largest):
    return arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-largest, largest, width=32),
    )


@given(states_of(float(np.finfo(np.float32).max)))
def test_fp32_round_trip_is_exact(states):
    codec = _CODECS["fp32"]
    decoded = codec.decode(codec.encode(states), *states.shape)
    np.testing.assert_array_equal(decoded, states)


@given(states_of(_HALF_MAX))
def test_fp16_round_trip_stays_within_half_precision(states):
    codec = _CODECS["fp16"]
    decoded = codec.decode(codec.encode(states), *states.shape)
    # Half a unit in the last of 11 bits, or half the smallest subnormal.
    bound = np.maximum(np.abs(states.astype(np.float64)) * 2**-11, 2**-25)
    assert (np.abs(decoded.astype(np.float64) - states) <= bound).all()


@given(states_of(float(np.finfo(np.float32).max)))
def test_fp16_bounds_states_beyond_its_range_and_keeps_their_sign(states):
    codec = _CODECS["fp16"]
    decoded = codec.decode(codec.encode(states), *states.shape)
    beyond = np.abs(states) > _HALF_MAX
    np.testing.assert_array_equal(decoded[beyond], np.sign(states[beyond]) * _HALF_MAX)


@pytest.mark.parametrize("name", _CODECS)
@given(count=st.integers(1, 9), width=st.integers(1, 9))
def test_payload_takes_the_bytes_of_its_values_and_nothing_else(name, count, width):
    payload = _CODECS[name].encode(np.ones((count, width), np.float32))
    assert len(payload) == _SIZES[name] * width * count


@pytest.mark.parametrize("name", _CODECS)
@given(size=st.integers(0, 64))
def test_payload_of_another_size_is_refused(name, size):
    expected = 3 * 4 * _SIZES[name]
    assume(size != expected)
    with pytest.raises(ProtocolError, match=rf"{size} bytes, {name} takes {expected}"):
        _CODECS[name].decode(bytes(size), 3, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "element"), [("fp32", "<f4"), ("fp16", "<f2")])
def test_payload_with_a_value_that_is_not_finite_is_refused(name, element, value):
    payload = np.array([0.0, value, 1.0, 2.0], element).tobytes()
    with pytest.raises(ProtocolError, match="not finite"):
        _CODECS[name].decode(payload, 2, 2)


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("fp32", "0000803f 000000c0 0000003f 00e07f47"),
        ("fp16", "003c 00c0 0038 ff7b"),
    ],
)
def test_bytes_on_the_wire_are_row_major_and_little_endian(name, golden):
    assert _CODECS[name].encode(_GOLDEN) == bytes.fromhex(golden)
    np.testing.assert_array_equal(_CODECS[name].decode(bytes.fromhex(golden), 2, 2), _GOLDEN)
