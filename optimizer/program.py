"""A selection problem as arrays: eligibility applied, budgets as knapsack rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.problem import Matrix, Problem

_EXACT = 2.0**53
_MOST_DECIMALS = 15
# Costs that are no decimals of a common length are rounded up at this bit of the largest.
_ROUNDED_BITS = 40


@dataclass(frozen=True)
class Layer:
    """One step of the rank weights: the best `capacity` experts of a prompt count `step` each."""

    capacity: int
    step: float


@dataclass(frozen=True)
class Row:
    """A budget: `limit` in whole multiples of 1/`scale` of the user's unit.

    Attributes:
        rounded: its numbers are no decimals of a common length, so costs were rounded up.
    """

    name: str
    limit: float
    scale: float
    rounded: bool = False


@dataclass(frozen=True, eq=False)
class Program:
    """Maximise value(S) subject to cost(S) <= limit.

    value(S) = Σ_layers step · Σ_p (sum of the `capacity` largest value[i, p], i in S); for one
    layer of capacity 1 that is budgeted facility location. It is monotone and submodular.

    Attributes:
        value: (N, P), weighted quality of eligible pairs, 0 elsewhere. Experts come first, so
            that one expert's values lie side by side.
        cost: (K, N), whole numbers, so that sums and comparisons with `limit` are exact.
        open: (N,), whether an expert may be on at all.
        query_cost: (N, P), weighted cost of each answer against row 0 (energy), in its scale.
    """

    value: Matrix
    layers: tuple[Layer, ...]
    cost: Matrix
    rows: tuple[Row, ...]
    open: NDArray[np.bool_]
    query_cost: Matrix | None = None

    @cached_property
    def limit(self) -> Matrix:
        """(K,), the limits of the rows."""
        return np.array([row.limit for row in self.rows], dtype=np.float64)

    @cached_property
    def measure(self) -> Matrix:
        """(K,), what costs are shares of: the limits, or one unit where the limit is 0."""
        return np.maximum(self.limit, 1.0)

    @cached_property
    def rounding(self) -> Matrix:
        """(K,), more whole units than a row's numbers are off what the user wrote.

        A limit of 0 and what takes nothing of it stay 0.
        """
        return np.array([2.0 if row.rounded and row.limit else 0.0 for row in self.rows])

    @property
    def experts(self) -> int:
        """N, the number of experts."""
        return self.value.shape[0]

    @cached_property
    def usable(self) -> NDArray[np.intp]:
        """The experts that may be on and, alone, keep every budget."""
        return np.flatnonzero(self.open & (self.cost <= self.limit[:, None]).all(axis=0))

    def left(self, selected: NDArray[np.intp] | list[int]) -> Matrix:
        """(K,), what these experts leave of the limits; below 0 where they overrun one."""
        return np.asarray(self.limit - self.cost[:, selected].sum(axis=1))

    def fits(self, selected: NDArray[np.intp] | list[int]) -> bool:
        """Whether these experts together keep every budget."""
        return bool((self.left(selected) >= 0).all())

    def fill(self, order: NDArray[np.intp], selected: Sequence[int] = ()) -> list[int]:
        """Add experts that may be on to a selection, in this order, as far as they fit."""
        chosen = list(selected)
        left = self.left(chosen)
        for i in order.tolist():
            if self.open[i] and (self.cost[:, i] <= left).all():
                chosen.append(i)
                left = left - self.cost[:, i]
        return chosen


def formulate(problem: Problem) -> Program:
    """Turn a problem into arrays: drop what is ineligible, make a row of each budget.

    With experts in parallel an answer is as slow as its slowest expert, so a latency budget
    decides who is eligible; in series it limits a sum, like energy.
    """
    open_ = np.ones(len(problem.experts), dtype=bool)
    weights = np.array([prompt.weight for prompt in problem.prompts], dtype=np.float64)
    value = np.ascontiguousarray(problem.quality.T * weights)
    rows: list[tuple[Row, Matrix]] = []
    budgets = problem.budgets
    query_cost = None
    if budgets.energy_j is not None:
        energy = np.array([expert.energy_j for expert in problem.experts])
        rows.append(_row("energy_j", energy, budgets.energy_j))
        if problem.query_energy_j is not None:
            query_cost = np.ascontiguousarray(problem.query_energy_j.T * weights) * rows[0][0].scale
    for category, limit in budgets.latency_ms.items():
        taken = np.array([expert.latency_ms[category] for expert in problem.experts])
        if problem.latency_mode == "serial":
            rows.append(_row(f"latency_ms.{category}", taken, limit))
        elif problem.ineligible == "strict":
            open_ &= taken <= limit
        else:
            of_category = np.array([prompt.category == category for prompt in problem.prompts])
            value[np.ix_(taken > limit, of_category)] = 0
    for name, limit in budgets.resources.items():
        taken = np.array([expert.resources[name] for expert in problem.experts])
        rows.append(_row(f"resources.{name}", taken, limit))
    value[~open_] = 0
    cost = np.array([cost for _, cost in rows]).reshape(len(rows), len(problem.experts))
    made = tuple(row for row, _ in rows)
    return Program(value, _layers(problem.rank_weights), cost, made, open_, query_cost)


def _layers(rank_weights: tuple[float, ...]) -> tuple[Layer, ...]:
    """Σ_r ω_r q_(r) = Σ_j (ω_j − ω_{j+1}) (q_(1) + … + q_(j))."""
    below = (*rank_weights[1:], 0.0)
    steps = (
        Layer(rank, float(weight - next_weight))
        for rank, (weight, next_weight) in enumerate(zip(rank_weights, below, strict=True), 1)
    )
    return tuple(layer for layer in steps if layer.step > 0)


def _row(name: str, taken: Matrix, limit: float) -> tuple[Row, Matrix]:
    """Scale a budget to whole numbers, which add up without rounding."""
    numbers = np.append(taken, limit)
    for decimals in range(_MOST_DECIMALS + 1):
        scale = 10.0**decimals
        whole = np.rint(numbers * scale)
        if whole[:-1].sum() >= _EXACT or whole[-1] >= _EXACT:
            break
        if (whole / scale == numbers).all():
            return Row(name, float(whole[-1]), scale), whole[:-1]
    # Never past a budget: costs up, the limit down; but who keeps it alone still does. Scaling by
    # a power of two loses nothing.
    largest = max(limit, float(taken.max(initial=0)))
    scale = 2.0 ** (_ROUNDED_BITS - int(np.ceil(np.log2(largest))))
    most = float(np.floor(limit * scale))
    cost = np.ceil(taken * scale)
    cost = np.where(taken <= limit, np.minimum(cost, most), cost)
    return Row(name, most, scale, rounded=True), cost
