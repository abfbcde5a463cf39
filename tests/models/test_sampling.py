"""Sampling: keyed by seed and position alone, and true to the softmax."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.models.logprobs import log_probabilities
from updraft.models.sampling import Sampling, masked

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


def mask_of(allowed):
    """Return a mask as constraints make it."""
    padded = np.zeros(-(-len(allowed) // 32) * 32, bool)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.int32)


CHOICES = st.tuples(
    st.sampled_from([0.0, 0.7, 2.0]),
    st.sampled_from([1.0, 0.9, 0.3, 0.0]),
    st.sampled_from([None, 1, 3, 40]),
)


@given(st.integers(0, 2**31), CHOICES, POSITIONS)
def test_a_mask_is_as_if_the_other_tokens_had_no_logits(seed, choices, position):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, 77).astype(np.float32)
    allowed = rng.random(77) < rng.choice([0.05, 0.5, 0.95])
    allowed[rng.integers(77)] = True
    sampling = Sampling(choices[0], seed, *choices[1:])
    without = np.where(allowed, logits, np.float32(-np.inf))
    mask = mask_of(allowed)
    assert np.array_equal(masked(logits, mask), without)
    picked = sampling.pick(logits, position, mask)
    assert allowed[picked]
    assert picked == sampling.pick(without, position)
    second = sampling.second(logits, position, mask)
    assert second is None or (allowed[second] and second != picked)


def test_where_an_exit_knows_none_of_the_allowed_tokens_one_of_them_is_drawn():
    logits = np.full(40, -np.inf, np.float32)
    logits[:4] = 1
    allowed = np.arange(40) >= 30
    drawn = [Sampling(1.0, 3).pick(logits, i, mask_of(allowed)) for i in range(200)]
    assert set(drawn) == set(range(30, 40))


def nucleus(logits, choices):
    """Return the tokens that may be drawn, by the definition: one after the other."""
    temperature, top_p, top_k = choices
    order = sorted(range(len(logits)), key=lambda token: -logits[token])[:top_k]
    kept, total = [], 0.0
    for token, share in zip(order, softmax(logits[order], temperature), strict=True):
        kept.append(token)
        total += share
        if total >= top_p:
            break
    return kept


@given(st.integers(0, 2**31), CHOICES.filter(lambda choices: choices[0] > 0))
def test_only_the_nucleus_is_drawn_and_with_its_own_noise(seed, choices):
    logits = np.random.default_rng(seed).normal(0, 2, 50).astype(np.float32)
    sampling, kept = Sampling(choices[0], seed, *choices[1:]), nucleus(logits, choices)
    among = np.where(np.isin(np.arange(50), kept), logits, np.float32(-np.inf))
    for position in range(5):
        drawn = sampling.pick(logits, position)
        assert drawn in kept
        assert drawn == Sampling(choices[0], seed).pick(among, position)


@pytest.mark.parametrize(("top_p", "top_k", "kept"), [(0.6, None, 3), (1.0, 2, 2), (0.5, 4, 2)])
def test_frequencies_follow_the_softmax_of_the_nucleus(top_p, top_k, kept):
    logits = np.array([1.0, 0.9, 0.8, 0.5, 0.4, -1.0, -2.0], np.float32)
    sampling = Sampling(1.0, 6, top_p, top_k)
    drawn = [sampling.pick(logits, position) for position in range(_DRAWS)]
    counts = np.bincount(drawn, minlength=len(logits))
    assert set(np.flatnonzero(counts)) == set(range(kept))
    expected = softmax(logits[:kept], 1.0) * _DRAWS
    # Two degrees of freedom at most: beyond 18.4 once in ten thousand.
    assert ((counts[:kept] - expected) ** 2 / expected).sum() < 18.4


def test_tokens_that_are_equally_probable_stay_together():
    logits = np.array([2.0, 1.0, 1.0, 1.0, 0.0], np.float32)
    drawn = {Sampling(5.0, 1, top_k=2).pick(logits, position) for position in range(200)}
    assert drawn == {0, 1, 2, 3}


@given(LOGITS, SEEDS, POSITIONS, st.floats(5e-324, 1e-30), st.floats(0, 1))
def test_a_nucleus_near_temperature_zero_is_the_best_token(logits, seed, position, warm, top_p):
    picked = Sampling(warm, seed, top_p, 3).pick(logits, position)
    assert logits[picked] == logits.max()


@given(LOGITS, st.integers(0, 11), st.integers(0, 20))
def test_log_probabilities_are_those_of_the_softmax(logits, token, top):
    shifted = logits.astype(np.float64) - logits.max()
    exact = shifted - np.log(np.exp(shifted).sum())
    told = log_probabilities(logits, token, top)
    assert told.chosen == pytest.approx(exact[token], abs=1e-4)
    assert len(told.top) == min(top, len(logits))
    values = [value for _, value in told.top]
    assert values == sorted(values, reverse=True)
    assert not values or values[0] == pytest.approx(exact.max(), abs=1e-4)
    for other, value in told.top:
        assert value == pytest.approx(exact[other], abs=1e-4)
