"""Risk control by Learn-then-Test: which thresholds keep a promised risk, and how surely.

A loss in [0, 1] is observed for each of n independent sequences. For one threshold, the p-value
of "its risk is above ε" is that of Hoeffding and Bentkus. Thresholds are tested in a fixed order,
strict first, until one fails: all before it keep the risk together with probability 1 - δ,
however the risk depends on the threshold.

Sources: Angelopoulos, Bates, Candès, Jordan and Lei, "Learn then Test" (arXiv 2110.01052),
proposition 1 and section 2.2; Bates et al., "Distribution-free, risk-controlling prediction sets"
(arXiv 2101.02703), theorem 1 and equation (10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Thresholds on a confidence, strict first, evenly spaced in log-odds from 7 to -4: fine where
# confidences crowd. Fixed, because a grid that looked at the data would void the test.
GRID = tuple(round(float(1 / (1 + np.exp(-x))), 4) for x in np.arange(7, -4.01, -0.125))


class Trial(NamedTuple):
    """One threshold tested: the mean of its losses, and the p-value of "the risk is above ε"."""

    threshold: float
    risk: float
    p_value: float


def p_value(total_loss: float, count: int, epsilon: float) -> float:
    """Return the Hoeffding-Bentkus p-value of "the expected loss is above ε".

    If it is, the p-value is at most u with probability at most u, for every u.

    Args:
        total_loss: sum of the losses, each in [0, 1], of independent draws.
        count: how many draws.
        epsilon: in (0, 1).
    """
    mean = min(total_loss / count, epsilon)
    hoeffding = math.exp(-count * _relative_entropy(mean, epsilon))
    bentkus = math.e * _binomial_cdf(math.ceil(total_loss), count, epsilon)
    return min(hoeffding, bentkus, 1.0)


def fixed_sequence(
    thresholds: Iterable[float],
    losses_at: Callable[[float], ArrayLike],
    epsilon: float,
    delta: float,
) -> list[Trial]:
    """Test thresholds in the order given, up to and including the first that fails.

    With probability 1 - δ none of those that pass (p-value at most δ) has a risk above ε.

    Args:
        thresholds: an order that was fixed before any loss was seen.
        losses_at: one loss per sequence at a threshold; asked for no threshold after a failure.
    """
    trials: list[Trial] = []
    for threshold in thresholds:
        losses = np.asarray(losses_at(threshold), np.float64)
        # Correctly rounded: a sum a hair above a whole number would count as one loss more.
        total = math.fsum(losses)
        found = p_value(total, len(losses), epsilon)
        trials.append(Trial(threshold, total / len(losses), found))
        if found > delta:
            break
    return trials


def sequences_needed(risk: float, epsilon: float, delta: float) -> int | None:
    """Return about how many sequences a test needs to pass with this mean loss.

    Returns:
        None where no number would do, because the mean loss is not below ε.
    """
    if risk >= epsilon:
        return None
    high = 1
    while p_value(risk * high, high, epsilon) > delta:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if p_value(risk * middle, middle, epsilon) > delta:
            low = middle
        else:
            high = middle
    return high


def _relative_entropy(a: float, b: float) -> float:
    """Return the relative entropy of Bernoulli(a) from Bernoulli(b), 0 ≤ a < 1, 0 < b < 1."""
    first = a * math.log(a / b) if a > 0 else 0.0
    return first + (1 - a) * (math.log1p(-a) - math.log1p(-b))


def _binomial_cdf(most: int, count: int, probability: float) -> float:
    """Return P(X ≤ most) for X of `count` draws."""
    if most >= count:
        return 1.0
    # log P(X = k) - log P(X = k - 1), summed up from log P(X = 0).
    k = np.arange(1, most + 1)
    odds = math.log(probability) - math.log1p(-probability)
    steps = np.log((count - k + 1) / k) + odds
    logs = count * math.log1p(-probability) + np.concatenate(([0.0], np.cumsum(steps)))
    return min(float(np.exp(logs).sum()), 1.0)
