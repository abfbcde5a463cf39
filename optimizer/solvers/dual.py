"""A bound on what any selection can be worth, for thousands of experts, from prices.

A price u for each prompt and layer, and a price λ for each budget, all >= 0, bound every selection:
with the profit ρ_i = Σ_layers Σ_p (step·value_ip − u_p)⁺ − λ·cost_i of each expert,

    D(u, λ) = Σ_layers capacity · Σ_p u_p + λ·limit + Σ_i ρ_i⁺.

D is convex, its least value is that of the linear relaxation, and its subgradient counts who takes
what: `minimise` goes down it with Polyak steps that aim at the value of a known selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Program
from updraft.optimizer.solution import Point

Indices = NDArray[np.intp]

_ITERATIONS = 400
# After so many iterations on few experts all are looked at.
_ROUND = 50
# The factor of the steps: how it shrinks after how many steps without progress, and what each
# round begins with at least.
_SHRINK = 0.6
_PATIENCE = 10
_LEAST_STEP = 0.05
# u is rounded to this share of its largest, and nothing but a millionth of D is lost by it.
_UNIT = 2.0**-24
# Far more than what sums of doubles are off here, relative to what is summed.
_ROUNDING = 1e-12
# So many experts' values at a time stay in the processor's cache.
_BATCH = 64
# The descent starts at the best of these shares of what the selection is worth to each prompt.
_STARTS = (1.0, 0.95, 0.85, 0.7, 0.5)


@dataclass(frozen=True, eq=False)
class Bound:
    """A point of the dual and what it proves.

    Attributes:
        unit: `point.u` counts these.
        upper_bound: no selection that keeps the budgets is worth more; roundings are on top.
        profits: (N,), ρ; -inf for an expert that may not be on. No selection with expert i is
            worth more than `upper_bound` + min(ρ_i, 0).
    """

    unit: float
    point: Point
    upper_bound: float
    profits: Matrix


def surplus(program: Program, experts: Indices, u: Matrix, price: float = 0.0) -> Matrix:
    """Return per expert Σ_layers Σ_p (step·value − price·query_cost − u)⁺.

    With u = step · (the capacity-th best value of a selection), what the expert adds to it.
    """
    found = np.zeros(len(experts))
    for first in range(0, len(experts), _BATCH):
        batch = experts[first : first + _BATCH]
        for layer, over in zip(program.layers, u, strict=True):
            values = program.value[batch]
            if layer.step != 1:
                values *= layer.step
            if program.query_cost is not None and price:
                values -= price * program.query_cost[batch]
            values -= over
            np.maximum(values, 0, out=values)
            found[first : first + _BATCH] += values.sum(axis=1)
    return found


def thresholds(program: Program, selected: Sequence[int]) -> Matrix:
    """Return (layers, P): what a further expert must be worth, times step, to count."""
    values = program.value[list(selected)]
    found = np.zeros((len(program.layers), program.value.shape[1]))
    for layer, row in zip(program.layers, found, strict=True):
        if layer.capacity <= len(values):
            place = len(values) - layer.capacity
            row[:] = layer.step * np.partition(values, place, axis=0)[place]
    return found


def minimise(
    program: Program, selected: Sequence[int], objective: float, iterations: int = _ITERATIONS
) -> Bound:
    """Bound every selection, nearly as closely as the linear relaxation does.

    The descent looks at the experts that seem profitable only, and at each prompt's largest
    values among them. After each round all experts are looked at, and who was missed joins.

    Args:
        selected: the best selection known; the descent starts from its values.
        objective: what it is worth; the steps aim at it.
    """
    scaled = _Scaled.of(program)
    u, prices = _start(scaled, selected)
    profits = scaled.profits(u, prices)
    best = (scaled.bound(u, prices, profits), u, prices)
    size = max(len(selected), 1)
    active = np.isin(scaled.experts, selected) | _top(profits, max(512, 2 * size))
    few, step = 48, 1.0
    entries: _Entries | None = None
    for _ in range(0, iterations if active.any() else 0, _ROUND):
        if entries is None:
            each = few + 3 * program.layers[-1].capacity * int(active.sum()) // size
            entries = _Entries.of(scaled, np.flatnonzero(active), each, prices)
        u, prices, step = _descend(scaled, entries, u, prices, objective, max(step, _LEAST_STEP))
        profits = scaled.profits(u, prices)
        bound = scaled.bound(u, prices, profits)
        if bound < best[0]:
            best = (bound, u, prices)
        if best[0] - objective <= _ROUNDING * objective:
            break
        missed = (profits > 0) & ~active
        cramped = bool(((u <= entries.floor) & (entries.floor > 0)).any())
        if missed.any() or cramped:
            active |= _top(np.where(active, -np.inf, profits), 2 * int(missed.sum()))
            few = 2 * few if cramped else few
            entries = None
    return _rounded(scaled, best[1], best[2])


@dataclass(frozen=True, eq=False)
class _Scaled:
    """The usable experts, with each row's costs as shares of its limit; λ is scaled to match.

    A row without a limit to share leaves nothing but experts that are free in it.
    """

    program: Program
    experts: Indices
    rows: Indices
    cost: Matrix

    @classmethod
    def of(cls, program: Program) -> _Scaled:
        # A program may have rounded costs and limits; who fits but for that counts as well.
        fits = (program.cost <= (program.limit + program.rounding)[:, None]).all(axis=0)
        experts = np.flatnonzero(program.open & fits)
        rows = np.flatnonzero(program.limit > 0)
        cost = program.cost[np.ix_(rows, experts)] / program.limit[rows, None]
        return cls(program, experts, rows, cost)

    def query_price(self, prices: Matrix) -> float:
        """λ of row 0, per unit of `query_cost`."""
        priced = len(self.rows) > 0 and self.rows[0] == 0
        return float(prices[0] / self.program.limit[0]) if priced else 0.0

    def profits(self, u: Matrix, prices: Matrix) -> Matrix:
        gained = surplus(self.program, self.experts, u, self.query_price(prices))
        return gained - prices @ self.cost

    def bound(self, u: Matrix, prices: Matrix, profits: Matrix) -> float:
        return float(self.capacity @ u.sum(axis=1) + prices.sum() + profits[profits > 0].sum())

    @property
    def capacity(self) -> Matrix:
        return np.array([layer.capacity for layer in self.program.layers], dtype=np.float64)

    @property
    def step(self) -> Matrix:
        return np.array([layer.step for layer in self.program.layers])


@dataclass(frozen=True, eq=False)
class _Entries:
    """For each prompt the largest values among the active experts.

    Attributes:
        expert: (P, M), positions in `active`.
        value, query_cost: (P, M).
        floor: (layers, P); as long as u stays above it, nothing else counts.
    """

    active: Indices
    cost: Matrix
    expert: Indices
    value: Matrix
    query_cost: Matrix | None
    floor: Matrix

    @classmethod
    def of(cls, scaled: _Scaled, active: Indices, each: int, prices: Matrix) -> _Entries:
        program, experts = scaled.program, scaled.experts[active]
        value = np.ascontiguousarray(program.value[experts].T)
        query_cost = None if program.query_cost is None else program.query_cost[experts].T
        lost = 0.0 if query_cost is None else scaled.query_price(prices) * query_cost
        prompts, cost = len(value), scaled.cost[:, active]
        if each >= len(active):
            expert = np.broadcast_to(np.arange(len(active)), value.shape)
            floor = np.zeros((len(program.layers), prompts))
            return cls(active, cost, expert, value, query_cost, floor)
        expert = np.argpartition(lost - value, each - 1, axis=1)[:, :each]
        floor = np.take_along_axis(value - lost, expert, axis=1).min(axis=1)
        value = np.take_along_axis(value, expert, axis=1)
        if query_cost is not None:
            query_cost = np.take_along_axis(query_cost, expert, axis=1)
        floor = scaled.step[:, None] * np.maximum(floor, 0)
        return cls(active, cost, expert, value, query_cost, floor)


def _top(profits: Matrix, count: int) -> NDArray[np.bool_]:
    """Mark the `count` largest."""
    marked = np.zeros(len(profits), dtype=bool)
    marked[np.argsort(-profits, kind="stable")[:count]] = True
    return marked


def _start(scaled: _Scaled, selected: Sequence[int]) -> tuple[Matrix, Matrix]:
    """Choose u in proportion to what the selection is worth, and one price for all budgets.

    For given u the best common price is where a fractional knapsack breaks.
    """
    worth = thresholds(scaled.program, selected)
    share = np.maximum(scaled.cost.mean(axis=0) if len(scaled.rows) else 0.0, 1e-12)
    best = (np.inf, worth, 0.0)
    for start in _STARTS:
        gained = surplus(scaled.program, scaled.experts, start * worth)
        rate = gained / share
        order = np.argsort(-rate, kind="stable")
        taken = np.cumsum((share + np.zeros_like(rate))[order])
        last = int(np.searchsorted(taken, 1.0))
        price = float(rate[order[last]]) if last < len(rate) and len(scaled.rows) else 0.0
        over = np.maximum(gained - price * share, 0).sum()
        bound = float(start * (scaled.capacity @ worth.sum(axis=1)) + price + over)
        if bound >= best[0]:
            break
        best = (bound, start * worth, price)
    rows = len(scaled.rows)
    return best[1], np.full(rows, best[2] / max(rows, 1))


def _descend(
    scaled: _Scaled, entries: _Entries, u: Matrix, prices: Matrix, target: float, step: float
) -> tuple[Matrix, Matrix, float]:
    """Take a round of deflected subgradient steps; return the best point, and the step factor.

    A step bends towards the last one where the two point against each other (Camerini, Fratta and
    Maffioli 1975), and the factor shrinks when the bound has not improved for a while.
    """
    value, capacity, layer_step = entries.value, scaled.capacity, scaled.step
    flat, active = np.ascontiguousarray(entries.expert).ravel(), len(entries.active)
    # Metric: u moves as far as a prompt's values reach, all prices as far as all prompts' do.
    reach = np.square(value.max(axis=1))
    reach_price = 0.5 * float(reach.sum())
    u = np.maximum(u, entries.floor)
    last_u, last_prices = np.zeros_like(u), np.zeros_like(prices)
    best, best_u, best_prices, stalled = np.inf, u, prices, 0
    for _ in range(_ROUND):
        over = layer_step[:, None, None] * value - u[:, :, None]
        if entries.query_cost is not None:
            over -= scaled.query_price(prices) * entries.query_cost
        np.maximum(over, 0, out=over)
        profit = np.bincount(flat, over.sum(axis=0).ravel(), active) - prices @ entries.cost
        on = profit > 0
        bound = float(capacity @ u.sum(axis=1) + prices.sum() + profit[on].sum())
        much = best - 1e-3 * (best - target) if best < np.inf else np.inf
        stalled = 0 if bound < much else stalled + 1
        if bound < best:
            best, best_u, best_prices = bound, u, prices
        if best <= target:
            break
        if stalled >= _PATIENCE:
            step, stalled = _SHRINK * step, 0
        takes = (over > 0) & on[flat].reshape(value.shape)
        slope_u = capacity[:, None] - np.count_nonzero(takes, axis=2)
        slope_prices = 1 - entries.cost[:, on].sum(axis=1)
        if entries.query_cost is not None and scaled.query_price(np.ones_like(prices)):
            slope_prices[0] -= (takes * entries.query_cost).sum() / scaled.program.limit[0]
        # What cannot go further down does not count as a direction.
        slope_u[(u <= entries.floor) & (slope_u > 0)] = 0
        slope_prices[(prices <= 0) & (slope_prices > 0)] = 0
        along = ((slope_u * last_u) @ reach).sum() + reach_price * (slope_prices @ last_prices)
        if along < 0:
            length = ((last_u**2) @ reach).sum() + reach_price * (last_prices @ last_prices)
            slope_u = slope_u - 1.5 * along / length * last_u
            slope_prices = slope_prices - 1.5 * along / length * last_prices
        length = ((slope_u**2) @ reach).sum() + reach_price * (slope_prices @ slope_prices)
        if length <= 0:
            break
        move = step * (bound - target) / length
        u = np.maximum(u - move * reach * slope_u, entries.floor)
        prices = np.maximum(prices - move * reach_price * slope_prices, 0)
        last_u, last_prices = slope_u, slope_prices
    return best_u, best_prices, step


def _rounded(scaled: _Scaled, u: Matrix, prices: Matrix) -> Bound:
    """Evaluate a point as it will be written down, over all experts."""
    program = scaled.program
    largest = float(u.max(initial=0))
    unit = 2.0 ** float(np.ceil(np.log2(largest))) * _UNIT if largest > 0 else 1.0
    whole = np.rint(u / unit).astype(np.int64)
    per_unit = np.zeros(len(program.rows))
    per_unit[scaled.rows] = prices / program.limit[scaled.rows]
    price = float(per_unit[0]) if program.query_cost is not None else 0.0
    rounded: Matrix = np.asarray(unit * whole, dtype=np.float64)
    gained = surplus(program, scaled.experts, rounded, price)
    profits = gained - per_unit @ program.cost[:, scaled.experts]
    rounding = float(per_unit @ program.rounding)
    on = profits > -rounding
    bound = float(
        scaled.capacity @ rounded.sum(axis=1)
        + per_unit @ program.limit
        + profits[profits > 0].sum()
    )
    slack = _ROUNDING * (bound + float(gained[on].sum())) + rounding * (1 + int(on.sum()))
    all_profits = np.full(program.experts, -np.inf)
    all_profits[scaled.experts] = profits
    return Bound(float(unit), Point(whole, per_unit), bound + slack, all_profits)
