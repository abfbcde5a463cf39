"""A solution's proof as a document that anybody can check with `check`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from updraft.optimizer.problem import Problem
from updraft.optimizer.program import Program
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Fix, Point, Solution, Split, Step

FORMAT = "updraft-certificate-1"

_ROUNDED_DOWN = 1 - Fraction(1, 10**12)


def certificate(problem: Problem, program: Program, solution: Solution) -> dict[str, Any] | None:
    """Return the certificate of a solution, or None where the solver brought no proof.

    Numbers are exact: whole, or a fraction in a string. Experts stand by their ids.
    """
    proof = solution.proof
    if proof is None:
        return None
    ids = [expert.id for expert in problem.experts]
    scales = {row.name: Fraction(row.scale) for row in program.rows}
    answers = _assignment(problem, program, solution.selected)
    objective = _worth(problem, answers)
    document: dict[str, Any] = {
        "format": FORMAT,
        "selected": [ids[i] for i in solution.selected],
        "objective": str(objective),
        "upper_bound": str(max(proof.bound, objective)),
        "unit": str(proof.unit),
        "points": [_point(point, scales) for point in proof.points],
        "dominated": [[ids[j], ids[i]] for j, i in proof.dominated],
        "tree": [_step(step, ids) for step in proof.tree],
    }
    if problem.query_energy_j is not None:
        document["assignment"] = {
            problem.prompts[p].id: [[ids[i], str(share)] for i, share in given]
            for p, given in enumerate(answers)
        }
    return document


def _assignment(
    problem: Problem, program: Program, selected: Sequence[int]
) -> list[list[tuple[int, Fraction]]]:
    answers: list[list[tuple[int, Fraction]]] = [[] for _ in problem.prompts]
    shares = route(program, selected).shares
    for prompt, expert, share in zip(*shares, strict=True):
        exact = Fraction(float(share))
        # A share of a prompt comes from floating point: never past the budget.
        answers[prompt].append((int(expert), exact if exact == 1 else exact * _ROUNDED_DOWN))
    return answers


def _worth(problem: Problem, answers: Sequence[Sequence[tuple[int, Fraction]]]) -> Fraction:
    """Add up what answers are worth, each number being the decimal that it is written as."""
    ranks = [Fraction(repr(float(weight))) for weight in problem.rank_weights]
    total = Fraction(0)
    for p, (prompt, given) in enumerate(zip(problem.prompts, answers, strict=True)):
        qualities = [Fraction(repr(float(problem.quality[p, i]))) for i, _ in given]
        if problem.query_energy_j is not None:
            worth = sum(
                (quality * share for quality, (_, share) in zip(qualities, given, strict=True)),
                Fraction(0),
            )
            worth *= ranks[0]
        else:
            worth = sum(
                (rank * quality for rank, quality in zip(ranks, qualities, strict=False)),
                Fraction(0),
            )
        total += Fraction(repr(float(prompt.weight))) * worth
    return total


def _point(point: Point, scales: dict[str, Fraction]) -> dict[str, Any]:
    prices = zip(scales.items(), point.prices.tolist(), strict=True)
    return {
        "u": point.u.tolist(),
        "prices": {name: str(Fraction(price) * scale) for (name, scale), price in prices if price},
    }


def _step(step: Step, ids: Sequence[str]) -> dict[str, Any]:
    if isinstance(step, Split):
        return {"split": ids[step.expert]}
    if isinstance(step, Fix):
        fixed = {"in": [ids[i] for i in step.inside], "out": [ids[i] for i in step.outside]}
        return {"fix": fixed, "point": step.point}
    return {"leaf": "all" if step.point is None else step.point}
