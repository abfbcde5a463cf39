"""bf16: rounding to bfloat16 is all that is lost; the exponents are coded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.errors import ProtocolError
from updraft.models.codecs.bfloat import BrainFloat

_WIDTH = 16
_SCALES = np.geomspace(0.02, 300, _WIDTH).astype(np.float32)
_CODEC = BrainFloat(_SCALES)
# Exponents gather around that of 1.
_UNIT = BrainFloat(np.ones(_WIDTH, np.float32))
_BFLOAT_MAX = float(np.uint32(0x7F7F0000).view(np.float32))


def round_trip(codec, states):
    return codec.decode(codec.encode(states), *states.shape)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.just(_WIDTH)),
        elements=st.floats(-_BFLOAT_MAX, _BFLOAT_MAX, width=32),
    )
)
def test_the_error_is_at_most_half_a_unit_in_the_last_of_8_bits(states):
    exact = states.astype(np.float64)
    bound = np.maximum(np.abs(exact) * 2**-8, 2**-134)
    assert (np.abs(round_trip(_CODEC, states).astype(np.float64) - exact) <= bound).all()


@given(
    arrays(np.uint16, st.tuples(st.integers(0, 4), st.just(_WIDTH))).filter(
        lambda bits: ((bits & 0x7F80) != 0x7F80).all()
    )
)
def test_what_is_a_bfloat16_already_comes_down_bit_by_bit(bits):
    states = (bits.astype(np.uint32) << 16).view(np.float32)
    assert round_trip(_CODEC, states).tobytes() == states.tobytes()


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (1 + 2**-8, 1.0),  # a tie goes to the even neighbour
        (1 + 3 * 2**-8, 1 + 2**-6),
        (1 + 2**-8 + 2**-20, 1 + 2**-7),
        (-(1 + 2**-8), -1.0),
        (3.4e38, _BFLOAT_MAX),
        (-3.4e38, -_BFLOAT_MAX),
        (1e-45, 0.0),
    ],
)
def test_values_round_to_the_nearest(value, rounded):
    states = np.full((1, _WIDTH), value, np.float32)
    np.testing.assert_array_equal(round_trip(_CODEC, states), np.float32(rounded))


@pytest.mark.parametrize("count", [1, 16])
def test_states_around_their_scales_take_less_than_10_8_bits_per_value(count):
    width = 256
    scales = np.geomspace(0.02, 300, width).astype(np.float32)
    rng = np.random.default_rng(0)
    codec, used = BrainFloat(scales), 0
    for _ in range(20):
        states = (rng.normal(0, 1, (count, width)) * scales).astype(np.float32)
        used += len(codec.encode(states))
    assert 8 * used < 10.8 * 20 * count * width


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(0, 4), st.just(_WIDTH)),
        elements=st.floats(width=32, allow_nan=False),
    )
)
def test_no_states_take_more_than_27_bits_per_value(states):
    assert len(_CODEC.encode(states)) <= -(-27 * states.size // 8)


_GOLDEN_STATES = np.array(
    [0.5, -0.75, 1, 1.5, 0.25, -0.375, 0.5, 0.5, 1, -1, 0.25, 0.25, 0.125, 2, 0.0625, 0], np.float32
)[None]
# Signs and mantissas.
_GOLDEN_MANTISSAS = "00c00040 00c00000 00800000 00000000"
# Ranks 0 0 1 1 | 2 2 0 0 | 1 1 2 2 | 3 3 3 3, the four quarters side by side.
_GOLDEN_RANKS = "d8d8e1e1"
# Ranks 3, 5, 4 and the escape: 1, 001, 01, 000000001 and a bit to fill; then the exponent of 0.
_GOLDEN_TAIL = "94 02 00"


def test_bytes_on_the_wire():
    golden = bytes.fromhex(_GOLDEN_MANTISSAS + _GOLDEN_RANKS + _GOLDEN_TAIL)
    assert _UNIT.encode(_GOLDEN_STATES) == golden
    np.testing.assert_array_equal(_UNIT.decode(golden, 1, _WIDTH), _GOLDEN_STATES)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("", "truncated: 0 of 4 ranks"),
        ("94", "truncated: 3 of 4 ranks"),
        ("94 02", "spells out 0 exponents, its ranks announce 1"),
        ("94 02 00 00", "spells out 2 exponents, its ranks announce 1"),
        ("94 03 00", "bits set where none belong"),
        ("94 00 80 00", "a rank beyond 11"),
        ("94 02 ff", "not finite"),
        ("94 02 7f", "an exponent that has a shorter code"),
    ],
)
def test_a_tail_that_no_encoder_writes_is_refused(tail, reason):
    payload = bytes.fromhex(_GOLDEN_MANTISSAS + _GOLDEN_RANKS + tail)
    with pytest.raises(ProtocolError, match=reason):
        _UNIT.decode(payload, 1, _WIDTH)


def test_a_tail_that_no_rank_announces_is_refused():
    payload = _UNIT.encode(np.ones((1, _WIDTH), np.float32))
    with pytest.raises(ProtocolError, match="1 bytes too many"):
        _UNIT.decode(payload + b"\0", 1, _WIDTH)
