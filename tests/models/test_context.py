"""The window of a long text: laws that edge and cloud both rely on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.context import window_start

LENGTHS = st.integers(0, 1 << 20)
LIMITS = st.integers(1, 4096)


def hop_of(limit):
    return max(1, limit // 2)


@given(LENGTHS, LIMITS)
def test_the_window_never_exceeds_the_limit(length, limit):
    assert length - window_start(length, limit) <= limit


@given(LENGTHS, LIMITS)
def test_the_window_moves_by_whole_hops(length, limit):
    assert window_start(length, limit) % hop_of(limit) == 0


@given(LENGTHS, LIMITS)
def test_the_window_never_moves_back(length, limit):
    assert window_start(length, limit) <= window_start(length + 1, limit)


@given(LIMITS, st.data())
def test_the_window_starts_at_zero_while_the_text_fits(limit, data):
    assert window_start(data.draw(st.integers(0, limit)), limit) == 0


@given(LIMITS, st.integers(1, 1 << 20))
def test_a_long_text_keeps_more_than_half_a_context(limit, excess):
    length = limit + excess
    start = window_start(length, limit)
    assert start > 0
    assert length - start > limit - hop_of(limit)


@pytest.mark.parametrize(("length", "start"), [(8, 0), (9, 4), (12, 4), (13, 8), (16, 8), (17, 12)])
def test_a_context_of_eight_moves_by_four(length, start):
    assert window_start(length, 8) == start


@pytest.mark.parametrize(("limit", "length", "start"), [(1, 2, 1), (1, 7, 6), (3, 4, 1), (3, 9, 6)])
def test_odd_and_single_contexts_move_by_at_least_one(limit, length, start):
    assert window_start(length, limit) == start
