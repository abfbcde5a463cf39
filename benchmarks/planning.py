"""Measure the planner: seconds and proved gap by size of the fleet, and quality against rivals.

python benchmarks/planning.py            some minutes
python benchmarks/planning.py --quick    fewer fleets
python benchmarks/planning.py --json     the figures alone, for programs

Writes docs/results/planning.{md,json}, unless --quick. The exit code is 1 when a figure to reach
is missed: 0.7 s for 50 nodes and 2 s for 5,000 by the processor's clock; 97% of the quality of all
nodes at half their energy; no rival better at any budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median
from time import perf_counter, process_time

import numpy as np
from rich.console import Console

from updraft.benchmarks.measures.report import ROOT, commit, machine, terminal, write
from updraft.benchmarks.planning_fleets import EXPERTS, draw_fleet
from updraft.benchmarks.planning_rivals import RIVALS, THRIFT, Best, by_answers, by_price, milp
from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.planner import Planner, PlannerSettings
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic
from updraft.models.card import Table
from updraft.optimizer.gate.gate import Gate, Layer
from updraft.optimizer.placement.demand import Demand
from updraft.optimizer.placement.selecting import choose, evaluate

SIZES = (5, 50, 500, 5000)
LOADS = (0.02, 0.1)
SHARES = (0.15, 0.25, 0.5, 0.75)
GROUPS = 128
FEW, FEW_GROUPS = (5, 8, 12), 48
MOST_S = {50: 0.7, 5000: 2.0}
LEAST_QUALITY, AT_SHARE = 0.97, 0.5
# Routing is a heuristic: rivals that are better by less than this are as good.
_SAME = 0.002
_RESULTS = ROOT / "docs" / "results"
_SETTINGS = PlannerSettings(thrift=THRIFT)


@dataclass(frozen=True)
class Run:
    """One plan for one fleet.

    Attributes:
        share: the budget, of what all nodes take when each prompt goes to the best.
        cpu_s, wall_s: of `Planner.plan`.
        gap: proved, relative to quality.
        all_on: quality with all on; most: what no plan within the budget exceeds.
    """

    nodes: int
    load: float
    share: float
    seed: int
    cpu_s: float
    wall_s: float
    on: int
    quality: float
    answered: float
    gap: float
    all_on: float
    most: float


@dataclass(frozen=True)
class Contest:
    """Ours and others on one fleet: mean quality over all prompts, 0 for one without an answer.

    Attributes:
        worth: quality and 1 for an answer, by who chose; `best` is what HiGHS proved to be best.
    """

    nodes: int
    load: float
    share: float
    seed: int
    worth: dict[str, float]


def main() -> int:
    """Run it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    seeds = range(1) if options.quick else range(3)
    runs = list(measure(SIZES[:3] if options.quick else SIZES, seeds))
    contests = list(contend(seeds))
    failures = [*_too_slow(runs), *_too_poor(runs), *_beaten(contests)]
    document = {
        "commit": commit(),
        "machine": machine(),
        "runs": [asdict(run) for run in runs],
        "contests": [asdict(contest) for contest in contests],
        "failures": failures,
    }
    shown = [size_table(runs), budget_table(runs), rival_table(contests)]
    if options.json:
        json.dump(document, sys.stdout, indent=1)
    else:
        console = Console(width=140)
        for table in shown:
            console.print(terminal(table))
        for failure in failures:
            console.print(f"[red]{failure}")
    if not options.quick:
        text = "\n".join(table.markdown() for table in shown)
        head = (
            f"# Planning\n\n{machine()}, commit {commit()[:12]}; `python benchmarks/planning.py`\n"
        )
        missed = "\n".join(["### Missed", "", *(f"- {failure}" for failure in failures), ""])
        write(_RESULTS / "planning.md", "\n".join([head, text, *([missed] if failures else [])]))
        write(_RESULTS / "planning.json", json.dumps(document, indent=1) + "\n")
    return 1 if failures else 0


def measure(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Run]:
    """Plan for fleets of all sizes, as the coordinator does it."""
    planner = Planner(_gate(), _SETTINGS)
    for size in sizes:
        for load in LOADS:
            for seed in seeds:
                nodes, traffic = draw_fleet(size, GROUPS, load, seed)
                power, quality = all_on(nodes, traffic)
                for share in SHARES:
                    cpu, wall = process_time(), perf_counter()
                    plan = planner.plan(nodes, traffic, FleetBudget(share * power), None, "start")
                    cpu, wall = process_time() - cpu, perf_counter() - wall
                    on, answered = len(plan.selected), plan.spent["answered"]
                    most = _most(nodes, traffic, FleetBudget(share * power))
                    figures = (cpu, wall, on, plan.quality, answered, plan.gap, quality, most)
                    yield Run(size, load, share, seed, *figures)


def contend(seeds: Sequence[int]) -> Iterator[Contest]:
    """Let others choose who is on; all are routed, and held to the budget, in the same way."""
    others = {
        **RIVALS,
        "optimizer, answers": by_answers("exact"),
        "optimizer, price": by_price("exact"),
    }
    for size in FEW:
        for load in LOADS:
            for seed in seeds:
                nodes, traffic = draw_fleet(size, FEW_GROUPS, load, seed)
                power, _ = all_on(nodes, traffic)
                for share in SHARES:
                    demand = _demand(nodes, traffic, FleetBudget(share * power))
                    rng = np.random.default_rng(seed)
                    rate = float(demand.rate.sum())
                    worth = {"ours": choose(demand, thrift=THRIFT).assignment.worth / rate}
                    for name, pick in others.items():
                        found = evaluate(demand, pick(demand, rng), thrift=THRIFT)
                        worth[name] = found.worth / rate
                    best: Best = milp(demand, 20)
                    worth["best"] = best.worth / rate
                    yield Contest(size, load, share, seed, worth)


def all_on(nodes: Sequence[Capability], traffic: Traffic) -> tuple[float, float]:
    """Return power and quality of a fleet that keeps all on and asks the best for each prompt."""
    demand = _demand(nodes, traffic, FleetBudget())
    best = demand.quality.argmax(axis=0)
    groups = np.arange(len(best))
    power = float(demand.standby.sum() + demand.load_w[best, groups].sum())
    quality = float(demand.rate @ demand.quality[best, groups] / demand.rate.sum())
    return power, quality


def size_table(runs: Sequence[Run]) -> Table:
    """Return seconds and gaps by size."""
    rows = []
    for size in dict.fromkeys(run.nodes for run in runs):
        here = [run for run in runs if run.nodes == size]
        gaps = [run.gap for run in here]
        rows.append(
            (
                f"{size:,}",
                f"{median(run.on for run in here):.0f}",
                f"{median(run.cpu_s for run in here):.2f}",
                f"{max(run.cpu_s for run in here):.2f}",
                f"{median(run.wall_s for run in here):.2f}",
                f"{max(run.wall_s for run in here):.2f}",
                f"{median(gaps):.2%}",
                f"{max(gaps):.2%}",
            )
        )
    header = ("nodes", "on", "CPU s", "worst", "wall s", "worst", "proved gap", "worst")
    note = (
        f"{GROUPS} groups of prompts; budgets {_list(SHARES)} of what all on takes; load "
        f"{_list(LOADS)} of all nodes' time. Median and worst. Gap: relative to quality; what is "
        "proved, the true one is smaller. To reach: 0.7 s for 50, 2 s for 5,000."
    )
    return Table("Planning by the size of the fleet", header, rows, note)


def budget_table(runs: Sequence[Run]) -> Table:
    """Return the quality that is kept at each budget."""
    rows = []
    for size in dict.fromkeys(run.nodes for run in runs):
        for load in LOADS:
            here = [run for run in runs if (run.nodes, run.load) == (size, load)]
            kept = [mean(_kept(here, share)) for share in SHARES]
            most = mean(run.most / run.all_on for run in here if run.share == AT_SHARE)
            cells = (*(f"{value:.1%}" for value in kept), f"{min(most, 1):.1%}")
            rows.append((f"{size:,}, load {load:.0%}", *cells))
    return Table(
        "Quality of the plan, of that of all on, by budget",
        (
            "nodes",
            *(f"{share:.0%} of the energy" for share in SHARES),
            f"no plan exceeds, {AT_SHARE:.0%}",
        ),
        rows,
        "All on asks the best expert for each prompt whatever it costs, however busy it is. To "
        f"reach: {LEAST_QUALITY:.0%} at {AT_SHARE:.0%}.",
    )


def rival_table(contests: Sequence[Contest]) -> Table:
    """Return what others lose against the best."""
    names = list(contests[0].worth)[:-1]
    rows = []
    for name in names:
        lost = {
            share: [
                1 - each.worth[name] / each.worth["best"]
                for each in contests
                if each.share == share
            ]
            for share in SHARES
        }
        rows.append((name, *(f"{mean(some):.2%} / {max(some):.2%}" for some in lost.values())))
    return Table(
        "Worth lost against the best selection there is, mean / worst",
        ("who chooses", *(f"{share:.0%} of the energy" for share in SHARES)),
        rows,
        f"{_list(FEW)} nodes, {FEW_GROUPS} groups; the best by HiGHS, proved. Worth: quality, and "
        "1 for an answer. Whoever chooses, the same routing keeps budget and capacity. Optimizer: "
        "exact selection that knows no capacity, with the energy of each answer, or at a price.",
    )


def _kept(runs: Sequence[Run], share: float) -> list[float]:
    return [run.quality / run.all_on for run in runs if run.share == share]


def _too_slow(runs: Sequence[Run]) -> Iterator[str]:
    for size, most_s in MOST_S.items():
        worst = max((run.cpu_s for run in runs if run.nodes == size), default=0.0)
        if worst > most_s:
            yield f"{size} nodes: {worst:.2f} s of CPU at worst, to reach {most_s}"


def _too_poor(runs: Sequence[Run]) -> Iterator[str]:
    for size in dict.fromkeys(run.nodes for run in runs):
        for load in LOADS:
            here = [run for run in runs if (run.nodes, run.load) == (size, load)]
            kept = mean(_kept(here, AT_SHARE))
            most = mean(run.most / run.all_on for run in here if run.share == AT_SHARE)
            if kept < LEAST_QUALITY:
                yield (
                    f"{size} nodes, load {load:.0%}: {kept:.1%} of the quality at half the energy, "
                    f"to reach {LEAST_QUALITY:.0%}; no plan exceeds {most:.1%}"
                )


def _beaten(contests: Sequence[Contest]) -> Iterator[str]:
    for each in contests:
        for name in RIVALS:
            if each.worth[name] > each.worth["ours"] * (1 + _SAME):
                yield (
                    f"{each.nodes} nodes, load {each.load:.0%}, {each.share:.0%}, seed "
                    f"{each.seed}: {name} {each.worth[name]:.4f}, ours {each.worth['ours']:.4f}"
                )


def _most(nodes: Sequence[Capability], traffic: Traffic, budget: FleetBudget) -> float:
    """Return what the mean quality of no plan exceeds: where answers as such are worth nothing."""
    demand = _demand(nodes, traffic, budget, answer_worth=0.0)
    return choose(demand, thrift=THRIFT).upper_bound / float(demand.rate.sum())


def _demand(
    nodes: Sequence[Capability],
    traffic: Traffic,
    budget: FleetBudget,
    answer_worth: float = _SETTINGS.answer_worth,
) -> Demand:
    utilisation = _SETTINGS.utilisation
    return demand_of(nodes, traffic, budget, utilisation=utilisation, answer_worth=answer_worth)


def _gate() -> Gate:
    return Gate(EXPERTS, (Layer(np.zeros((1, len(EXPERTS))), np.zeros(len(EXPERTS))),))


def _list(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.0%}" if share < 1 else f"{share:g}" for share in shares)


if __name__ == "__main__":
    sys.exit(main())
