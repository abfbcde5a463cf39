"""Our solver on one problem, its certificate checked."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from time import process_time
from typing import NamedTuple

from updraft.benchmarks.optimizer.clock import timed
from updraft.benchmarks.optimizer.outcome import Outcome
from updraft.benchmarks.optimizer.plan import OURS
from updraft.optimizer.certificates.certificate import certificate
from updraft.optimizer.certificates.check import check
from updraft.optimizer.document import document_of
from updraft.optimizer.problem import Problem
from updraft.optimizer.program import Program
from updraft.optimizer.solution import Solution
from updraft.optimizer.solvers import exact

# What "optimal" means.
_TOLERANCE = 1e-9


class Ours(NamedTuple):
    """A run of ours; `refused` says why its certificate does not hold, and is empty if it does."""

    outcome: Outcome
    solution: Solution
    refused: str


def solve(
    problem: Problem,
    program: Program,
    limit_s: float,
    *,
    warm: Solution | None = None,
    checks_all: bool = True,
) -> Ours:
    """Solve a problem, from an earlier solution or from nothing, and check the certificate.

    Args:
        checks_all: also that of a run out of time, which is long.
    """
    seconds, solution = timed(
        lambda: exact.solve(program, time_limit_s=limit_s, clock=process_time, warm=warm)
    )
    outcome = Outcome.of(
        OURS, seconds, solution.objective, solution.upper_bound, limit_s, _TOLERANCE
    )
    if not (outcome.proved or checks_all):
        return Ours(outcome, solution, "")
    check_s, refused = timed(lambda: refusal(problem, program, solution))
    return Ours(replace(outcome, check_s=check_s), solution, refused)


def refusal(problem: Problem, program: Program, solution: Solution) -> str:
    """Return why the checker refuses a solution's certificate; empty if it does not."""
    made = certificate(problem, program, solution)
    if made is None:
        return "there is none"
    # The checker takes the matrix as it is: making a list of lists of it is no part of its work.
    document = document_of(problem) | {"quality": problem.quality}
    verdict = check(document, made)
    if not verdict.holds:
        return f"{verdict.reason} {verdict.path}".strip()
    # Values are decimals: a bound below the next one that is possible proves the objective.
    proved = float(Fraction(verdict.objective if verdict.exact else verdict.upper_bound))
    if proved > solution.upper_bound + _TOLERANCE * max(1.0, solution.objective):
        return f"it proves {proved!r} only, {solution.upper_bound!r} is claimed"
    return ""
