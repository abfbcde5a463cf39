"""Prices of prompts and of energy: who is worth keeping on at them, and a bound for every plan.

For u >= 0 (P,), what an answer to a prompt of each group must be worth, and μ >= 0, per joule,

    D(u, μ) = Σ_p rate_p u_p + μ·power + Σ_n (κ_n(u, μ) − μ·standby_n)⁺,

where κ_n is what node n earns above u with the best use of its time: a fractional knapsack. No plan
that keeps the budgets is worth more than D; `docs/planning.md` proves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.placement.demand import Array, Demand, Indices

# So many steps without headway, as a share of the reach, halve it. Measured on fleets of 5 to
# 50 nodes: 150 steps end .05% above the relaxation, 300 steps .02%.
_PATIENCE = 6
_HEADWAY = 0.02
_LEAST_REACH = 1e-5
# A step that points against the last one bends towards it (Camerini, Fratta and Maffioli 1975).
_BEND = 1.5
_LEAST_W = 1e-12


@dataclass(frozen=True, eq=False)
class Prices:
    """What an answer must bring.

    Attributes:
        prompt: (P,), u: worth of an answer to each group, net of energy.
        energy: μ: worth per joule.
    """

    prompt: Array
    energy: float


class Use(NamedTuple):
    """What nodes do with their time at some prices, each as if it were alone.

    Attributes:
        share: (N, P), of each group that a node answers.
        profit: (N,), what it earns above the prices, standby left out.
        margin: (N,), what the last second of its time earns; 0 where it has time to spare.
    """

    share: Array
    profit: Array
    margin: Array


def best_use(demand: Demand, prices: Prices) -> Use:
    """Return what each node answers when it takes what pays most for its time."""
    gain = demand.worth - prices.energy * demand.joules
    gain -= prices.prompt
    np.maximum(gain, 0, out=gain)
    wanted = gain > 0
    share = wanted.astype(np.float64)
    busy = np.flatnonzero((demand.work * share).sum(axis=1) > demand.room)
    margin = np.zeros(demand.nodes)
    if len(busy):
        pays = gain[busy] / demand.seconds[busy]
        share[busy] = _fill(demand, pays, wanted[busy], busy)
        margin[busy] = np.where(share[busy] < 1, pays, 0).max(axis=1)
    profit = np.einsum("np,np,p->n", share, gain, demand.rate)
    return Use(share, profit, margin)


def _fill(demand: Demand, rate: Array, wanted: NDArray[np.bool_], nodes: Indices) -> Array:
    """Give each of these busy nodes what pays most per second, the last group in part."""
    order = np.argsort(-rate, axis=1)
    work = np.take_along_axis(np.where(wanted, demand.work[nodes], 0.0), order, axis=1)
    before = np.cumsum(work, axis=1) - work
    room = demand.room[nodes, None] - before
    part = np.clip(np.divide(room, work, out=np.zeros_like(work), where=work > 0), 0, 1)
    share = np.empty_like(part)
    np.put_along_axis(share, order, part, axis=1)
    return share


@dataclass(frozen=True, eq=False)
class Bound:
    """A point of the dual.

    Attributes:
        value: no plan is worth more, per second.
        profit: (N,), what a node earns above the prices and its standby.
    """

    prices: Prices
    value: float
    profit: Array


def bound(demand: Demand, prices: Prices) -> Bound:
    """Evaluate a point."""
    use = best_use(demand, prices)
    profit = use.profit - prices.energy * demand.standby
    value = demand.rate @ prices.prompt + prices.energy * demand.power
    value += float(demand.copies @ np.maximum(profit, 0))
    return Bound(prices, float(value), profit)


def descend(
    demand: Demand,
    start: Prices,
    steps: int,
    *,
    reach: float = 0.2,
    all_on: bool = False,
    least_energy: float = 0.0,
    floor: float = 0.0,
) -> Bound:
    """Lower the bound by subgradient steps that aim a little below the best seen so far.

    Args:
        reach: how far below, as a share, at first; it halves when the bound stops falling.
        all_on: bound the plans that keep all of these nodes on.
        least_energy: the price of energy stays at or above it.
        floor: a bound at or below it is low enough.
    """
    u, energy = start.prompt.copy(), max(start.energy, least_energy)
    rate = demand.rate
    # A step of one moves the price of energy as far as it moves all groups' together.
    unit = (
        float(rate @ demand.worth.max(axis=0)) / np.sqrt(rate.sum()) / max(demand.power, _LEAST_W)
    )
    best: Bound | None = None
    stalled = 0
    last_u, last_energy = np.zeros_like(u), 0.0
    for _ in range(steps):
        use = best_use(demand, Prices(u, energy))
        profit = use.profit - energy * demand.standby
        on = demand.copies * ((profit > 0) | all_on)
        value = float(rate @ u + energy * demand.power + on @ profit)
        if best is None or value < best.value:
            ahead = best is None or value < best.value - _HEADWAY * reach * abs(best.value)
            best = Bound(Prices(u.copy(), energy), value, profit)
        else:
            ahead = False
        if best.value <= floor:
            break
        stalled = 0 if ahead else stalled + 1
        if stalled >= _PATIENCE:
            reach, stalled = reach / 2, 0
            if reach < _LEAST_REACH:
                break
        slope_u = 1 - on @ use.share
        answers_w = float(on @ (use.share * demand.load_w).sum(axis=1))
        slope_energy = (demand.power - answers_w - float(on @ demand.standby)) * unit
        # What cannot go further down does not count as a direction.
        slope_u[(u <= 0) & (slope_u > 0)] = 0
        if energy <= least_energy and slope_energy > 0:
            slope_energy = 0.0
        along = float((rate * slope_u) @ last_u) + slope_energy * last_energy
        if along < 0:
            bend = -_BEND * along / (float((rate * last_u) @ last_u) + last_energy**2)
            slope_u = slope_u + bend * last_u
            slope_energy = slope_energy + bend * last_energy
        norm = float((rate * slope_u) @ slope_u) + slope_energy**2
        if norm <= 0:
            break
        move = (value - (1 - reach) * best.value) / norm
        u = np.maximum(u - move * slope_u, 0)
        energy = max(energy - move * slope_energy * unit, least_energy)
        last_u, last_energy = slope_u, slope_energy
    assert best is not None
    return best
