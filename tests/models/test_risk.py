"""Learn-then-Test: p-values that are valid at the boundary, and a family error that is kept."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.risk import GRID, fixed_sequence, p_value, sequences_needed

EPSILONS = st.sampled_from([0.01, 0.02, 0.05, 0.2, 0.5])
COUNTS = st.integers(1, 400)


def binomial(k, n, p):
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def by_the_formula(total, n, epsilon):
    """As it stands in Learn then Test, proposition 1, in plain sums."""
    a, b = min(total / n, epsilon), epsilon
    h1 = (a * math.log(a / b) if a else 0) + (1 - a) * math.log((1 - a) / (1 - b))
    tail = sum(binomial(k, n, epsilon) for k in range(min(math.ceil(total), n) + 1))
    return min(math.exp(-n * h1), math.e * tail, 1)


@given(st.floats(0, 1), COUNTS, EPSILONS)
def test_it_is_the_formula_of_the_paper(risk, count, epsilon):
    expected = by_the_formula(risk * count, count, epsilon)
    assert p_value(risk * count, count, epsilon) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("count", "epsilon"), [(1, 0.5), (100, 0.02), (1000, 0.05), (50_000, 0.1)])
def test_without_a_loss_it_is_the_chance_of_no_loss(count, epsilon):
    expected = (1 - epsilon) ** count
    assert p_value(0.0, count, epsilon) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.floats(0, 1), st.floats(0, 1), COUNTS, EPSILONS)
def test_more_loss_is_never_better_evidence(one, other, count, epsilon):
    low, high = sorted((one, other))
    assert p_value(low * count, count, epsilon) <= p_value(high * count, count, epsilon)


@given(st.integers(0, 10), COUNTS, EPSILONS)
def test_more_sequences_without_further_loss_are_better_evidence(losses, more, epsilon):
    count = losses + 1
    assert p_value(losses, count + more, epsilon) <= p_value(losses, count, epsilon)


@given(st.floats(0, 1), COUNTS, EPSILONS, EPSILONS)
def test_a_larger_risk_is_easier_to_exclude(risk, count, one, other):
    low, high = sorted((one, other))
    assert p_value(risk * count, count, high) <= p_value(risk * count, count, low) + 1e-12


@pytest.mark.parametrize("epsilon", [0.02, 0.05, 0.3])
@pytest.mark.parametrize("count", [20, 150, 600])
def test_at_the_boundary_it_is_at_most_u_with_probability_at_most_u(epsilon, count):
    """Exactly, for losses of 0 and 1: every total and its probability."""
    chances = np.array([binomial(k, count, epsilon) for k in range(count + 1)])
    found = np.array([p_value(k, count, epsilon) for k in range(count + 1)])
    for u in (0.001, 0.01, 0.05, 0.1, 0.5):
        assert chances[found <= u].sum() <= u


@pytest.mark.parametrize("draw", ["beta", "three values", "rare and whole"])
@pytest.mark.parametrize("epsilon", [0.02, 0.05])
def test_at_the_boundary_fractional_losses_keep_it_too(draw, epsilon):
    rng, runs, count = np.random.default_rng(0), 4_000, 300
    shape = (runs, count)
    losses = {
        "beta": lambda: rng.beta(0.2, 0.2 * (1 - epsilon) / epsilon, shape),
        "three values": lambda: rng.choice(
            [0, 0.1, 0.5], shape, p=[1 - 6 * epsilon, 5 * epsilon, epsilon]
        ),
        "rare and whole": lambda: (rng.random(shape) < epsilon).astype(float),
    }[draw]()
    assert losses.mean() == pytest.approx(epsilon, rel=0.02)
    found = np.array([p_value(total, count, epsilon) for total in losses.sum(axis=1)])
    for u in (0.01, 0.05, 0.1):
        assert (found <= u).mean() <= u + 3 * math.sqrt(u / runs)


@pytest.mark.parametrize(
    "risks",
    [
        (0.005, 0.01, 0.02, 0.05, 0.051, 0.06, 0.1),
        (0.05001, 0.02, 0.01),
        (0.001, 0.051, 0.001, 0.001),  # the risk need not rise from strict to lax
        (0.0501,) * 20,
    ],
)
def test_whatever_passes_keeps_the_risk_but_for_delta(risks):
    epsilon, delta, runs, count = 0.05, 0.1, 1_500, 250
    rng, failures = np.random.default_rng(1), 0
    for _ in range(runs):
        # The same sequences at every threshold, so that the tests depend on each other.
        luck = rng.random(count)
        trials = fixed_sequence(range(len(risks)), lambda i, u=luck: u < risks[i], epsilon, delta)
        failures += any(t.p_value <= delta and risks[t.threshold] > epsilon for t in trials)
    assert failures / runs <= delta + 3 * math.sqrt(delta / runs)


def test_testing_ends_at_the_first_failure():
    asked = []

    def losses_at(threshold):
        asked.append(threshold)
        return np.full(200, 0.0 if threshold > 0.8 else 1.0)

    trials = fixed_sequence((0.9, 0.85, 0.8, 0.7), losses_at, 0.05, 0.05)
    assert asked == [trial.threshold for trial in trials] == [0.9, 0.85, 0.8]
    assert [trial.p_value <= 0.05 for trial in trials] == [True, True, False]
    assert [trial.risk for trial in trials] == [0, 0, 1]


def test_losses_are_summed_without_a_trace_of_rounding():
    # Ten times 0.1 is 0.9999999999999999 in floating point, thirty times a hair above 3.
    losses = np.full(30, 0.1)
    assert fixed_sequence([0.5], lambda _: losses, 0.2, 0.05)[0].p_value == p_value(3, 30, 0.2)


@pytest.mark.parametrize(
    ("risk", "epsilon", "about"),
    [(0, 0.05, 60), (0.025, 0.05, 350), (0, 0.02, 150), (0.01, 0.02, 880)],
)
def test_the_sequences_needed_are_those_of_the_design(risk, epsilon, about):
    needed = sequences_needed(risk, epsilon, 0.05)
    assert needed == pytest.approx(about, rel=0.03)
    assert p_value(risk * needed, needed, epsilon) <= 0.05
    assert p_value(risk * (needed - 1), needed - 1, epsilon) > 0.05


@pytest.mark.parametrize("risk", [0.02, 0.5])
def test_no_number_of_sequences_proves_what_is_not_so(risk):
    assert sequences_needed(risk, 0.02, 0.05) is None


def test_the_grid_goes_from_strict_to_lax():
    assert all(1 > strict > lax > 0 for strict, lax in pairwise(GRID))
