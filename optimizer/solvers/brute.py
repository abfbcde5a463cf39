"""Exact selection by trying every selection: slow, simple, and what the other solvers must equal.

The experts are split into two halves. What a selection is worth for a prompt follows from the
sums of the best 0, 1, … values within each half, and those are made once for every subset of a
half. A selection that has room for one more expert is left out: more is never worth less.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Layer, Program
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Solution

_MOST_EXPERTS = 18
# Each selection takes a linear program of its own where answers cost energy.
_MOST_EXPERTS_ROUTED = 12
# Prompts taken at once, so that the tables of both halves stay in the processor's cache.
_PROMPTS_AT_ONCE = 128


def solve(
    program: Program,
    *,
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Solution:
    """Return the best selection of all, by trying them.

    At the time limit, the best by what was seen so far, bounded by the value of all experts.

    Raises:
        ProblemError: there are too many experts to try every selection.
    """
    experts = np.flatnonzero(program.open)
    most = _MOST_EXPERTS if program.query_cost is None else _MOST_EXPERTS_ROUTED
    if len(experts) > most:
        raise ProblemError(
            [
                f"{len(experts)} experts are too many to try every selection of them (most: "
                f"{most}): use another solver"
            ]
        )
    deadline = None if time_limit_s is None else clock() + time_limit_s

    def late() -> bool:
        return deadline is not None and clock() >= deadline

    fits = _fits(program, experts)
    if program.query_cost is None:
        subset, done = _best(program, experts, _maximal(fits), late)
        selected = _members(experts, subset)
        objective = float(value_of(program, selected))
    else:
        selected, objective, done = _best_routed(program, experts, fits, late)
    bound = objective if done else float(value_of(program, experts))
    return Solution(selected, objective, max(bound, objective))


def _fits(program: Program, experts: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return of each subset whether it keeps the budgets; bit b stands for experts[b]."""
    spent = np.zeros((len(program.rows), 1))
    for expert in experts:
        spent = np.hstack([spent, spent + program.cost[:, [expert]]])
    return np.asarray((spent <= program.limit[:, None]).all(axis=0))


def _maximal(fits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return of each subset whether it keeps the budgets with no room for one more expert."""
    maximal = fits.copy()
    for bit in range(len(fits).bit_length() - 1):
        without, with_ = 0, 1
        pairs = (-1, 2, 1 << bit)
        maximal.reshape(pairs)[:, without] &= ~fits.reshape(pairs)[:, with_]
    return maximal


def _best(
    program: Program,
    experts: NDArray[np.intp],
    candidates: NDArray[np.bool_],
    late: Callable[[], bool],
) -> tuple[int, bool]:
    """Return the candidate worth most, and whether there was time to look at every prompt."""
    low, high = np.split(experts, [len(experts) // 2])
    # One row for each subset of the high half, one column for each of the low half.
    grid = candidates.reshape(1 << len(high), 1 << len(low))
    worth = np.where(grid, 0.0, -np.inf)
    rows = [(row, np.flatnonzero(grid[row])) for row in np.flatnonzero(grid.any(axis=1))]
    prompts = program.value.shape[1]
    for start in range(0, prompts, _PROMPTS_AT_ONCE):
        value = program.value[:, start : start + _PROMPTS_AT_ONCE]
        low_sums = _best_sums(value[low], program.layers)
        high_sums = _best_sums(value[high], program.layers)
        for row, columns in rows:
            if late():
                return int(worth.argmax()), False
            few = low_sums[:, columns]
            for layer in program.layers:
                added = _merged(few, high_sums[:, row], layer.capacity).sum(axis=1)
                worth[row, columns] += layer.step * added
    return int(worth.argmax()), True


def _best_sums(value: Matrix, layers: tuple[Layer, ...]) -> Matrix:
    """Return (ranks, subsets, P), where [r] is the sum of the r best values."""
    ranks = max((layer.capacity for layer in layers), default=0)
    best = np.zeros((ranks, 1, value.shape[1]))
    for of_expert in value:
        above = np.concatenate([np.full_like(best[:1], np.inf), best[:-1]])
        # At each rank: who was there, or else the newcomer or who the newcomer pushed down.
        best = np.concatenate([best, np.maximum(best, np.minimum(above, of_expert))], axis=1)
    return np.pad(best.cumsum(axis=0), ((1, 0), (0, 0), (0, 0)))


def _merged(low: Matrix, high: Matrix, capacity: int) -> Matrix:
    """Return (subsets, P), the sum of the best `capacity` values of both halves together."""
    merged = low[capacity]
    for from_high in range(1, capacity + 1):
        merged = np.maximum(merged, low[capacity - from_high] + high[from_high])
    return merged


def _best_routed(
    program: Program,
    experts: NDArray[np.intp],
    fits: NDArray[np.bool_],
    late: Callable[[], bool],
) -> tuple[tuple[int, ...], float, bool]:
    """Return the best selection, its value, and whether there was time to try them all.

    What an expert takes is missing for answers, so here more may be worth less.
    """
    best: tuple[int, ...] = ()
    objective = 0.0
    for subset in np.flatnonzero(fits):
        if late():
            return best, objective, False
        selected = _members(experts, int(subset))
        value = route(program, selected).objective
        if value > objective:
            best, objective = selected, value
    return best, objective, True


def _members(experts: NDArray[np.intp], subset: int) -> tuple[int, ...]:
    return tuple(int(expert) for bit, expert in enumerate(experts) if subset >> bit & 1)
