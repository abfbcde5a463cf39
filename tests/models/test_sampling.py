"""Sampling: keyed by seed and position alone, and true to the softmax."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.models.sampling import Sampling

_DRAWS = 4000
LOGITS = arrays(np.float32, 12, elements=st.floats(-50, 50, width=32))
SEEDS = st.integers(0, (1 << 63) - 1)
POSITIONS = st.integers(0, 1 << 20)


def frequencies(logits, temperature, seed):
    sampling = Sampling(temperature, seed)
    drawn = [sampling.pick(logits, position) for position in range(_DRAWS)]
    return np.bincount(drawn, minlength=len(logits))


def softmax(logits, temperature):
    odds = np.exp(logits.astype(np.float64) / temperature)
    return odds / odds.sum()


@given(LOGITS, SEEDS, POSITIONS)
def test_temperature_zero_takes_the_best_token(logits, seed, position):
    sampling = Sampling(0.0, seed)
    assert sampling.greedy
    assert logits[sampling.pick(logits, position)] == logits.max()


@given(LOGITS, SEEDS, POSITIONS, st.lists(POSITIONS, max_size=5))
def test_a_draw_does_not_depend_on_what_was_drawn_before(logits, seed, position, before):
    used = Sampling(0.9, seed)
    for earlier in before:
        used.pick(logits, earlier)
    assert used.pick(logits, position) == Sampling(0.9, seed).pick(logits.copy(), position)


@pytest.mark.parametrize("seed", [0, 1, (1 << 63) - 1])
def test_positions_draw_differently(seed):
    counts = frequencies(np.zeros(1000, np.float32), 1.0, seed)
    assert (counts > 0).sum() > 900


def test_seeds_draw_differently():
    flat = np.zeros(1 << 20, np.float32)
    assert len({Sampling(1.0, seed).pick(flat, 5) for seed in range(40)}) > 35


def test_seed_and_position_are_not_interchangeable():
    flat = np.zeros(1 << 16, np.float32)
    swapped = [
        Sampling(1.0, a).pick(flat, b) == Sampling(1.0, b).pick(flat, a)
        for a in range(1, 6)
        for b in range(6, 11)
    ]
    assert sum(swapped) < 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_frequencies_follow_the_softmax(temperature, seed):
    logits = np.array([2.0, 1.0, 0.0, 0.5, -1.0, 1.5], np.float32)
    expected = softmax(logits, temperature) * _DRAWS
    counts = frequencies(logits, temperature, seed)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Five degrees of freedom: beyond 25.7 once in ten thousand.
    assert chi_square < 25.7


@given(LOGITS, SEEDS, POSITIONS, st.floats(5e-324, 1e-7))
def test_a_temperature_near_zero_takes_the_best_token(logits, seed, position, temperature):
    logits = logits.round(2)
    assert logits[Sampling(temperature, seed).pick(logits, position)] == logits.max()


@given(LOGITS, SEEDS, POSITIONS, st.integers(-20, 20))
def test_adding_a_constant_to_all_logits_changes_nothing(logits, seed, position, constant):
    logits = logits.round()
    sampling = Sampling(1.0, seed)
    assert sampling.pick(logits, position) == sampling.pick(logits + constant, position)


def test_draws_stay_the_same_from_release_to_release():
    logits = np.linspace(-1, 1, 16, dtype=np.float32)
    drawn = [Sampling(1.0, 42).pick(logits, position) for position in range(8)]
    # Agents and coordinators of different releases must agree: never change these.
    assert drawn == [5, 4, 15, 9, 15, 10, 15, 14]


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.7, 2.0]), st.integers(0, 500))
def test_the_second_choice_is_what_is_picked_when_the_first_is_out(seed, temperature, position):
    logits = np.random.default_rng(seed).normal(0, 3, 40).astype(np.float32)
    sampling = Sampling(temperature, seed)
    first = sampling.pick(logits, position)
    second = sampling.second(logits, position)
    assert second != first
    without = logits.copy()
    without[first] = -np.inf
    assert sampling.pick(without, position) == second
