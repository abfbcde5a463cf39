"""Logistic regression: the little of it that exits and stop rules need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NEWTON_STEPS = 50
_CONVERGED = 1e-9
# Keeps the curvature invertible where a feature or all probabilities are alike.
_RIDGE = 1e-9


def fit_logistic(features: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights w that make sigmoid(w @ features) the likeliest, by Newton's method.

    Args:
        features: (features, n); a row of ones gives an intercept.
        labels: (n,).
    """
    weights = np.zeros(len(features))
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(-weights @ features))
        gradient = features @ (expected - labels)
        curvature = (features * (expected * (1 - expected))) @ features.T
        step = np.linalg.solve(curvature + _RIDGE * np.eye(len(weights)), gradient)
        # Bounded, or Newton's method leaps away from where it cannot come back.
        weights -= np.clip(step, -1, 1)
        if np.abs(step).max() < _CONVERGED:
            break
    return weights
