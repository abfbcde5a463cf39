"""Which nodes to keep on: prices, then the sets that the prices leave open, then swaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from updraft.optimizer.placement.assignment import Assignment, assign, prices_of, valued
from updraft.optimizer.placement.crowd import plan_crowd
from updraft.optimizer.placement.demand import Demand, Indices
from updraft.optimizer.placement.prices import Bound, Prices, best_use, descend

# The descent starts at this share of what is worth most to each group.
_START = 0.5
_FAR, _NEAR = 0.2, 0.03
_ROOT_STEPS, _STEPS = 150, 60
# Nodes whose profit is nearest to nothing; all their sets are open.
_OPEN = 12
# Neighbours of a set: from so many nodes that may go, and so many that may come.
_SWAPPED = 12
# More nodes than this are planned for as a crowd. Where that keeps few on, those are looked at
# closely, with so many beside them.
_CLOSELY = 64
_FEW_ON = 96
_BESIDE = 48
# What all looks at sets may pass over, in numbers, and what a step costs however small it is.
_LOOKED_AT = 4_000_000
_STEP_COSTS = 1_500
_LEAST_LOOKS = 8
# Below this share a difference in worth is none.
_SAME = 1e-5
# Up to so many pairs of a node and a group, sets differ much and looks are cheap: who seems to win
# is looked at again, and routings are tried at several discounts, as many pairs are worth the same.
_FEW = 512
_DISCOUNTS = (0.3, 0.02, 0.005, 0.005)
_USUAL_DISCOUNTS = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Choice:
    """Nodes to keep on, and how they share the traffic.

    Attributes:
        nodes: their places, ascending.
        assignment: over those nodes.
        upper_bound: no choice that keeps the budgets is worth more, per second.
    """

    nodes: Indices
    assignment: Assignment
    upper_bound: float


class _Point(NamedTuple):
    """A set of nodes with a bound on what it is worth, which is close to its worth."""

    nodes: Indices
    dual: Bound

    @property
    def worth(self) -> float:
        return self.dual.value


def choose(demand: Demand, *, thrift: float) -> Choice:
    """Choose the nodes that are worth most within the power.

    Args:
        thrift: share of the quality that may be given up for energy where energy is no limit.
    """
    least = _least_energy(demand, thrift)
    usable = np.flatnonzero((demand.standby <= demand.power) & demand.worth.any(axis=1))
    if not len(usable):
        return Choice(usable, _nobody(demand), 0.0)
    among = demand.among(usable)
    start = _start(among, least)
    if len(usable) <= _CLOSELY:
        best = _closely(among, descend(among, start, _ROOT_STEPS, least_energy=least), least)
    else:
        best = _of_crowd(among, start, least)
    # Nobody does more than answer each prompt by who is best at it.
    most = float(demand.rate @ among.worth.max(axis=0))
    return Choice(usable[best.nodes], best.assignment, min(best.upper_bound, most))


def evaluate(demand: Demand, nodes: Indices, *, thrift: float) -> Assignment:
    """Return the best use that is found of a set of nodes whose standby keeps the power."""
    if not len(nodes):
        return _nobody(demand)
    least = _least_energy(demand, thrift)
    few = demand.among(nodes)
    dual = descend(few, _start(few, least), _ROOT_STEPS, all_on=True, least_energy=least)
    return _settled(few, dual, least)


def _closely(demand: Demand, root: Bound, least: float, known: Indices | None = None) -> Choice:
    """Look at single sets, beginning with one by the prices, or a better one that is known."""
    starts = [_take_in_turn(demand, root)] + ([] if known is None else [known])
    firsts = [_value(demand, nodes, root.prices, least, _ROOT_STEPS, _FAR) for nodes in starts]
    first = max(firsts, key=lambda point: point.worth)
    size = len(first.nodes) * len(demand.rate) + _STEP_COSTS
    looks = max(_LEAST_LOOKS, _LOOKED_AT // (_STEPS * size))
    point, upper_bound, looks = _enumerate(demand, first, root, least, looks)
    point = _improve(demand, point, least, max(looks, _LEAST_LOOKS))
    nodes, use = _undominated(demand, point.nodes), None
    while len(nodes):
        if use is not None or (nodes != point.nodes).any():
            point = _value(demand, nodes, point.dual.prices, least)
        use = _settled(demand.among(nodes), point.dual, least)
        busy = (use.share > 0).any(axis=1)
        if busy.all():
            break
        nodes = _undominated(demand, nodes[busy])
    if use is None or not len(nodes):
        nodes, use = nodes[:0], _nobody(demand)
    nodes, use = _relieved(demand, nodes, use)
    return Choice(nodes, use, max(upper_bound, point.worth, use.worth))


def _of_crowd(demand: Demand, start: Prices, least: float) -> Choice:
    """Plan by classes, then look closely at who is on and at those beside them, if few are on."""
    crowd = plan_crowd(demand, start)
    best = Choice(crowd.nodes, crowd.assignment, crowd.dual.value)
    if 0 < len(crowd.nodes) <= _FEW_ON:
        profit = crowd.dual.profit.copy()
        profit[crowd.nodes] = np.inf
        near = np.argsort(-profit, kind="stable")[: len(crowd.nodes) + _BESIDE]
        near = np.sort(near)
        few = demand.among(near)
        root = descend(few, crowd.dual.prices, _STEPS, reach=_NEAR, least_energy=least)
        found = _closely(few, root, least, np.searchsorted(near, crowd.nodes))
        if found.assignment.worth > best.assignment.worth:
            best = Choice(near[found.nodes], found.assignment, best.upper_bound)
    return best


def _settled(demand: Demand, dual: Bound, least: float) -> Assignment:
    """Route by prices, and again by the better ones that each routing leads to."""
    found: list[Assignment] = []
    discounts = _DISCOUNTS if demand.worth.size <= _FEW else _USUAL_DISCOUNTS
    for discount in discounts:
        if found:
            again = prices_of(demand, found[-1])
            dual = descend(demand, again, _STEPS, reach=_NEAR, all_on=True, least_energy=least)
        found.append(assign(demand, dual, least_energy=least, discount=discount))
    return max(found, key=lambda use: use.worth - least * use.power)


def _start(demand: Demand, least: float) -> Prices:
    return Prices(_START * demand.worth.max(axis=0), least)


def _nobody(demand: Demand) -> Assignment:
    nobody = demand.among(np.zeros(0, dtype=np.intp))
    return valued(nobody, np.zeros((0, len(demand.rate))), 0.0, np.zeros(0))


def _least_energy(demand: Demand, thrift: float) -> float:
    """The price of energy at which all that could be drawn costs `thrift` of the quality."""
    most_w = float(demand.standby.sum() + demand.load_w.max(axis=0).sum())
    best = float((demand.rate * demand.quality.max(axis=0)).sum())
    return thrift * best / max(most_w, 1e-12)


def _take_in_turn(demand: Demand, root: Bound) -> Indices:
    """Let the nodes take traffic in turn, the most profitable first, while there is power."""
    prices = root.prices
    net = demand.worth - prices.energy * demand.joules
    pays = np.maximum(net - prices.prompt, 0) / demand.seconds
    left = np.ones(len(demand.rate))
    power = demand.power
    chosen = []
    for n in np.argsort(-root.profit / np.maximum(demand.room, 1e-12), kind="stable").tolist():
        wanted = np.flatnonzero((pays[n] > 0) & (left > 0))
        order = wanted[np.argsort(-pays[n, wanted], kind="stable")]
        work = demand.work[n, order] * left[order]
        before = np.cumsum(work) - work
        taken = left[order] * np.clip((demand.room[n] - before) / work, 0, 1)
        watts = demand.standby[n] + float(taken @ demand.load_w[n, order])
        earned = float((taken * demand.rate[order]) @ net[n, order])
        if watts <= power and earned > prices.energy * demand.standby[n]:
            chosen.append(n)
            left[order] = np.where(taken < left[order], left[order] - taken, 0)
            power -= watts
    if not chosen:
        chosen = [int(root.profit.argmax())]
    return np.sort(np.array(chosen, dtype=np.intp))


def _value(
    demand: Demand,
    nodes: Indices,
    start: Prices,
    least: float,
    steps: int = _STEPS,
    reach: float = _NEAR,
    floor: float = 0.0,
) -> _Point:
    dual = descend(
        demand.among(nodes),
        start,
        steps,
        reach=reach,
        all_on=True,
        least_energy=least,
        floor=floor,
    )
    return _Point(nodes, dual)


def _challenge(demand: Demand, nodes: Indices, start: Prices, least: float, worth: float) -> _Point:
    """Value a set only as far as it takes to see that it is worth no more than the best.

    A bound that has not come down yet looks like worth, so who seems to win is looked at again,
    with the long steps that the first set had.
    """
    seen = _value(demand, nodes, start, least, floor=worth)
    if seen.worth > worth and len(nodes) * len(demand.rate) <= _FEW:
        seen = _value(demand, nodes, seen.dual.prices, least, _STEPS, _FAR, worth)
    return seen


def _enumerate(
    demand: Demand, best: _Point, root: Bound, least: float, looks: int
) -> tuple[_Point, float, int]:
    """Look at the sets that the prices leave open, the most hopeful first.

    A set is worth no more than the root's bound less the profits that it gives up. Nodes with
    profits far from nothing stay as they are; a set that has one of them otherwise gives that
    one's profit up.

    Returns:
        The best set, what no set at all is worth more than, and the looks that are left.
    """
    doubt = np.abs(root.profit)
    order = np.argsort(doubt, kind="stable")
    open_, settled = order[:_OPEN], order[_OPEN:]
    base = root.profit > 0
    bits = (np.arange(1 << len(open_))[:, None] >> np.arange(len(open_))) & 1 == 1
    hope = root.value - (bits != base[open_]) @ doubt[open_]
    always = settled[base[settled]]
    standby = float(demand.standby[always].sum()) + bits @ demand.standby[open_]
    fits = (standby <= demand.power) & (bits.any(axis=1) | (len(always) > 0))
    elsewhere = root.value - float(doubt[settled].min(initial=np.inf))
    highest = best.worth
    places = np.flatnonzero(fits)
    for place in places[np.argsort(-hope[places], kind="stable")].tolist():
        if hope[place] <= best.worth:
            break
        if looks <= 0:
            return best, max(elsewhere, highest, float(hope[place])), 0
        looks -= 1
        nodes = np.sort(np.concatenate([always, open_[bits[place]]]))
        seen = _challenge(demand, nodes, root.prices, least, best.worth)
        highest = max(highest, seen.worth)
        if seen.worth > best.worth:
            best = seen
    return best, max(elsewhere, highest), looks


def _improve(demand: Demand, point: _Point, least: float, looks: int) -> _Point:
    """Add, drop or swap nodes while that is worth more, the most promising first."""
    while True:
        better = None
        least_worth = point.worth * (1 + _SAME)
        for nodes, hope in _neighbours(demand, point):
            if hope <= least_worth or looks <= 0:
                return point
            looks -= 1
            seen = _challenge(demand, nodes, point.dual.prices, least, least_worth)
            if seen.worth > least_worth:
                better = seen
                break
        if better is None:
            return point
        point = better


def _undominated(demand: Demand, nodes: Indices) -> Indices:
    """Replace nodes by others that do all that they do, as well or better, for no more."""
    on = np.zeros(demand.nodes, dtype=bool)
    on[nodes] = True
    for n in nodes.tolist():
        better = (
            ~on
            & (demand.standby <= demand.standby[n])
            & (demand.room >= demand.room[n])
            & (demand.worth >= demand.worth[n]).all(axis=1)
            & (demand.joules <= demand.joules[n]).all(axis=1)
            & (demand.seconds <= demand.seconds[n]).all(axis=1)
        )
        better &= (demand.standby < demand.standby[n]) | (demand.joules < demand.joules[n]).any(
            axis=1
        )
        if better.any():
            rank = np.where(better, demand.standby + demand.load_w.sum(axis=1), np.inf)
            on[n], on[rank.argmin()] = False, True
    return np.flatnonzero(on)


def _relieved(demand: Demand, nodes: Indices, use: Assignment) -> tuple[Indices, Assignment]:
    """Hand what a node does to one that is off and does just this as well for less energy.

    Bounds come down to a few 1e-5, so they do not tell such two apart.
    """
    nodes = nodes.copy()
    on = np.zeros(demand.nodes, dtype=bool)
    on[nodes] = True
    for place, n in enumerate(nodes.tolist()):
        done = use.share[place]
        busy = done > 0
        watts = demand.standby + demand.load_w @ done
        able = (
            ~on
            & (demand.work @ done <= demand.room)
            & (demand.worth[:, busy] >= demand.worth[n, busy]).all(axis=1)
            & (watts < watts[n])
        )
        if able.any():
            into = int(np.where(able, watts, np.inf).argmin())
            on[n], on[into], nodes[place] = False, True, into
    order = np.argsort(nodes)
    nodes = nodes[order]
    found = valued(demand.among(nodes), use.share[order], use.energy, use.time[order])
    return nodes, found


def _neighbours(demand: Demand, point: _Point) -> list[tuple[Indices, float]]:
    """Return sets one node or one swap away, with bounds on their worth, the highest first.

    At this set's prices, who comes adds no more than its profit, and who goes takes its own along.
    """
    prices, nodes = point.dual.prices, point.nodes
    profit = best_use(demand, prices).profit - prices.energy * demand.standby
    outside = np.setdiff1d(np.arange(demand.nodes), nodes)
    goes = nodes[np.argsort(profit[nodes], kind="stable")][:_SWAPPED]
    comes = outside[np.argsort(-profit[outside], kind="stable")][:_SWAPPED]
    spare = demand.power - float(demand.standby[nodes].sum())
    found = []
    for out in (None, *goes.tolist()):
        rest = nodes if out is None else nodes[nodes != out]
        free, lost = (0.0, 0.0) if out is None else (demand.standby[out], profit[out])
        if len(rest) and out is not None:
            found.append((rest, float(point.worth - lost)))
        for into in comes.tolist():
            if demand.standby[into] <= spare + free:
                both = np.sort(np.append(rest, into))
                found.append((both, float(point.worth - lost + profit[into])))
    return sorted(found, key=lambda pair: -pair[1])
