"""The coordinator's tokens of a completion: in step with the inputs, whatever happens to those."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.cloud.completion import Completion, check_tokens
from updraft.errors import ProtocolError

TEXT = [100 + position for position in range(60)]
FRAMES = st.lists(st.tuples(st.integers(0, 29), st.integers(1, 8)), max_size=12)


@given(st.integers(0, 70), st.integers(0, 20), FRAMES)
def test_the_tokens_are_there_as_soon_as_the_inputs_are(start, window_start, frames):
    completion, known = Completion(start), set()
    for position, count in frames:
        stop = window_start + position + count
        expected = completion.expected(window_start, position, count, named=False)
        completion.put(stop, TEXT[stop - expected : stop] if expected else [])
        known.update(range(position, position + count))
        length = next(row for row in range(60) if row not in known)
        for row in range(length):
            place = window_start + row + 1
            assert completion.before(place) == TEXT[start:place]


@given(st.integers(0, 9), st.integers(0, 30), st.integers(0, 30))
def test_what_is_taken_back_may_be_another(start, length, back):
    completion = Completion(start)
    completion.put(length, TEXT[start:length])
    completion.truncate(back)
    again = [7] * max(0, length - max(start, back))
    completion.put(length, again)
    kept = TEXT[start : min(back, length)] if back > start else []
    assert completion.before(length) == [*kept, *again]


def test_inputs_that_name_themselves_bring_only_what_lies_before_the_window():
    completion = Completion(10)
    assert completion.expected(0, 0, 64, named=True) == 0
    assert completion.expected(32, 0, 64, named=True) == 22
    assert completion.expected(32, 5, 64, named=True) == 0


@pytest.mark.parametrize(
    ("tokens", "expected", "what"),
    [([1], 0, "stand for 0"), ([], 2, "stand for 2"), ([99], 1, "there are 50")],
)
def test_tokens_that_cannot_be_are_refused(tokens, expected, what):
    with pytest.raises(ProtocolError, match=what):
        check_tokens(tokens, expected, 50)


def test_a_flood_of_tokens_is_refused():
    flood = [1] * (1 << 18)
    with pytest.raises(ProtocolError, match="at most 131072"):
        check_tokens(flood, len(flood), 50)
