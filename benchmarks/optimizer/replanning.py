"""Planning anew after a small change: from the last plan, and from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from updraft.benchmarks.optimizer import ours
from updraft.benchmarks.optimizer.instances import instance
from updraft.benchmarks.optimizer.plan import Case, Replanning, Track
from updraft.models.card import Table
from updraft.optimizer.problem import Problem
from updraft.optimizer.program import formulate
from updraft.optimizer.solution import Solution
from updraft.optimizer.solvers.replan import carry

# Of its energy budget, what a plan has after the change.
_CUT = 0.95


@dataclass(frozen=True)
class Replan:
    """One change to one instance."""

    case: Case
    change: str
    cold_s: float
    warm_s: float
    proved: bool
    faults: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """Warm by cold; infinite where either proved nothing."""
        return self.warm_s / self.cold_s if self.proved and not self.faults else float("inf")


def measure(plan: Replanning, track: Track[Case]) -> list[Replan]:
    """Change each instance in each way, and plan anew."""
    cases = [Case(kind, plan.share, seed) for kind in plan.kinds for seed in range(plan.seeds)]
    return [replan for case in track(cases, "re-planning") for replan in _replan(plan, case)]


def without_the_busiest(problem: Problem, solution: Solution) -> Problem:
    """Lose the selected expert that serves most prompts."""
    selected = list(solution.selected)
    serving = problem.quality[:, selected].argmax(axis=1)
    return _without(problem, selected[int(np.bincount(serving).argmax())])


def without_an_idle_one(problem: Problem, solution: Solution) -> Problem:
    """Lose the best expert that was not selected."""
    quality = problem.quality.sum(axis=0)
    quality[list(solution.selected)] = -1
    return _without(problem, int(quality.argmax()))


def _without(problem: Problem, gone: int) -> Problem:
    return replace(
        problem,
        experts=problem.experts[:gone] + problem.experts[gone + 1 :],
        quality=np.delete(problem.quality, gone, axis=1),
    )


def with_less_energy(problem: Problem, solution: Solution) -> Problem:
    """Cut the energy budget by 5%."""
    assert problem.budgets.energy_j is not None
    energy_j = round(_CUT * problem.budgets.energy_j, 2)
    return replace(problem, budgets=replace(problem.budgets, energy_j=energy_j))


Change = Callable[[Problem, Solution], Problem]
CHANGES: dict[str, Change] = {
    "the busiest expert gone": without_the_busiest,
    "an idle expert gone": without_an_idle_one,
    "5% less energy": with_less_energy,
}


def replan_table(replans: Sequence[Replan]) -> Table:
    """Return cold and warm seconds by kind and change."""
    keys = list(dict.fromkeys((each.case.kind, each.change) for each in replans))
    rows = []
    for kind, change in keys:
        here = [each for each in replans if (each.case.kind, each.change) == (kind, change)]
        rows.append(
            (
                f"{kind}, {change}",
                f"{median(each.cold_s for each in here):.3f}",
                f"{median(each.warm_s for each in here):.3f}",
                _percent(median(each.ratio for each in here)),
                _percent(max(each.ratio for each in here)),
                str(len(here)),
            )
        )
    return Table(
        "Re-planning: CPU seconds",
        ("kind, change", "cold", "warm", "warm ÷ cold", "worst", "runs"),
        rows,
        "Busiest: the one that served most prompts. ∞: not proved in time.",
    )


def _percent(ratio: float) -> str:
    return "∞" if ratio == float("inf") else f"{ratio:.0%}"


def _replan(plan: Replanning, case: Case) -> Iterator[Replan]:
    problem = instance(case.kind, plan.experts, plan.prompts, case.share, case.seed)
    first = _solve(plan, problem)
    before = _names(problem)
    for name, change in CHANGES.items():
        changed = change(problem, first.solution)
        warm = carry(first.solution, before, _names(changed))
        runs = {"cold": _solve(plan, changed), "warm": _solve(plan, changed, warm)}
        where = f"re-planning, {case.kind}, seed {case.seed}, {name}"
        faults = [f"{where}, {start}: {run.refused}" for start, run in runs.items() if run.refused]
        cold, anew = (run.outcome for run in runs.values())
        proved = cold.proved and anew.proved
        if proved and cold.objective != anew.objective:
            faults.append(f"{where}: cold {cold.objective!r}, warm {anew.objective!r}")
        yield Replan(case, name, cold.seconds, anew.seconds, proved, tuple(faults))


def _solve(plan: Replanning, problem: Problem, warm: Solution | None = None) -> ours.Ours:
    program = formulate(problem)
    return ours.solve(problem, program, plan.limit_s, warm=warm, checks_all=False)


def _names(problem: Problem) -> tuple[str, ...]:
    return tuple(expert.id for expert in problem.experts)
