"""Selecting experts for a problem: from the user's words and back to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from time import perf_counter
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from updraft.errors import ProblemError
from updraft.optimizer.certificates.certificate import certificate
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Problem
from updraft.optimizer.program import Program, formulate
from updraft.optimizer.reasons import why_not, why_so
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Solution, Solver
from updraft.optimizer.solvers import brute, exact, greedy, mip, replan

SolverName = Literal["exact", "greedy", "pulp-cbc", "pulp-highs", "brute"]
SOLVERS: tuple[SolverName, ...] = get_args(SolverName)
Status = Literal["optimal", "feasible", "infeasible"]

# A bound this close to the objective, relative to it, is rounding.
_PROVED = 1e-9


class Share(NamedTuple):
    """An expert that answers a prompt, and the part of the prompt's requests that it answers."""

    expert: str
    share: float


@dataclass(frozen=True, eq=False)
class Selection:
    """Which experts to keep on, who answers what, and how good that is.

    Attributes:
        gap: (upper_bound − objective) / objective.
        headroom_gap: the same difference as a share of what all experts together would add to
            the objective: the honest figure where a few experts already do nearly everything.
        spent: `energy_j`, `latency_ms` by category, `resources` by name.
        binding: the budgets that keep out an expert that would add something.
        reason: what limits the selection, or why there is none, for people.
        problem: what was asked; solution: what the solver said, for the next `select`.
    """

    status: Status
    selected: tuple[str, ...]
    assignment: dict[str, list[Share]]
    objective: float
    upper_bound: float
    gap: float
    headroom_gap: float
    spent: dict[str, Any]
    binding: tuple[str, ...]
    reason: str
    seconds: float
    problem: Problem = field(repr=False)
    solution: Solution | None = field(default=None, repr=False)

    @cached_property
    def certificate(self) -> dict[str, Any] | None:
        """The proof, see `certificates`; None where the solver brings none. It may be large."""
        if self.solution is None:
            return None
        return certificate(self.problem, formulate(self.problem), self.solution)

    def as_document(self, certificate_file: str | None = None) -> dict[str, Any]:
        """Return what `--json` prints, with the name of the file that holds the certificate."""
        shown = [name for name in vars(self) if name not in ("problem", "solution", "certificate")]
        document = {name: getattr(self, name) for name in shown}
        document["assignment"] = {
            prompt: [share._asdict() for share in shares]
            for prompt, shares in self.assignment.items()
        }
        return document | {"certificate": certificate_file}


def select(
    problem: Problem,
    *,
    solver: SolverName = "exact",
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
    previous: Selection | None = None,
) -> Selection:
    """Choose the experts to keep on under the budgets, and who answers which prompt.

    Args:
        time_limit_s: then the best found so far is returned, with a bound on the best there is.
        previous: an earlier selection for nearly the same problem; the exact solver goes on
            from what of its proof still holds.

    Raises:
        ProblemError: a solver is asked for more experts than it takes.
        RuntimeMissing: a solver that is not installed.
    """
    started = clock()
    program = formulate(problem)
    if reason := why_not(problem, program):
        return _nothing(problem, reason, clock() - started)
    solution = _solver(solver, problem, previous)(program, time_limit_s=time_limit_s, clock=clock)
    seconds = clock() - started
    routing = route(program, solution.selected)
    # Who answers nothing adds nothing: where there was room, it would be on for no reason.
    answering = tuple(sorted(set(routing.shares.expert.tolist())))
    solution = replace(solution, selected=answering)
    ids = tuple(expert.id for expert in problem.experts)
    assignment: dict[str, list[Share]] = {prompt.id: [] for prompt in problem.prompts}
    for prompt, expert, share in zip(*routing.shares, strict=True):
        assignment[problem.prompts[prompt].id].append(Share(ids[expert], float(share)))
    # Adding up floats leaves 10.129999999999999 of 10.13.
    objective = float(f"{solution.objective:.12g}")
    missing = max(solution.upper_bound - objective, 0.0)
    proved = missing <= _PROVED * max(1.0, objective)
    everyone = value_of(program, np.flatnonzero(program.open))
    headroom = everyone - objective
    binding = _binding(program, solution, routing.price)
    return Selection(
        status="optimal" if proved else "feasible",
        selected=tuple(ids[i] for i in solution.selected),
        assignment=assignment,
        objective=objective,
        upper_bound=objective if proved else solution.upper_bound,
        gap=0.0 if proved else missing / objective if objective else np.inf,
        headroom_gap=0.0 if proved or headroom <= 0 else missing / headroom,
        spent=_spent(problem, program, solution, assignment, routing.query_cost),
        binding=binding,
        reason=why_so(program, binding),
        seconds=seconds,
        problem=problem,
        solution=solution,
    )


def _solver(name: SolverName, problem: Problem, previous: Selection | None) -> Solver:
    if name == "exact":
        warm = None
        if previous is not None and previous.solution is not None:
            ids = tuple(expert.id for expert in problem.experts)
            before = tuple(expert.id for expert in previous.problem.experts)
            warm = replan.carry(previous.solution, before, ids)
        return partial(exact.solve, warm=warm)
    if name not in SOLVERS:
        raise ProblemError([f"there is no solver {name!r}; there are {', '.join(SOLVERS)}"])
    others: dict[str, Solver] = {
        "greedy": greedy.solve,
        "brute": brute.solve,
        "pulp-cbc": partial(mip.solve, engine="cbc"),
        "pulp-highs": partial(mip.solve, engine="highs"),
    }
    return others[name]


def _nothing(problem: Problem, reason: str, seconds: float) -> Selection:
    nobody: dict[str, list[Share]] = {prompt.id: [] for prompt in problem.prompts}
    spent: dict[str, Any] = {"energy_j": 0.0, "latency_ms": {}, "resources": {}}
    return Selection(
        "infeasible", (), nobody, 0.0, 0.0, 0.0, 0.0, spent, (), reason, seconds, problem
    )


def _binding(program: Program, solution: Solution, price: float) -> tuple[str, ...]:
    """Budgets that keep out an expert which would add something, or limit the answers."""
    selected = list(solution.selected)
    left = program.left(selected)
    outside = np.setdiff1d(np.flatnonzero(program.open), selected)
    useful = [i for i in outside if _adds(program, selected, int(i))]
    over = np.asarray((program.cost[:, useful] > left[:, None]).any(axis=1))
    if price > 0:
        over[0] = True
    return tuple(row.name for row, is_over in zip(program.rows, over, strict=True) if is_over)


def _adds(program: Program, selected: list[int], expert: int) -> bool:
    return value_of(program, [*selected, expert]) > value_of(program, selected)


def _spent(
    problem: Problem,
    program: Program,
    solution: Solution,
    assignment: dict[str, list[Share]],
    query_cost: float,
) -> dict[str, Any]:
    on = [problem.experts[i] for i in solution.selected]
    energy = sum(expert.energy_j for expert in on)
    if query_cost:
        energy += query_cost / program.rows[0].scale
    answering: dict[str, set[str]] = {}
    for prompt in problem.prompts:
        names = {share.expert for share in assignment[prompt.id]}
        answering.setdefault(prompt.category, set()).update(names)
    latency: dict[str, float] = {}
    for category, names in answering.items():
        if problem.latency_mode == "serial":
            taken = [expert.latency_ms.get(category, 0.0) for expert in on]
            latency[category] = sum(taken)
        else:
            taken = [e.latency_ms.get(category, 0.0) for e in on if e.id in names]
            latency[category] = max(taken, default=0.0)
    resources = {name for expert in on for name in expert.resources}
    return {
        "energy_j": energy,
        "latency_ms": latency,
        "resources": {
            name: sum(expert.resources.get(name, 0.0) for expert in on)
            for name in sorted(resources)
        },
    }
