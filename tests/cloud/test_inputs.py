"""Inputs by position: the same whatever the order, cut and repetition of the frames."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.cloud.inputs import DamagedInputs, Inputs, frame_bytes, most_bytes
from updraft.errors import ProtocolError

LIMIT = 24
ROW_BYTES = 4


def decode(payload, count):
    rows = np.frombuffer(payload, "<f4").reshape(-1, 1)
    if len(rows) != count:
        raise ProtocolError("another size")
    return rows


def payload_of(start, stop):
    return np.arange(start, stop, dtype="<f4").tobytes()


@pytest.fixture
def inputs():
    return Inputs(decode, LIMIT)


def put(inputs, start, stop):
    inputs.put(start, stop - start, payload_of(start, stop))


frames = st.lists(
    st.tuples(st.integers(0, LIMIT - 1), st.integers(1, 6)).map(
        lambda drawn: (drawn[0], min(LIMIT, drawn[0] + drawn[1]))
    ),
    max_size=12,
)


@given(frames, st.integers(0, LIMIT), frames)
def test_whatever_comes_the_inputs_are_those_of_their_positions(before, length, after):
    inputs = Inputs(decode, LIMIT)
    known = 0
    for start, stop in before:
        put(inputs, start, stop)
    inputs.truncate(length)
    assert inputs.length <= length
    for start, stop in after:
        put(inputs, start, stop)
        known = max(known, stop) if start <= known else known
    assert inputs.length >= known
    rows = inputs.rows(0, inputs.length) if inputs.length else []
    assert [float(row[0]) for row in rows] == list(range(inputs.length))
    inputs.truncate(0)
    assert (inputs.length, inputs.held_bytes) == (0, 0)


@given(st.permutations(range(8)))
def test_every_order_gives_the_same(order):
    inputs = Inputs(decode, LIMIT)
    for index in order:
        put(inputs, 3 * index, 3 * index + 3)
    assert inputs.length == LIMIT
    np.testing.assert_array_equal(inputs.rows(0, LIMIT), decode(payload_of(0, LIMIT), LIMIT))
    np.testing.assert_array_equal(inputs.rows(5, 13), decode(payload_of(5, 13), 8))


@given(frames, st.integers(0, LIMIT))
def test_memory_is_counted_as_it_is_taken(parts, done):
    inputs = Inputs(decode, LIMIT)
    for start, stop in parts:
        before = inputs.held_bytes
        put(inputs, start, stop)
        count = stop - start
        assert inputs.held_bytes <= before + frame_bytes(count, ROW_BYTES * count, ROW_BYTES)
    full = inputs.held_bytes
    inputs.release(min(done, inputs.length))
    assert inputs.held_bytes <= full
    inputs.release_all()
    payloads = [*inputs._frames, *inputs._early.values()]
    assert inputs.held_bytes == sum(frame_bytes(0, len(f.payload), 0) for f in payloads)
    assert [float(row[0]) for row in inputs.rows(0, inputs.length)] if inputs.length else True


def test_the_most_that_inputs_take_is_known(inputs):
    for position in range(LIMIT):
        put(inputs, position, position + 1)
    assert inputs.held_bytes == most_bytes(LIMIT, ROW_BYTES)


def test_frames_beyond_a_gap_are_bounded(inputs):
    for start in range(1, LIMIT):
        put(inputs, start, LIMIT)
    assert inputs.length == 0
    assert inputs.held_bytes <= 2 * most_bytes(LIMIT, ROW_BYTES)
    put(inputs, 0, LIMIT)
    assert inputs.length == LIMIT


def test_what_exceeds_the_context_or_has_another_size_is_refused(inputs):
    with pytest.raises(ProtocolError, match="inputs up to position 25 exceed the context of 24"):
        put(inputs, 20, 25)
    with pytest.raises(ProtocolError, match="another size"):
        inputs.put(0, 2, b"1234")
    assert (inputs.length, inputs.held_bytes) == (0, 0)


def test_the_hash_is_that_of_the_decoded_inputs(inputs):
    for start in (0, 3, 6):
        put(inputs, start, start + 3)
    for length in (0, 2, 3, 8):
        expected = hashlib.blake2b(payload_of(0, length), digest_size=16).digest()
        assert inputs.prefix_hash(length) == expected


def test_a_payload_that_changed_is_noticed_when_it_is_decoded_again(inputs):
    put(inputs, 0, 4)
    put(inputs, 4, 8)
    inputs.release_all()
    inputs._frames[1].payload = payload_of(5, 9)
    assert len(inputs.rows(0, 4)) == 4
    with pytest.raises(DamagedInputs, match="positions 4 to 8 changed"):
        inputs.rows(0, 8)
