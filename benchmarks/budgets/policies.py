"""Rivals of the planner: simpler ways to say which nodes are on under the same budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.live import Planning
from updraft.cloud.fleet.planner import Planner, PlannerSettings
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.traffic import Traffic
from updraft.optimizer.gate.gate import Gate
from updraft.optimizer.placement.demand import Demand

# Nodes in the order in which a rival takes them, as far as the budget goes.
Order = Callable[[Demand], Iterable[int]]

OURS = "updraft"

# A node that makes others' answers cheaper may add less than nothing.
_LEAST_W = 1e-9


@dataclass(frozen=True)
class Rival:
    """Takes nodes in some order while the expected draw keeps the budget of power.

    Prompts go to the best node that is on; energy has no price.

    Attributes:
        settings: what ours is told too: the traffic to expect before any has come.
    """

    settings: PlannerSettings
    order: Order
    most_nodes: int | None = None
    keeps_budget: bool = True

    def plan(
        self,
        nodes: Sequence[Capability],
        traffic: Traffic,
        budget: FleetBudget,
        previous: Plan | None,
        cause: str,
    ) -> Plan:
        started = perf_counter()
        nodes = sorted(nodes, key=lambda node: node.node)
        if not nodes:
            return Plan((previous.version if previous else 0) + 1, frozenset(), reason=cause)
        if traffic.rate_per_s <= 0:
            traffic = Traffic.expected(
                nodes,
                rate_per_s=self.settings.rate_per_s,
                prompt_tokens=self.settings.prompt_tokens,
                new_tokens=self.settings.new_tokens,
            )
        demand = demand_of(
            nodes, traffic, budget, utilisation=self.settings.utilisation, answer_worth=0.0
        )
        chosen: list[int] = []
        for node in self.order(demand):
            if len(chosen) == self.most_nodes:
                break
            if not self.keeps_budget or power_w(demand, [*chosen, node]) <= demand.power:
                chosen.append(node)
        return Plan(
            version=(previous.version if previous else 0) + 1,
            selected=frozenset(nodes[number].node for number in chosen),
            power_w=power_w(demand, chosen),
            quality=quality(demand, chosen),
            reason=cause,
            seconds=perf_counter() - started,
        )


def power_w(demand: Demand, chosen: Sequence[int]) -> float:
    """Return what some nodes are expected to draw, each prompt answered by the best of them."""
    if not chosen:
        return 0.0
    best = demand.quality[chosen].argmax(axis=0)
    answers = demand.load_w[chosen][best, np.arange(len(best))].sum()
    return float(demand.standby[chosen].sum() + answers)


def quality(demand: Demand, chosen: Sequence[int]) -> float:
    """Return the expected mean quality of the answers of some nodes."""
    if not chosen:
        return 0.0
    return float(demand.quality[chosen].max(axis=0) @ demand.rate / demand.rate.sum())


def planning(policy: str, settings: PlannerSettings, gate: Gate, seed: int) -> Planning:
    """Return a planner by its name; `seed` is that of the random one."""
    rivals = {
        "greedy": Rival(settings, _greedy),
        "top-k": Rival(settings, _by_quality),
        "best single": Rival(settings, _by_quality, most_nodes=1),
        "random": Rival(settings, partial(_by_chance, seed)),
        "all on": Rival(settings, lambda demand: range(demand.nodes), keeps_budget=False),
    }
    return Planner(gate, settings) if policy == OURS else rivals[policy]


def _by_chance(seed: int, demand: Demand) -> Iterable[int]:
    return np.random.default_rng(seed).permutation(demand.nodes)


def _by_quality(demand: Demand) -> Iterable[int]:
    """The best over all prompts first, the cheaper of equals."""
    mean = np.round(demand.quality @ demand.rate, 9)
    return np.lexsort((demand.standby, -mean))


def _greedy(demand: Demand) -> Iterable[int]:
    """Whoever adds most quality per watt to those taken so far, of those that still fit."""
    chosen: list[int] = []
    while True:
        now_w, now = power_w(demand, chosen), quality(demand, chosen)
        gain_per_w = {}
        for node in set(range(demand.nodes)) - set(chosen):
            more_w = power_w(demand, [*chosen, node])
            gain = quality(demand, [*chosen, node]) - now
            if more_w <= demand.power and gain > 0:
                gain_per_w[node] = gain / max(_LEAST_W, more_w - now_w)
        if not gain_per_w:
            return
        chosen.append(max(gain_per_w, key=lambda node: (gain_per_w[node], -node)))
        yield chosen[-1]
