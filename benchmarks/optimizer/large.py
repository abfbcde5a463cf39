"""Thousands of experts: lazy greedy, what it need not evaluate, and its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import process_time

import numpy as np

from updraft.benchmarks.optimizer import ours
from updraft.benchmarks.optimizer.clock import timed
from updraft.benchmarks.optimizer.instances import Kind, instance
from updraft.benchmarks.optimizer.outcome import gap, headroom_gap
from updraft.benchmarks.optimizer.plan import KINDS, Case, Growth, Large, Track
from updraft.models.card import Table
from updraft.optimizer.objective import value_of
from updraft.optimizer.program import Program, formulate
from updraft.optimizer.solvers import dual, greedy

# Where greedy has most to do.
_GROWTH_KIND: Kind = "uniform"
_GROWTH_SHARE = 0.25


@dataclass(frozen=True)
class LargeRun:
    """Greedy on one instance.

    Attributes:
        evaluations: of marginal gains by lazy greedy, against what naive greedy needs for the
            same selections.
        certificate_s: of the dual bound for what greedy picked.
        solve_s: of everything: greedy in more than one order, the bound, and swaps; the gaps are
            what it ends with; `check_s` of the check of its certificate.
        gap, headroom_gap: (UB − LB) by LB, and by what all experts would add to LB.
    """

    kind: Kind
    share: float
    seed: int
    selected: int
    greedy_s: float
    evaluations: int
    naive_evaluations: int
    certificate_s: float
    solve_s: float
    check_s: float
    gap: float
    headroom_gap: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grown:
    """Greedy's time at one number of experts."""

    experts: int
    seed: int
    greedy_s: float
    certificate_s: float


def measure(plan: Large, track: Track[Case]) -> list[LargeRun]:
    """Select from thousands of experts of each kind."""
    cases = [
        Case(kind, share, seed)
        for kind in KINDS
        for share in plan.shares
        for seed in range(plan.seeds)
    ]
    return [_run(plan, case) for case in track(cases, f"{plan.experts} × {plan.prompts}, greedy")]


def measure_growth(plan: Growth, track: Track[int]) -> list[Grown]:
    """Time greedy and its certificate over the number of experts, at fixed prompts."""
    grown = []
    for experts in track(plan.experts, "growth"):
        for seed in range(plan.seeds):
            problem = instance(_GROWTH_KIND, experts, plan.prompts, _GROWTH_SHARE, seed)
            program = formulate(problem)
            greedy_s, picked = timed(lambda: greedy.lazy_greedy(program))  # noqa: B023
            certificate_s, _ = timed(lambda: _certificate(program, picked.selected))  # noqa: B023
            grown.append(Grown(experts, seed, greedy_s, certificate_s))
    return grown


def slope(grown: Sequence[Grown]) -> float:
    """Return the exponent with which greedy's time grows with the number of experts."""
    logs = np.log([[each.experts, each.greedy_s] for each in grown])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def naive_evaluations(program: Program, order: Sequence[int]) -> int:
    """Count the gains that greedy works out that looks at all that fit before every choice.

    Args:
        order: the experts as greedy chose them.
    """
    left = program.limit
    waiting = program.open.copy()
    evaluations = 0
    for chosen in (*order, None):
        waiting &= (program.cost <= left[:, None]).all(axis=0)
        evaluations += int(waiting.sum())
        if chosen is not None:
            waiting[chosen] = False
            left = left - program.cost[:, chosen]
    return evaluations


def large_table(runs: Sequence[LargeRun]) -> Table:
    """Return greedy's seconds, evaluations and gaps by kind and budget."""
    keys = list(dict.fromkeys((run.kind, run.share) for run in runs))
    rows = []
    for kind, share in keys:
        here = [run for run in runs if (run.kind, run.share) == (kind, share)]
        rows.append(
            (
                f"{kind}, {share:.0%}",
                f"{median(run.selected for run in here):.0f}",
                f"{median(run.greedy_s for run in here):.3f}",
                f"{max(run.greedy_s for run in here):.3f}",
                f"{median(run.evaluations for run in here):,.0f}",
                f"{median(run.naive_evaluations for run in here):,.0f}",
                f"{median(run.certificate_s for run in here):.2f}",
                f"{max(run.certificate_s for run in here):.2f}",
                f"{median(run.solve_s for run in here):.2f}",
                f"{median(run.check_s for run in here):.2f}",
                f"{median(run.gap for run in here):.2%}",
                f"{max(run.gap for run in here):.2%}",
                f"{median(run.headroom_gap for run in here):.1%}",
                f"{max(run.headroom_gap for run in here):.1%}",
            )
        )
    return Table(
        "Thousands of experts: greedy and its certificate",
        (
            "kind, energy",
            "selected",
            "greedy s",
            "worst",
            "evaluations",
            "naive",
            "certificate s",
            "worst",
            "all s",
            "check s",
            "gap",
            "worst",
            "headroom gap",
            "worst",
        ),
        rows,
        "CPU seconds, one thread. Naive: the gains that greedy works out which looks at all "
        "experts before every choice. All: greedy in more than one order, the bound, and swaps, "
        "which the gaps are of; its certificate is then checked in exact arithmetic.",
    )


def growth_table(grown: Sequence[Grown]) -> Table:
    """Return greedy's seconds over the number of experts."""
    rows = []
    for experts in dict.fromkeys(each.experts for each in grown):
        here = [each for each in grown if each.experts == experts]
        rows.append(
            (
                f"{experts:,}",
                f"{median(each.greedy_s for each in here):.3f}",
                f"{median(each.certificate_s for each in here):.2f}",
            )
        )
    note = f"Kind: {_GROWTH_KIND}. Slope of greedy's, log-log: {slope(grown):.2f}."
    return Table(
        "Growth with the number of experts", ("experts", "greedy s", "certificate s"), rows, note
    )


def _run(plan: Large, case: Case) -> LargeRun:
    problem = instance(case.kind, plan.experts, plan.prompts, case.share, case.seed)
    program = formulate(problem)
    greedy_s, picked = timed(lambda: greedy.lazy_greedy(program))
    certificate_s, _ = timed(lambda: _certificate(program, picked.selected))
    solve_s, found = timed(lambda: greedy.solve(program, clock=process_time))
    check_s, refused = timed(lambda: ours.refusal(problem, program, found))
    of_all = value_of(program, np.flatnonzero(program.open))
    where = f"{plan.experts} × {plan.prompts}, {case.kind}, {case.share:.0%}, seed {case.seed}"
    return LargeRun(
        case.kind,
        case.share,
        case.seed,
        selected=len(found.selected),
        greedy_s=greedy_s,
        evaluations=picked.evaluations,
        naive_evaluations=naive_evaluations(program, picked.selected),
        certificate_s=certificate_s,
        solve_s=solve_s,
        check_s=check_s,
        gap=gap(found.objective, found.upper_bound),
        headroom_gap=headroom_gap(found.objective, found.upper_bound, of_all),
        faults=(f"{where}: certificate refused: {refused}",) if refused else (),
    )


def _certificate(program: Program, selected: tuple[int, ...]) -> dual.Bound:
    return dual.minimise(program, selected, value_of(program, selected))
