"""`updraft bench optimizer`: measure everything in one run, on one thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.gate import regret
from updraft.benchmarks.optimizer import contests, equality, large, replanning
from updraft.benchmarks.optimizer.clock import timed
from updraft.benchmarks.optimizer.instances import instance
from updraft.benchmarks.optimizer.plan import CP_SAT, KINDS, Frontiers, Tier, Track
from updraft.benchmarks.optimizer.results import Results, Setting
from updraft.benchmarks.optimizer.rivals import rivals
from updraft.optimizer.frontier import FrontierPoint, frontier
from updraft.optimizer.program import formulate
from updraft.optimizer.solvers import exact, greedy

T = TypeVar("T")

# The energy budget of the instances on which quality over delay is drawn, and the reverse.
_FRONTIER_SHARE = 0.25


def measure(tier: Tier, cp_sat_python: Path | None, console: Console) -> Results:
    """Measure everything that a tier asks for.

    Args:
        cp_sat_python: a Python that has OR-Tools; None: CP-SAT is left out.
    """
    started = perf_counter()
    found = rivals(cp_sat_python)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def track(items: Sequence[T], told: str) -> Iterator[T]:
            task = progress.add_task(told, total=len(items))
            for item in items:
                yield item
                progress.advance(task)

        warm_up_s = _warm_up()
        seeds = range(tier.equality)
        results = Results(
            setting=Setting.here(tier),
            warm_up_s=warm_up_s,
            equality=[equality.compare(seed) for seed in track(seeds, "equal to brute force")],
            heats=[
                heat
                for contest in tier.contests
                for heat in contests.measure(contest, found, track)
            ],
            large=large.measure(tier.large, track),
            growth=large.measure_growth(tier.growth, track),
            replans=replanning.measure(tier.replanning, track),
            gate=[
                row
                for seed in track(range(tier.gate_seeds), "gate")
                for row in regret.measure([seed])
            ],
            frontiers=_frontiers(tier.frontiers, track),
        )
    if CP_SAT not in found:
        results.left_out.append("CP-SAT: `--cp-sat-python` names no Python that has OR-Tools")
    if not tier.gate_seeds:
        results.left_out.append("the gate: it takes another minute; `--tier default` has it")
    results.seconds = perf_counter() - started
    return results


def _warm_up() -> float:
    """Solve something small of each kind; return what it took longer than a second time.

    What is compiled once is compiled before anything is timed.
    """
    programs = [formulate(instance(kind, 20, 500, 0.25, seed=0)) for kind in KINDS]

    def act() -> None:
        for program in programs:
            exact.solve(program)
            greedy.solve(program)

    first_s, _ = timed(act)
    again_s, _ = timed(act)
    return max(0.0, first_s - again_s)


def _frontiers(plan: Frontiers, track: Track[str]) -> list[FrontierPoint]:
    problem = instance(plan.kind, plan.experts, plan.prompts, _FRONTIER_SHARE, seed=0)
    shares = [percent / 100 for percent in plan.percents]
    solvers = {"ours": exact.solve, "greedy": greedy.solve}
    of = partial(frontier, problem, shares=shares, solvers=solvers)
    return [
        point
        for axis in track(["energy", "delay"], "frontiers")
        for point in of(
            axis="energy" if axis == "energy" else "delay",
            time_limit_s=plan.limit_s,
            clock=process_time,
        )
    ]
