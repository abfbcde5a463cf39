"""Combined logits: the papers' formulas, and what a choice among some tokens keeps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.models.combine import contrast, plausible, spread, tuning_shift
from updraft.models.sampling import Sampling

SIZE = 12
LOGITS = arrays(np.float32, SIZE, elements=st.floats(-30, 30, width=32))
SHARES = st.floats(1e-6, 1)
WEIGHTS = st.floats(0, 4)
SAMPLINGS = st.builds(Sampling, st.sampled_from([0.0, 0.8, 1.5]), st.integers(0, 99))
POSITIONS = st.integers(0, 1 << 20)


def log_probabilities(logits):
    exact = logits.astype(np.float64)
    return exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())


def differences(values):
    """What is left of scores once constants have fallen out."""
    return values - values[0]


@given(LOGITS, SHARES)
def test_plausible_tokens_are_those_with_their_share_of_the_best_probability(large, share):
    probability = np.exp(log_probabilities(large))
    bound = share * probability.max()
    tokens = plausible(large, share)
    inside = np.isin(np.arange(SIZE), tokens)
    assert (probability[inside] >= bound * (1 - 1e-5)).all()
    assert (probability[~inside] <= bound * (1 + 1e-5)).all()
    assert large.argmax() in tokens
    assert (np.diff(tokens) > 0).all()


@given(LOGITS)
def test_a_share_of_one_leaves_the_best_alone(large):
    assert (large[plausible(large, 1.0)] == large.max()).all()


@given(LOGITS, LOGITS, WEIGHTS)
def test_contrast_subtracts_the_small_models_log_probabilities(large, small, weight):
    found = large + contrast(small, weight)
    wanted = log_probabilities(large) - weight * log_probabilities(small)
    assert np.allclose(differences(found), differences(wanted), atol=1e-4)
    assert found.dtype == np.float32


@given(LOGITS, LOGITS, LOGITS, WEIGHTS)
def test_a_tuning_shift_multiplies_by_what_tuning_did_to_a_probability(
    large, tuned, untuned, weight
):
    found = large + tuning_shift(tuned, untuned, weight)
    ratio = log_probabilities(tuned) - log_probabilities(untuned)
    wanted = log_probabilities(large) + weight * ratio
    assert np.allclose(differences(found), differences(wanted), atol=1e-4)
    assert found.dtype == np.float32


@given(LOGITS, WEIGHTS)
def test_a_model_that_was_not_tuned_shifts_nothing(untuned, weight):
    assert not tuning_shift(untuned, untuned, weight).any()


@given(LOGITS, SHARES, SAMPLINGS, POSITIONS)
def test_a_choice_among_some_is_the_choice_among_all_where_that_is_one_of_them(
    logits, share, sampling, position
):
    tokens = plausible(logits, share)
    chosen = sampling.pick(spread(tokens, logits[tokens], SIZE), position)
    of_all = sampling.pick(spread(None, logits, SIZE), position)
    assert chosen in tokens
    assert of_all == sampling.pick(logits, position)
    if of_all in tokens:
        assert chosen == of_all


def test_draws_among_some_follow_their_softmax():
    logits = np.array([3.0, 2.0, 0.5, 1.0], np.float32)
    tokens = np.array([1, 3])
    sampling = Sampling(0.7, 5)
    draws = 4000
    chosen = spread(tokens, logits[tokens], 4)
    drawn = [sampling.pick(chosen, i) for i in range(draws)]
    odds = np.exp(logits[tokens] / sampling.temperature)
    expected = draws * odds[0] / odds.sum()
    # Four standard deviations of the number of draws of the first.
    assert abs(drawn.count(1) - expected) < 4 * (expected * (1 - expected / draws)) ** 0.5
    assert set(drawn) == {1, 3}
