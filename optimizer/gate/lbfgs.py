"""Minimise a smooth function of many variables: L-BFGS, for training the gate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Smooth = Callable[[Vector], tuple[float, Vector]]

_MEMORY = 10
# A step must gain this share of what the slope promises, and is halved until it does.
_ARMIJO = 1e-4
_SHORTEST = 1e-10


def minimise(
    function: Smooth, start: Vector, *, iterations: int = 200, tolerance: float = 1e-6
) -> Vector:
    """Return a point near `start` that is lower and, given iterations enough, flat.

    Args:
        function: returns its value and its gradient.
        tolerance: it stops where no entry of the gradient is larger.
    Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 7.5. Differs: steps are
    only halved, so curvature that is not positive is left out of the memory.
    """
    point = start
    value, gradient = function(point)
    pairs: deque[tuple[Vector, Vector]] = deque(maxlen=_MEMORY)
    for _ in range(iterations):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            break
        direction = -_times_inverse_hessian(pairs, gradient)
        slope = float(gradient @ direction)
        step = 1.0 if pairs else 1.0 / max(1.0, float(np.linalg.norm(gradient)))
        while True:
            following = point + step * direction
            following_value, following_gradient = function(following)
            if following_value <= value + _ARMIJO * step * slope:
                break
            step /= 2
            if step < _SHORTEST:
                # What is left to gain is below rounding.
                return point
        move, turn = following - point, following_gradient - gradient
        if move @ turn > 1e-10 * (turn @ turn):
            pairs.append((move, turn))
        point, value, gradient = following, following_value, following_gradient
    return point


def _times_inverse_hessian(pairs: deque[tuple[Vector, Vector]], gradient: Vector) -> Vector:
    """Return about H⁻¹·gradient, from the last moves and the turns of the gradient that they made.

    It is positive definite, because every pair in the memory has move·turn > 0.
    """
    vector = gradient.copy()
    shares: list[float] = []
    for move, turn in reversed(pairs):
        share = float(move @ vector) / float(move @ turn)
        vector -= share * turn
        shares.append(share)
    if pairs:
        move, turn = pairs[-1]
        vector *= float(move @ turn) / float(turn @ turn)
    for (move, turn), share in zip(pairs, reversed(shares), strict=True):
        vector += (share - float(turn @ vector) / float(move @ turn)) * move
    return vector
