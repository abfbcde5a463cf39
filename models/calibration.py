"""Confidence of exits: the estimated probability that the full depth says the same token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from updraft.models.logistic import fit_logistic
from updraft.models.manifest import Calibration, ExitEntry

# Probabilities are bounded away from 0 and 1, where their logit has no value.
_MARGIN = 1e-6


def confidence_of(
    entry: ExitEntry, probability: NDArray[np.floating] | np.floating
) -> NDArray[np.float64]:
    """Return what an exit's policy reads, of one probability or of many."""
    if entry.calibration is None:
        return np.asarray(probability, np.float64)
    slope, intercept = entry.calibration.slope, entry.calibration.intercept
    confidence: NDArray[np.float64] = 1 / (1 + np.exp(-(slope * _logit(probability) + intercept)))
    return confidence


def fit_calibration(
    probability: NDArray[np.floating], agrees: NDArray[np.bool_]
) -> Calibration | None:
    """Fit an exit's calibration by logistic regression (Platt scaling).

    Args:
        probability: (tokens,) of the exit's best token.
        agrees: (tokens,) the full depth says the same token.

    Returns:
        None when the data cannot tell: it never or always agrees, or less so when it is surer.
    """
    if agrees.all() or not agrees.any():
        return None
    features = np.stack((_logit(probability), np.ones(len(probability))))
    slope, intercept = fit_logistic(features, agrees)
    return Calibration(slope=slope, intercept=intercept) if slope > 0 else None


def _logit(probability: NDArray[np.floating] | np.floating) -> NDArray[np.float64]:
    bounded = np.clip(np.asarray(probability, np.float64), _MARGIN, 1 - _MARGIN)
    return np.log(bounded / (1 - bounded))
