"""The dual bound of one part of the search, and the descent that lowers it.

For any u >= 0 (layers, P) and prices λ >= 0 (K,), every selection that keeps the budgets, holds the
experts I (`inside`) and takes others from U (`undecided`) only is worth at most

    D(u, λ) = Σ_l c_l Σ_p n_p u_lp + λ·left + Σ_{i in I} a_i + Σ_{i in U} max(a_i − λ·share_i, 0)
    a_i     = Σ_l Σ_p n_p max(gain_lip − u_lp, 0)

where n_p prompts are alike and `left` is what I leaves of the budgets; docs/expert-selection.md
proves it. With costs of answers, gain_lip is reduced by λ_0·query_ip first.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.solvers.stack import Stack, Whole

# Steps without headway before the step length shrinks, by how much, and when to give up.
STALL = 5
SHRINK = 0.6
SHORTEST = 0.02
# What counts as headway: this share of the way from the best bound to the target.
HEADWAY = 0.02
# Below so many gains numpy is done before numba is loaded.
_WORTH_LOADING = 4000
# A slope this small, relative, is rounding: the bottom is reached.
FLAT = 1e-12
# How strongly a step bends away from the one before where they disagree (Camerini et al. 1975).
BEND = 1.5


class Start(NamedTuple):
    """Where a descent begins: u (layers, P) in units, prices (K,) in units per share."""

    u: Whole
    prices: Matrix


class Part(NamedTuple):
    """The selections with all of `inside`, some of `undecided` and nothing else."""

    inside: NDArray[np.int64]
    undecided: NDArray[np.int64]
    left: Matrix
    floor: Whole


class Pace(NamedTuple):
    """How long to go on.

    Attributes:
        steps: at most so many.
        patience: after so many steps, stop unless the way to the target has shrunk to
            `least_share` of what it was: branching will do more.
        width: (layers, P) float32, how far u moves beside the prices, `price_width`.
    """

    steps: int
    patience: int
    least_share: float
    width: NDArray[np.float32]
    price_width: float


class Descent(NamedTuple):
    """The lowest bound met, where, and each undecided expert's profit max(…, 0) there.

    Attributes:
        active: the share of steps, later ones counting more, at which an expert's profit was
            positive: about how much of it the relaxation selects.
    """

    bound: float
    u: Whole
    prices: Matrix
    profit: Matrix
    active: Matrix
    steps: int


def descend(stack: Stack, part: Part, start: Start, target: float, pace: Pace) -> Descent:
    """Lower the bound of a part towards `target` by subgradient steps; stop below it.

    Polyak steps with the target in place of the unknown minimum, bent away from the last step,
    u kept on whole numbers at or above `part.floor`.
    """
    compiled = None if stack.query is not None or _small(stack) else _compiled()
    if compiled is None:
        return _descend(stack, part, start, target, pace)
    return Descent(
        *compiled.descend_jit(
            stack.gain,
            stack.count,
            stack.capacity,
            stack.share,
            part.left,
            part.inside,
            part.undecided,
            part.floor,
            start.u.copy(),
            start.prices.copy(),
            pace.width,
            pace.price_width,
            target,
            pace.steps,
            pace.patience,
            pace.least_share,
        )
    )


def worths(stack: Stack, u: Whole) -> Matrix:
    """Return a_i of every expert at u, (N,), where answers are free."""
    if not _small(stack) and (compiled := _compiled()) is not None:
        return compiled.worths_jit(stack.gain, stack.count, u)
    return (np.maximum(stack.gain - u[:, None], 0) @ stack.count.astype(np.float64)).sum(axis=0)


def _small(stack: Stack) -> bool:
    return stack.gain.size < _WORTH_LOADING


@cache
def _compiled() -> ModuleType | None:
    if find_spec("numba") is None:
        return None
    return import_module("updraft.optimizer.solvers.descent_jit")


def _descend(stack: Stack, part: Part, start: Start, target: float, pace: Pace) -> Descent:
    members = np.concatenate([part.inside, part.undecided])
    gain = stack.gain[:, members].astype(np.float64)
    query = None if stack.query is None else stack.query[members]
    share = stack.share[:, part.undecided]
    held = len(part.inside)
    capacity = stack.capacity[:, None] * stack.count.astype(np.float64)
    u, prices = start.u.astype(np.float64), start.prices.copy()
    step, price_step = np.zeros_like(u), np.zeros_like(prices)
    count = len(part.undecided)
    best = Descent(np.inf, start.u, prices, np.zeros(count), np.zeros(count), 0)
    active, seen = np.zeros(count), 0.0
    first, factor, stalled, steps = np.inf, 1.0, 0, 0
    while steps < pace.steps:
        above = gain - u[:, None] if query is None else gain - prices[0] * query - u[:, None]
        worth = (np.maximum(above, 0) @ stack.count).sum(axis=0)
        worth[held:] -= prices @ share
        on = worth > 0
        on[:held] = True
        bound = float((capacity * u).sum() + prices @ part.left + worth[on].sum())
        counted = above[:, on] > 0
        slope = capacity - stack.count * counted.sum(axis=1)
        price_slope = part.left - share[:, on[held:]].sum(axis=1)
        if query is not None:
            price_slope[0] -= ((counted * query[on]) @ stack.count).sum()
        active += (steps + 1.0) * on[held:]
        seen += steps + 1
        if steps == 0:
            first = bound
        ahead = steps == 0 or bound < best.bound - HEADWAY * (best.bound - target)
        stalled = 0 if ahead else stalled + 1
        if bound < best.bound:
            profit = worth[held:].copy()
            best = Descent(bound, u.astype(start.u.dtype), prices.copy(), profit, active, steps)
        steps += 1
        way = best.bound - target
        if way <= 0 or (steps == pace.patience and way > pace.least_share * (first - target)):
            break
        if stalled >= STALL:
            factor, stalled = factor * SHRINK, 0
            if factor < SHORTEST:
                break
        slope[(u <= part.floor) & (slope > 0)] = 0
        price_slope[(prices <= 0) & (price_slope > 0)] = 0
        step, price_step = _bent(slope, price_slope, step, price_step, pace)
        norm = _dot(step, step, price_step, price_step, pace)
        if norm <= FLAT * pace.price_width:
            break
        length = factor * (bound - target) / norm
        u = np.maximum(np.rint(u - length * pace.width * step), part.floor)
        prices = np.maximum(prices - length * pace.price_width * price_step, 0)
    return best._replace(active=active / max(seen, 1), steps=steps)


def _bent(
    slope: Matrix, price_slope: Matrix, step: Matrix, price_step: Matrix, pace: Pace
) -> tuple[Matrix, Matrix]:
    """Turn a slope away from the last step where the two disagree."""
    along = _dot(slope, step, price_slope, price_step, pace)
    if along >= 0:
        return slope, price_slope
    turn = -BEND * along / _dot(step, step, price_step, price_step, pace)
    return slope + turn * step, price_slope + turn * price_step


def _dot(a: Matrix, b: Matrix, price_a: Matrix, price_b: Matrix, pace: Pace) -> float:
    return float((a * b * pace.width).sum() + pace.price_width * price_a @ price_b)
