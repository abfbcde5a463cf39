"""The dual descent in machine code: `descent.descend` step by step, for numba."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.solvers.descent import BEND, FLAT, HEADWAY, SHORTEST, SHRINK, STALL
from updraft.optimizer.solvers.stack import Whole

Single = NDArray[np.float32]


@njit(cache=True, fastmath=True)
def _above(values: Whole, levels: Whole, count: Whole) -> int:
    """Σ_p n_p max(v_p − u_p, 0)."""
    whole = values.dtype.type
    total = whole(0)
    for p in range(len(values)):
        total += whole(count[p] * max(whole(values[p] - levels[p]), whole(0)))
    return total


@njit(cache=True, fastmath=True)
def worths_jit(gain: Whole, count: Whole, u: Whole) -> Matrix:
    """See `descent.worths`."""
    worth = np.zeros(gain.shape[1])
    for layer in range(gain.shape[0]):
        for i in range(gain.shape[1]):
            worth[i] += _above(gain[layer, i], u[layer], count)
    return worth


@njit(cache=True, fastmath=True)
def _lower(slopes: Single, values: Whole, levels: Whole) -> None:
    """Take one off the slope of u wherever this expert is above it."""
    for p in range(len(values)):
        slopes[p] -= np.float32(values[p] > levels[p])


@njit(cache=True, fastmath=True)
def _dot(a: Single, b: Single, width: Single) -> float:
    total = np.float32(0)
    for p in range(len(a)):
        total += a[p] * b[p] * width[p]
    return total


@njit(cache=True, fastmath=True)
def _project(slopes: Single, levels: Whole, floors: Whole, count: Whole) -> None:
    """Weigh slopes by the prompts that they stand for, and drop those that lead below the floor."""
    for p in range(len(slopes)):
        slope = slopes[p] * np.float32(count[p])
        stays = (levels[p] <= floors[p]) & (slope > 0)
        slopes[p] = np.float32(0) if stays else slope


@njit(cache=True, fastmath=True)
def _move(levels: Whole, floors: Whole, steps: Single, width: Single, reach: float) -> None:
    whole = levels.dtype.type
    for p in range(len(levels)):
        moved = whole(np.rint(reach * width[p] * steps[p]))
        levels[p] = max(whole(levels[p] - moved), floors[p])


@njit(cache=True, fastmath=True)
def descend_jit(
    gain: Whole,
    count: Whole,
    capacity: NDArray[np.int64],
    share: Matrix,
    left: Matrix,
    inside: NDArray[np.int64],
    undecided: NDArray[np.int64],
    floor: Whole,
    u: Whole,
    prices: Matrix,
    width: Single,
    price_width: float,
    target: float,
    iterations: int,
    patience: int,
    least_share: float,
) -> tuple[float, Whole, Matrix, Matrix, Matrix, int]:
    """See `descent.descend`; arrays are as there, `u` and `prices` are used up."""
    layers, _, prompts = gain.shape
    rows, held, free = len(left), len(inside), len(undecided)
    best_u = u.copy()
    best_prices = prices.copy()
    profit = np.zeros(free)
    best_profit = np.zeros(free)
    active = np.zeros(free)
    slope = np.zeros((layers, prompts), np.float32)
    step = np.zeros((layers, prompts), np.float32)
    price_slope = np.zeros(rows)
    price_step = np.zeros(rows)
    best = np.inf
    first = np.inf
    factor = 1.0
    stalled = 0
    seen = 0.0
    steps = 0
    while steps < iterations:
        bound = 0.0
        for layer in range(layers):
            total = 0.0
            for p in range(prompts):
                total += count[p] * u[layer, p]
                slope[layer, p] = capacity[layer]
            bound += capacity[layer] * total
        for k in range(rows):
            bound += prices[k] * left[k]
            price_slope[k] = left[k]
        for j in range(held + free):
            i = inside[j] if j < held else undecided[j - held]
            worth = 0.0
            for layer in range(layers):
                worth += _above(gain[layer, i], u[layer], count)
            if j >= held:
                for k in range(rows):
                    worth -= prices[k] * share[k, i]
                profit[j - held] = worth
                if worth <= 0:
                    continue
                for k in range(rows):
                    price_slope[k] -= share[k, i]
                active[j - held] += steps + 1
            bound += worth
            for layer in range(layers):
                _lower(slope[layer], gain[layer, i], u[layer])
        seen += steps + 1
        if steps == 0:
            first = bound
        ahead = steps == 0 or bound < best - HEADWAY * (best - target)
        stalled = 0 if ahead else stalled + 1
        if bound < best:
            best = bound
            best_u[:] = u
            best_prices[:] = prices
            best_profit[:] = profit
        steps += 1
        if best <= target or (steps == patience and best - target > least_share * (first - target)):
            break
        if stalled >= STALL:
            factor *= SHRINK
            stalled = 0
            if factor < SHORTEST:
                break
        along = 0.0
        before = 0.0
        for layer in range(layers):
            _project(slope[layer], u[layer], floor[layer], count)
            along += _dot(slope[layer], step[layer], width[layer])
            before += _dot(step[layer], step[layer], width[layer])
        for k in range(rows):
            if prices[k] <= 0 and price_slope[k] > 0:
                price_slope[k] = 0
            along += price_slope[k] * price_step[k] * price_width
            before += price_step[k] * price_step[k] * price_width
        turn = np.float32(-BEND * along / before) if along < 0 else np.float32(0)
        norm = 0.0
        for layer in range(layers):
            for p in range(prompts):
                step[layer, p] = slope[layer, p] + turn * step[layer, p]
            norm += _dot(step[layer], step[layer], width[layer])
        for k in range(rows):
            price_step[k] = price_slope[k] + turn * price_step[k]
            norm += price_step[k] * price_step[k] * price_width
        if norm <= FLAT * price_width:
            break
        length = factor * (bound - target) / norm
        reach = np.float32(length)
        for layer in range(layers):
            _move(u[layer], floor[layer], step[layer], width[layer], reach)
        for k in range(rows):
            prices[k] = max(prices[k] - length * price_width * price_step[k], 0.0)
    if seen > 0:
        active /= seen
    return best, best_u, best_prices, best_profit, active, steps
