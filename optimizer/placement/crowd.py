"""Planning for more nodes than can be looked at one by one: nodes that are alike as one class.

Of a large class as many nodes are on as its work fills, so standby is paid by the second of work:
what is left is to share the traffic out, without a choice of who is on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from updraft.optimizer.placement.assignment import Assignment, assign, prices_of, valued
from updraft.optimizer.placement.demand import Array, Demand, Indices
from updraft.optimizer.placement.prices import Bound, Prices, bound, descend

_CLASSES = 160
_STEPS = 100
_NEAR = 0.03
_AGAIN = 3
# How much a doubling of energy or time counts when nodes are told apart, in quality.
_DOUBLING = 0.3
# What a node leaves of a class's work when that is this little is nothing.
_NOTHING = 1e-9


@dataclass(frozen=True, eq=False)
class Crowd:
    """A plan for many nodes.

    Attributes:
        nodes: that are on, ascending.
        assignment: over those nodes.
        dual: prices, and what no plan is worth more than.
    """

    nodes: Indices
    assignment: Assignment
    dual: Bound


def plan_crowd(demand: Demand, start: Prices) -> Crowd:
    """Share the traffic out over classes of nodes, then over the nodes of each class.

    Args:
        start: prices to begin with; that of energy stays at or above theirs.
    """
    classes = _classes(demand)
    whole = _merged(demand, classes)
    least = start.energy
    dual = descend(whole, start, _STEPS, all_on=True, least_energy=least)
    shared = assign(whole, dual, least_energy=least)
    # From where a routing ended the bound comes lower, and with it the next routing improves.
    for _ in range(_AGAIN):
        again = prices_of(whole, shared)
        lower = descend(whole, again, _STEPS, reach=_NEAR, all_on=True, least_energy=least)
        other = assign(whole, lower, least_energy=least)
        dual = min(dual, lower, key=lambda point: point.value)
        shared = max(shared, other, key=lambda use: use.worth - least * use.power)
    share = np.zeros_like(demand.worth)
    on = np.zeros(demand.nodes, dtype=bool)
    time = np.zeros(demand.nodes)
    power = demand.power
    for members, mix, price in zip(classes, shared.share, shared.time, strict=True):
        time[members] = price
        left = mix
        for n in members[np.argsort(_watts_per_work(demand, members), kind="stable")].tolist():
            work = float(left @ demand.work[n])
            if work <= _NOTHING:
                break
            part = min(1.0, demand.room[n] / work)
            watts = demand.standby[n] + part * float(left @ demand.load_w[n])
            if watts > power:
                continue
            share[n] = part * left
            on[n] = part > 0
            left = (1 - part) * left
            power -= watts
    nodes = np.flatnonzero(on)
    few = demand.among(nodes)
    found = valued(few, share[nodes], shared.energy, time[nodes])
    return Crowd(nodes, found, bound(demand, dual.prices))


def _watts_per_work(demand: Demand, nodes: Indices) -> Array:
    return (demand.joules[nodes] / demand.seconds[nodes]).mean(axis=1) + demand.standby[
        nodes
    ] / np.maximum(demand.room[nodes], _NOTHING)


def _merged(demand: Demand, classes: list[Indices]) -> Demand:
    """Return the classes as nodes that are all on, with standby in the price of each second."""

    def mean(values: Array) -> Array:
        return np.array([values[members].mean(axis=0) for members in classes])

    room = np.array([demand.room[members].sum() for members in classes])
    standby = np.array([demand.standby[members].sum() for members in classes])
    seconds = mean(demand.seconds)
    per_second = standby / np.maximum(room, _NOTHING)
    return replace(
        demand,
        quality=mean(demand.quality),
        worth=mean(demand.worth),
        joules=mean(demand.joules) + per_second[:, None] * seconds,
        seconds=seconds,
        room=room,
        standby=np.zeros(len(classes)),
        copies=np.ones(len(classes)),
    )


def _classes(demand: Demand) -> list[Indices]:
    """Split the nodes where they differ most, again and again, until there are enough classes."""
    rate = demand.rate / demand.rate.sum()
    usual = np.stack(
        [
            demand.joules @ rate
            + demand.standby / np.maximum(demand.room, 1e-9) * (demand.seconds @ rate),
            (demand.seconds @ rate) / np.maximum(demand.room, 1e-9),
        ],
        axis=1,
    )
    kind = np.hstack([demand.worth * np.sqrt(rate), _DOUBLING * np.log2(usual + 1e-12)])
    classes = [np.arange(demand.nodes)]
    spread = [_spread(kind, classes[0])]
    while len(classes) < _CLASSES:
        widest = max(range(len(classes)), key=lambda number: spread[number][0])
        worth_it, column = spread[widest]
        if worth_it <= 0:
            break
        members = classes[widest]
        order = members[np.argsort(kind[members, column], kind="stable")]
        values = kind[order, column]
        # In the widest gap near the middle.
        middle = slice(len(order) // 4, max(3 * len(order) // 4, len(order) // 4 + 1))
        cut = len(order) // 4 + int(np.diff(values)[middle].argmax()) + 1 if len(order) > 2 else 1
        classes[widest], spread[widest] = order[:cut], _spread(kind, order[:cut])
        classes.append(order[cut:])
        spread.append(_spread(kind, order[cut:]))
    return classes


def _spread(kind: Array, members: Indices) -> tuple[float, int]:
    """Return how much nodes differ in the column where they differ most, and that column."""
    if len(members) < 2:
        return 0.0, 0
    variance = kind[members].var(axis=0) * len(members)
    column = int(variance.argmax())
    return float(variance.sum()), column
