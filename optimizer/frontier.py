"""How much quality each budget buys: ours beside greedy, random, best single and Top-k."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from time import perf_counter
from typing import Literal

import numpy as np

from updraft.optimizer.problem import Budgets, Problem
from updraft.optimizer.program import Program, formulate
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Solver

Axis = Literal["energy", "delay"]

RANDOM, BEST_SINGLE, TOP_QUALITY = "random", "best single", "Top-k by quality"
_DRAWS = 20


@dataclass(frozen=True)
class FrontierPoint:
    """What one method makes of one budget.

    Attributes:
        share: the budget on `axis`, as a share of what all experts take together.
        budgets: all budgets that held.
        quality: the objective; of `random`, the mean over its draws.
        upper_bound: no selection is worth more; None of a method that proves nothing.
        selected: ids of the experts; empty of `random`.
    """

    axis: Axis
    share: float
    budgets: Budgets
    method: str
    quality: float
    upper_bound: float | None = None
    selected: tuple[str, ...] = ()


def frontier(
    problem: Problem,
    axis: Axis,
    shares: Sequence[float],
    solvers: Mapping[str, Solver],
    *,
    seed: int = 0,
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> list[FrontierPoint]:
    """Solve a problem at each budget on one axis, its other budgets as they are.

    Args:
        shares: of what all experts take together; at 1 the axis limits nothing.
        solvers: by the name of the method; the simple methods are added.
        seed: of the random selections.
        time_limit_s: per budget and solver.
    """
    points = []
    for share in sorted(shares):
        budgets = scaled_budgets(problem, axis, share)
        program = formulate(replace(problem, budgets=budgets))
        for method, solve in solvers.items():
            found = solve(program, time_limit_s=time_limit_s, clock=clock)
            selected = tuple(problem.experts[i].id for i in found.selected)
            points.append(
                FrontierPoint(
                    axis, share, budgets, method, found.objective, found.upper_bound, selected
                )
            )
        for method, choose in ((BEST_SINGLE, best_single), (TOP_QUALITY, top_quality)):
            chosen = choose(program)
            selected = tuple(problem.experts[i].id for i in chosen)
            worth = route(program, chosen).objective
            points.append(FrontierPoint(axis, share, budgets, method, worth, None, selected))
        rng = np.random.default_rng(seed)
        worths = [route(program, maximal(program, rng)).objective for _ in range(_DRAWS)]
        points.append(FrontierPoint(axis, share, budgets, RANDOM, fmean(worths)))
    return points


def scaled_budgets(problem: Problem, axis: Axis, share: float) -> Budgets:
    """Return the budgets where those on one axis admit a share of what all experts take.

    All experts in series take the sum of their delays; side by side, the slowest's. A category in
    which the delay of some expert is not known stays without a limit.
    """
    if axis == "energy":
        energy = sum(expert.energy_j for expert in problem.experts)
        if problem.query_energy_j is not None:
            # No routing takes more: every prompt's dearest answers.
            dearest = np.sort(problem.query_energy_j, axis=1)[:, -len(problem.rank_weights) :]
            weights = np.array([prompt.weight for prompt in problem.prompts])
            energy += float(weights @ dearest.sum(axis=1))
        return replace(problem.budgets, energy_j=_decimal(share * energy))
    together = sum if problem.latency_mode == "serial" else max
    known = {prompt.category for prompt in problem.prompts}.intersection(
        *(expert.latency_ms for expert in problem.experts)
    )
    latency_ms = {
        category: _decimal(share * together(e.latency_ms[category] for e in problem.experts))
        for category in sorted(known)
    }
    return replace(problem.budgets, latency_ms=latency_ms)


def best_single(program: Program) -> list[int]:
    """Return the one expert that is worth most alone."""
    return sorted(program.usable.tolist(), key=lambda i: -route(program, [i]).objective)[:1]


def top_quality(program: Program) -> list[int]:
    """Return the experts of most total quality, as far as the budgets admit them."""
    return program.fill(np.argsort(-program.value.sum(axis=1), kind="stable"))


def maximal(program: Program, rng: np.random.Generator) -> list[int]:
    """Return a random selection to which no expert can be added."""
    return program.fill(rng.permutation(program.experts))


def _decimal(limit: float) -> float:
    """A budget of few decimals keeps costs whole numbers; it loses a millionth at most."""
    return float(f"{limit:.9g}")
