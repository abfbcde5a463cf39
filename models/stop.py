"""When to stop: the chance that a line comes out wrong, from what an exit on the edge sees."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from updraft.models.logistic import fit_logistic
from updraft.models.manifest import StopRule

# Surprise ends here, where a probability is 0 or no number: nothing is to be read into more.
_LEAST_PROBABILITY = 1e-6


def surprise_of(probability: float) -> float:
    """Return -ln(probability) of an exit's best token, in nats: 0 where the exit is certain."""
    return -math.log(max(_LEAST_PROBABILITY, probability))


def chance_wrong(rule: StopRule, surprise: float, doubt: float, fresh: bool) -> float:
    """Return the chance that the line, completed by the whole model, is not its author's.

    Args:
        surprise: of the exit's best token for the place where the text now ends.
        doubt: sum of the surprise over the line's tokens so far, those of the prompt left out.
        fresh: the line is completed from its start.
    """
    log_odds = rule.surprise * surprise + rule.doubt * doubt + rule.fresh * fresh + rule.intercept
    # As 1 / (1 + exp(-log_odds)), but it cannot overflow.
    return (1 + math.tanh(log_odds / 2)) / 2


def fit_stop_rule(
    layer: int,
    surprise: NDArray[np.float64],
    doubt: NDArray[np.float64],
    fresh: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
) -> StopRule | None:
    """Fit an exit's rule by logistic regression, one row per token of every line.

    Args:
        surprise, doubt, fresh: (tokens,) as `chance_wrong` takes them.
        wrong: (tokens,) the token's line came out wrong.

    Returns:
        None when the data cannot tell: all lines are wrong, or none, or the less so the less
        sure the exit is.
    """
    if wrong.all() or not wrong.any():
        return None
    features = np.stack((surprise, doubt, fresh.astype(np.float64), np.ones(len(wrong))))
    weights = fit_logistic(features, wrong)
    if weights[:2].min() < 0:
        return None
    names = ("surprise", "doubt", "fresh", "intercept")
    return StopRule(layer=layer, **dict(zip(names, weights.tolist(), strict=True)))


def first_line(text: bytes) -> bytes | None:
    """Return the text up to the end of the first line that is not blank; None: it does not end."""
    content = len(text) - len(text.lstrip())
    end = text.find(b"\n", content)
    return None if end < 0 else text[:end]


def at_line_start(prompt: str) -> bool:
    """Whether what follows a prompt is a line from its start, indentation aside."""
    return not prompt.rpartition("\n")[2].strip()
