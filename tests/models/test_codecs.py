"""Wire codecs: the laws that all of them keep, and which of them a bundle offers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.errors import ProtocolError, RequestError
from updraft.models.bundle import open_bundle, write_manifest
from updraft.models.codecs import wire_codec
from updraft.models.codecs.bfloat import BrainFloat
from updraft.models.codecs.integer import Integer
from updraft.models.codecs.plain import Plain
from updraft.models.manifest import PLAIN_CODECS, SCALED_CODECS, CodecName
from updraft.models.scales import LARGEST, SMALLEST

_WIDTH = 16
_FLOAT_MAX = float(np.finfo(np.float32).max)
_SCALES = np.geomspace(0.02, 300, _WIDTH).astype(np.float32)
_EXTREME_SCALES = np.tile(np.array([SMALLEST, LARGEST], np.float32), _WIDTH // 2)


def _scaled(scales):
    return [BrainFloat(scales), *(Integer(f"int{bits}", bits, scales) for bits in (8, 6, 4))]


_CODECS = {
    **{codec.name: codec for codec in [Plain("fp32", "<f4"), Plain("fp16", "<f2")]},
    **{codec.name: codec for codec in _scaled(_SCALES)},
    **{f"{codec.name}, extreme scales": codec for codec in _scaled(_EXTREME_SCALES)},
}
each_codec = pytest.mark.parametrize("codec", _CODECS.values(), ids=_CODECS.keys())


def _normal(count, seed, exponent):
    values = np.random.default_rng(seed).normal(0, 1, (count, _WIDTH))
    return (values * _SCALES * 10.0**exponent).astype(np.float32)


# What a model makes, and what no model makes: zeros, subnormals, values at the type's end.
_counts = st.integers(0, 5)
_usual = st.builds(_normal, _counts, st.integers(0, 2**32 - 1), st.integers(-12, 12))
_edges = st.sampled_from([0.0, -0.0, 65504.0, -65520.0, _FLOAT_MAX, -_FLOAT_MAX, 1e-45, 2.0**-133])
_unusual = arrays(
    np.float32,
    st.tuples(_counts, st.just(_WIDTH)),
    elements=st.floats(width=32, allow_nan=False) | _edges,
)
_states = _usual | _unusual


@each_codec
@given(states=_states)
def test_what_comes_down_is_finite_and_has_the_shape_that_went_up(codec, states):
    decoded = codec.decode(codec.encode(states), *states.shape)
    assert decoded.dtype == np.float32
    assert decoded.shape == states.shape
    assert np.isfinite(decoded).all()


@each_codec
@given(states=_states)
def test_what_was_decoded_encodes_to_the_same_bytes(codec, states):
    payload = codec.encode(states)
    assert codec.encode(codec.decode(payload, *states.shape)) == payload


@each_codec
@given(states=_states)
def test_a_state_does_not_depend_on_those_that_it_travels_with(codec, states):
    together = codec.decode(codec.encode(states), *states.shape)
    for row, state in enumerate(states):
        alone = codec.decode(codec.encode(state[None]), 1, _WIDTH)
        assert alone.tobytes() == together[row].tobytes()


@each_codec
@given(states=_states)
def test_another_memory_layout_gives_the_same_bytes(codec, states):
    before = states.copy()
    assert codec.encode(np.asfortranarray(states)) == codec.encode(states)
    assert codec.encode(np.repeat(states, 2, axis=0)[::2]) == codec.encode(states)
    np.testing.assert_array_equal(states, before, "encoding must leave its input alone")


@each_codec
@given(states=_unusual)
def test_infinity_goes_as_the_largest_number(codec, states):
    bounded = states.clip(-_FLOAT_MAX, _FLOAT_MAX)
    assert codec.encode(states) == codec.encode(bounded)


@each_codec
@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_states_that_hold_nan_are_refused_by_the_other_side(codec, bits):
    states = np.ones((3, _WIDTH), np.float32)
    states.view(np.uint32)[1, 5] = bits
    with pytest.raises(ProtocolError, match="finite"):
        codec.decode(codec.encode(states), *states.shape)


def _accepted_only_if_an_encoder_could_have_made_it(codec, payload, count):
    try:
        decoded = codec.decode(payload, count, _WIDTH)
    except ProtocolError:
        return
    assert np.isfinite(decoded).all()
    assert codec.encode(decoded) == payload


@each_codec
@given(states=_states, data=st.data())
def test_a_damaged_payload_is_refused_or_another_sound_one(codec, states, data):
    payload = bytearray(codec.encode(states))
    for _ in range(data.draw(st.integers(1, 3)) if payload else 0):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    _accepted_only_if_an_encoder_could_have_made_it(codec, bytes(payload), len(states))


@each_codec
@given(payload=st.binary(max_size=150), count=st.integers(0, 3))
def test_garbage_is_refused_or_sound(codec, payload, count):
    _accepted_only_if_an_encoder_could_have_made_it(codec, payload, count)


@each_codec
@given(states=_states, data=st.data())
def test_a_payload_that_is_cut_or_goes_on_is_refused(codec, states, data):
    payload = codec.encode(states)
    longer = payload + data.draw(st.binary(min_size=1, max_size=40))
    with pytest.raises(ProtocolError, match="payload"):
        codec.decode(longer, *states.shape)
    if payload:
        with pytest.raises(ProtocolError, match="payload"):
            codec.decode(payload[: data.draw(st.integers(0, len(payload) - 1))], *states.shape)


@each_codec
@pytest.mark.parametrize("count", [-1, 0, 2, 3, 2**32 - 1, 2**62])
def test_a_count_that_is_not_the_payload_s_is_refused_without_taking_memory(codec, count):
    payload = codec.encode(np.ones((1, _WIDTH), np.float32))
    with pytest.raises(ProtocolError, match="payload"):
        codec.decode(payload, count, _WIDTH)


@pytest.mark.parametrize("name", SCALED_CODECS)
def test_a_width_that_is_not_the_bundle_s_is_refused(name):
    codec = _CODECS[name]
    payload = codec.encode(np.ones((2, _WIDTH), np.float32))
    with pytest.raises(ProtocolError, match=f"states of 8 values, this bundle's {name} takes 16"):
        codec.decode(payload, 4, 8)


@pytest.mark.parametrize("name", CodecName.__args__)
def test_a_bundle_with_channel_scales_offers_every_codec(tiny_bundle, name):
    codec = wire_codec(tiny_bundle, name)
    states = np.ones((2, 64), np.float32)
    assert codec.name == name
    assert codec.decode(codec.encode(states), 2, 64).shape == (2, 64)


def test_a_bundle_without_channel_scales_offers_plain_codecs_only(folder, tiny_bundle):
    plain = {"wire": None, "codecs": list(PLAIN_CODECS)}
    write_manifest(folder, tiny_bundle.manifest.model_copy(update=plain))
    bundle = open_bundle(folder)
    for name in PLAIN_CODECS:
        assert wire_codec(bundle, name).name == name
    for name in SCALED_CODECS:
        with pytest.raises(RequestError) as caught:
            wire_codec(bundle, name)
        assert str(caught.value) == (
            f"wire codec {name!r} is not one of bundle 'tiny', it has no channel scales: choose "
            "from fp32, fp16"
        )
