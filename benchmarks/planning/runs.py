"""Plans for drawn fleets of many sizes, and contests with other ways to choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from updraft.benchmarks.planning.fleets import EXPERTS, draw_fleet
from updraft.benchmarks.planning.rivals import RIVALS, THRIFT, Best, by_answers, by_price, milp
from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.planner import Planner, PlannerSettings
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic
from updraft.optimizer.gate.gate import Gate, Layer
from updraft.optimizer.placement.demand import Demand
from updraft.optimizer.placement.selecting import choose, evaluate

SIZES = (5, 50, 500, 5000)
LOADS = (0.02, 0.1)
SHARES = (0.15, 0.25, 0.5, 0.75)
GROUPS = 128
FEW, FEW_GROUPS = (5, 8, 12), 48
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
