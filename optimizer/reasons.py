"""Why there is no selection, or what limits the one there is, in words."""

from __future__ import annotations

import numpy as np

from updraft.optimizer.problem import Problem
from updraft.optimizer.program import Program


def why_not(problem: Problem, program: Program) -> str:
    """Say which budgets keep every expert out, and by how much; empty where one can serve."""
    if program.value[program.usable].any():
        return ""
    if not (problem.quality > 0).any():
        return "no expert is worth anything to any prompt: every quality is 0"
    reasons = [*_too_slow(problem, program), *_too_dear(problem, program)]
    if not reasons:
        reasons.append(_nearest(problem, program))
    return "no expert can serve within the budgets: " + "; ".join(reasons)


def why_so(program: Program, binding: tuple[str, ...]) -> str:
    """Say what keeps more experts from being on."""
    if binding:
        return f"another expert would add something but for {', '.join(binding)}"
    if not program.rows:
        return "no budget limits which experts are on"
    return "no other expert would add anything"


def _too_slow(problem: Problem, program: Program) -> list[str]:
    """Latency budgets that nobody keeps, where experts work side by side."""
    if problem.latency_mode == "serial":
        return []
    reasons = []
    for category, limit in problem.budgets.latency_ms.items():
        fastest = min(problem.experts, key=lambda expert: expert.latency_ms[category])
        taken = fastest.latency_ms[category]
        if taken > limit:
            reasons.append(
                f"latency_ms.{category}: the fastest expert, {fastest.id!r}, takes {taken:g} ms, "
                f"{taken - limit:g} above the {limit:g} allowed"
            )
    if not reasons and problem.ineligible == "strict" and not program.open.any():
        reasons.append(
            "every expert is too slow for some category, and 'ineligible' is 'strict'; "
            "'lenient' would use it for the others"
        )
    return reasons


def _too_dear(problem: Problem, program: Program) -> list[str]:
    """Budgets that every single expert overruns."""
    reasons = []
    candidates = np.flatnonzero(program.open & (program.value.max(axis=1) > 0))
    for row, cost in zip(program.rows, program.cost, strict=True):
        if len(candidates) and (cost[candidates] > row.limit).all():
            cheapest = int(candidates[cost[candidates].argmin()])
            taken, limit = cost[cheapest] / row.scale, row.limit / row.scale
            reasons.append(
                f"{row.name}: the cheapest expert, {problem.experts[cheapest].id!r}, takes "
                f"{taken:g}, {taken - limit:g} above the {limit:g} allowed"
            )
    return reasons


def _nearest(problem: Problem, program: Program) -> str:
    """Each budget admits someone, but nobody keeps them all: name who comes nearest."""
    candidates = np.flatnonzero(program.open & (program.value.max(axis=1) > 0))
    if not len(candidates):
        return "no expert that may be on is worth anything to a prompt that it is fast enough for"
    limit = program.limit[:, None]
    share = program.cost[:, candidates] / np.where(limit > 0, limit, 1)
    over = np.where(program.cost[:, candidates] > limit, share, 0)
    nearest = int(candidates[over.max(axis=0).argmin()])
    exceeded = [
        f"{row.name} by {(cost - row.limit) / row.scale:g}"
        for row, cost in zip(program.rows, program.cost[:, nearest], strict=True)
        if cost > row.limit
    ]
    return (
        f"nobody keeps all budgets alone; {problem.experts[nearest].id!r} comes nearest and "
        f"exceeds {', '.join(exceeded)}"
    )
