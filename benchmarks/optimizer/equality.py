"""Ours against brute force on small problems of whole numbers, in every mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from updraft.benchmarks.optimizer import ours
from updraft.benchmarks.optimizer.instances import CATEGORIES, integral
from updraft.models.card import Table
from updraft.optimizer.problem import (
    Budgets,
    Expert,
    Ineligible,
    LatencyMode,
    Problem,
    Prompt,
)
from updraft.optimizer.program import formulate
from updraft.optimizer.solvers import brute

# Mostly few experts: brute force doubles with each.
_EXPERTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18)
_ODDS = np.array([2, 3, 4, 5, 6, 6, 6, 6, 6, 5, 4, 3, 2, 1, 0.5])
_RANK_WEIGHTS = (
    ((1.0,), (2.0,)),
    ((1.0, 1.0), (3.0, 1.0), (1.0, 0.0)),
    ((1.0, 1.0, 1.0), (4.0, 2.0, 1.0), (2.0, 2.0, 1.0)),
)
_MODES: tuple[tuple[LatencyMode, Ineligible], ...] = (
    ("serial", "lenient"),
    ("parallel", "lenient"),
    ("parallel", "strict"),
)
_LIMIT_S = 60.0


@dataclass(frozen=True)
class Difference:
    """What came of one instance; `fault` is empty where all is equal."""

    top_k: int
    mode: str
    fault: str


def small(seed: int) -> Problem:
    """Draw a problem of whole numbers: any mode, top_k, budget (zero too), weights and resource."""
    rng = np.random.default_rng(seed)
    mode, ineligible = _MODES[rng.integers(len(_MODES))]
    experts = int(rng.choice(_EXPERTS, p=_ODDS / _ODDS.sum()))
    prompts = int(rng.integers(1, 13))
    draw = integral(experts, prompts, rng)
    memory = rng.integers(0, 8, experts).astype(float)
    rank_weights = _RANK_WEIGHTS[rng.integers(len(_RANK_WEIGHTS))]
    return Problem(
        experts=tuple(
            Expert(
                f"e{i}",
                float(draw.energy_j[i]),
                dict(zip(CATEGORIES, draw.latency_ms[i].tolist(), strict=True)),
                {"memory_gib": float(memory[i])},
            )
            for i in range(experts)
        ),
        prompts=tuple(
            Prompt(f"p{p}", CATEGORIES[draw.category[p]], float(rng.integers(1, 4)))
            for p in range(prompts)
        ),
        quality=draw.quality,
        budgets=Budgets(
            energy_j=_limit(rng, draw.energy_j),
            latency_ms={
                category: _limit(rng, draw.latency_ms[:, c])
                if mode == "serial"
                else float(rng.integers(2, 10))
                for c, category in enumerate(CATEGORIES)
                if c in draw.category and rng.random() < 0.5
            },
            resources={"memory_gib": _limit(rng, memory)} if rng.random() < 0.5 else {},
        ),
        rank_weights=rank_weights[rng.integers(len(rank_weights))],
        latency_mode=mode,
        ineligible=ineligible,
    )


def compare(seed: int) -> Difference:
    """Solve a small problem by both, and check our certificate; all sums are whole, so exact."""
    problem = small(seed)
    program = formulate(problem)
    right = brute.solve(program).objective
    run = ours.solve(problem, program, _LIMIT_S)
    faults = [f"certificate refused: {run.refused}"] if run.refused else []
    if run.outcome.objective != right:
        faults.append(f"{run.outcome.objective:g}, by brute force {right:g}")
    if not run.outcome.proved:
        faults.append(f"not proved: up to {run.outcome.upper_bound:g}")
    told = f"small instance {seed}: {'; '.join(faults)}" if faults else ""
    mode = problem.latency_mode
    shown = mode if mode == "serial" else f"{mode}, {problem.ineligible}"
    return Difference(len(problem.rank_weights), shown, told)


def equality_table(found: list[Difference]) -> Table:
    """Return how many instances of each kind were solved alike."""
    keys = sorted({(each.mode, each.top_k) for each in found})
    rows = []
    for mode, top_k in keys:
        here = [each for each in found if (each.mode, each.top_k) == (mode, top_k)]
        rows.append((mode, str(top_k), str(len(here)), str(sum(bool(e.fault) for e in here))))
    return Table(
        "Equal to brute force",
        ("latency mode", "top_k", "instances", "different"),
        rows,
        "Random problems of 1 to 18 experts and whole numbers, compared without a tolerance; "
        "every certificate is checked.",
    )


def _limit(rng: Generator, costs: np.typing.NDArray[np.float64]) -> float:
    return float(np.floor(rng.choice([0.1, 0.25, 0.5, 1.0]) * costs.sum()))
