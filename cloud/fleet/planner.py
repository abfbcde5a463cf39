"""The planner: from nodes, traffic and budget to who is on, at which price of energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.drift import FIRST_PROMPTS
from updraft.cloud.fleet.hysteresis import Hysteresis
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.traffic import Traffic
from updraft.optimizer.gate.gate import Gate
from updraft.optimizer.placement.assignment import Assignment
from updraft.optimizer.placement.demand import Demand, Indices
from updraft.optimizer.placement.selecting import choose, evaluate

# Within these a budget counts as used up, and all prompts as answered.
_USED = 0.98
_ALL = 0.995
# Prices that moved less, relative to the larger, are the same.
_SAME_PRICE = 0.1
_NAMED = 3


@dataclass(frozen=True)
class PlannerSettings:
    """How plans are made.

    Attributes:
        utilisation: share of its time that a node may be planned to work; the rest takes up
            prompts that come at the same time.
        answer_worth: what any answer is worth, in quality, however good it is. At 1 no prompt
            goes without one for a gain that is less than a perfect answer's.
        thrift: share of the quality that may be given up for energy where energy is no limit.
        rate_per_s, prompt_tokens, new_tokens: what to plan for before any prompt has come.
        prompts: with fewer of them this expectation still counts, the more the fewer.
        hysteresis: when another selection is worth the change.
    """

    utilisation: float = 0.8
    answer_worth: float = 1.0
    thrift: float = 0.001
    rate_per_s: float = 0.1
    prompt_tokens: float = 128
    new_tokens: float = 64
    prompts: float = FIRST_PROMPTS
    hysteresis: Hysteresis = field(default_factory=Hysteresis)


@dataclass(frozen=True, eq=False)
class _Decision:
    selected: Indices
    use: Assignment
    upper_bound: float
    words: str


class Planner:
    """Makes plans; it keeps nothing between them.

    Args:
        clock: times the planning itself, nothing else.
    """

    def __init__(
        self,
        gate: Gate,
        settings: PlannerSettings | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._known = frozenset(gate.experts)
        self._settings = settings or PlannerSettings()
        self._clock = clock

    def plan(
        self,
        nodes: Sequence[Capability],
        traffic: Traffic,
        budget: FleetBudget,
        previous: Plan | None,
        cause: str,
    ) -> Plan:
        """Return the plan to follow from now on: `previous` itself where nothing should change.

        The selection changes only when another one is better by a margin after the cost of
        switching, or when nodes of it are gone or its standby alone takes too much.

        Args:
            nodes: those that may work: not dead, not exhausted.
            cause: why planning is done, in words; see `drift.cause`.
        """
        started = self._clock()
        nodes = sorted(nodes, key=lambda node: node.node)
        if not nodes:
            reason = f"{cause}; no node is in the fleet"
            return Plan(_next(previous), frozenset(), reason=reason)
        demand = self._demand(nodes, traffic, budget)
        decision = self._decide(nodes, demand, previous)
        selected, use = decision.selected, decision.use
        reasons = [cause, decision.words, *self._limits(nodes, demand, selected, use)]
        standby_w = float(demand.standby[selected].sum())
        missed = max(decision.upper_bound - use.worth, 0.0)
        found = Plan(
            version=_next(previous),
            selected=frozenset(nodes[n].node for n in selected.tolist()),
            quality_per_j=use.energy,
            power_w=use.power,
            quality=use.quality / float(demand.rate.sum()),
            reason="; ".join(reason for reason in reasons if reason),
            gap=missed / use.quality if use.quality > 0 else 0.0,
            seconds=self._clock() - started,
            spent={
                "standby_w": standby_w,
                "answers_w": use.power - standby_w,
                "answered": _answered(demand, use),
            },
            quality_per_s={
                nodes[n].node: float(price)
                for n, price in zip(selected.tolist(), use.time.tolist(), strict=True)
                if price > 0
            },
        )
        return previous if previous is not None and _same(previous, found) else found

    def _demand(self, nodes: Sequence[Capability], traffic: Traffic, budget: FleetBudget) -> Demand:
        settings = self._settings
        unknown = 1.0 if traffic.rate_per_s <= 0 else 1 - traffic.prompts / settings.prompts
        if unknown > 0:
            expected = Traffic.expected(
                nodes,
                rate_per_s=settings.rate_per_s,
                prompt_tokens=settings.prompt_tokens,
                new_tokens=settings.new_tokens,
                experts=traffic.experts,
            )
            traffic = expected if unknown == 1 else traffic.mixed(expected, unknown)
        return demand_of(
            nodes,
            traffic,
            budget,
            utilisation=settings.utilisation,
            answer_worth=settings.answer_worth,
        )

    def _decide(
        self, nodes: Sequence[Capability], demand: Demand, previous: Plan | None
    ) -> _Decision:
        """Choose anew, and stay with what is on unless that is worth the change."""
        settings = self._settings
        chosen = choose(demand, thrift=settings.thrift)
        new = _Decision(chosen.nodes, chosen.assignment, chosen.upper_bound, "")
        before = frozenset[str]() if previous is None else previous.selected
        old = np.array([n for n, node in enumerate(nodes) if node.node in before], dtype=np.intp)
        if not len(old) or demand.standby[old].sum() > demand.power:
            return new
        kept = evaluate(demand, old, thrift=settings.thrift)
        why = settings.hysteresis.why_change(demand, (new.selected, new.use), (old, kept))
        if why:
            return replace(new, words=why)
        if np.array_equal(new.selected, old) and new.use.worth >= kept.worth:
            kept = new.use
        upper_bound = max(new.upper_bound, kept.worth)
        return _Decision(old, kept, upper_bound, "the selection is kept")

    def _limits(
        self, nodes: Sequence[Capability], demand: Demand, selected: Indices, use: Assignment
    ) -> list[str]:
        """Say what keeps the plan from being better."""
        if not len(selected):
            return ["no node can serve within the budget"]
        words: list[str] = []
        answered = _answered(demand, use)
        if use.power >= _USED * demand.power and use.energy > 0:
            words.append("energy limits the selection")
        load = (use.share * demand.among(selected).work).sum(axis=1)
        full = load >= _USED * demand.room[selected]
        if full.all():
            words.append("all nodes that are on have all the work that they can do")
        if answered < _ALL:
            words.append(f"{answered:.0%} of the prompts can be answered in time")
        unknown = sorted({node.expert for node in nodes} - self._known)
        if unknown:
            shown = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
            words.append(f"the gate does not know {shown}: judged by the records")
        return words or ["no other node would add anything"]


def _answered(demand: Demand, use: Assignment) -> float:
    return float((use.share.sum(axis=0) * demand.rate).sum() / demand.rate.sum())


def _next(previous: Plan | None) -> int:
    return 1 if previous is None else previous.version + 1


def _same(before: Plan, now: Plan) -> bool:
    """Whether whoever follows one plan need not hear of the other."""
    return (
        before.selected == now.selected
        and _near(before.quality_per_j, now.quality_per_j)
        and _near(before.quality, now.quality)
        and _near(before.power_w, now.power_w)
        and _alike(before.quality_per_s, now.quality_per_s)
    )


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME_PRICE * max(a, b)


def _alike(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and all(_near(a[name], b[name]) for name in a)
