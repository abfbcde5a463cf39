"""Who answers how much of each group, within every node's time and the power of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from updraft.optimizer.placement.demand import Array, Demand
from updraft.optimizer.placement.prices import Bound, Prices, best_use

# Work that is smaller than this share of a group is none.
_NOTHING = 1e-9
_ROUNDING = 1e-10
_BISECTIONS = 10
_SPENT = 0.9995
_SMALL = 1e-6
_ROUNDS = 200


@dataclass(frozen=True, eq=False)
class Assignment:
    """A routing of the traffic over nodes that are all on.

    Attributes:
        share: (N, P), of each group that a node answers.
        energy: price of a joule that it follows, in worth.
        time: (N,), price of a second of each node.
        worth, quality: per second.
        power: of answers and standby, in watts.
    """

    share: Array
    energy: float
    time: Array
    worth: float
    quality: float
    power: float


def assign(
    demand: Demand, dual: Bound, *, least_energy: float = 0.0, discount: float = 0.0
) -> Assignment:
    """Route by prices, at the least price of energy that keeps the power.

    Where one price takes a little too much and the next too little, both routings are mixed.

    Args:
        dual: prices at which all these nodes are on.
        least_energy: the price of energy stays at or above it.
        discount: share of the price of time that groups are spared. At the best prices a node
            whose time is short is worth the same to a group as one with time to spare, and
            must be asked first: what it refuses comes to the other, and not the other way round.
    """
    time = (1 - discount) * best_use(demand, dual.prices).margin

    def routed(energy: float) -> Assignment:
        return _routed(demand, energy, time, dual.prices.prompt)

    # Standby alone may be the whole power, but for a rounding.
    most = demand.power * (1 + _ROUNDING)
    lavish = routed(least_energy)
    if lavish.power <= most:
        return lavish
    low, high = least_energy, max(dual.prices.energy, least_energy)
    step = max(high, _SMALL * float(demand.worth.max()) / float(demand.joules.max()))
    thrifty = routed(high)
    while thrifty.power > most:
        low, lavish = high, thrifty
        high, step = high + step, 2 * step
        thrifty = routed(high)
    for _ in range(_BISECTIONS):
        if thrifty.power >= _SPENT * demand.power:
            break
        middle = (low + high) / 2
        found = routed(middle)
        if found.power <= most:
            high, thrifty = middle, found
        else:
            low, lavish = middle, found
    part = max(demand.power - thrifty.power, 0) / (lavish.power - thrifty.power)
    share = (1 - part) * thrifty.share + part * lavish.share
    return valued(demand, share, high, time)


def prices_of(demand: Demand, use: Assignment) -> Prices:
    """Return the prices that a routing follows, a good place to lower the bound from."""
    net = demand.worth - use.energy * demand.joules - use.time[:, None] * demand.seconds
    return Prices(np.maximum(net.max(axis=0), 0), use.energy)


def _routed(demand: Demand, energy: float, time: Array, prompt: Array) -> Assignment:
    """Let groups ask the nodes that suit them best, and nodes keep what pays most for their time.

    Whoever is refused asks the next node, until all are placed or nobody has time left.
    """
    net = demand.worth - energy * demand.joules
    score = net - time[:, None] * demand.seconds
    # By group, so that those that were refused can look on their own.
    asked = np.where(net > 0, score, -np.inf).T.copy()
    pays = (net - prompt) / demand.seconds
    share = np.zeros_like(net)
    groups = np.arange(net.shape[1])
    left = np.ones(net.shape[1])
    best = asked.argmax(axis=1)
    for _ in range(_ROUNDS):
        refused = groups[(left > _NOTHING) & (asked[groups, best] == -np.inf)]
        best[refused] = asked[refused].argmax(axis=1)
        going = (left > _NOTHING) & (asked[groups, best] > -np.inf)
        if not going.any():
            break
        share[best[going], groups[going]] += left[going]
        left[going] = 0
        busy = np.unique(best[going])
        load = (share[busy] * demand.work[busy]).sum(axis=1)
        over = busy[load > demand.room[busy] * (1 + _NOTHING)]
        order = np.argsort(-np.where(share[over] > 0, pays[over], -np.inf), axis=1)
        held = np.take_along_axis(share[over], order, axis=1)
        work = held * np.take_along_axis(demand.work[over], order, axis=1)
        before = np.cumsum(work, axis=1) - work
        room = demand.room[over, None] - before
        part = np.clip(np.divide(room, work, out=np.ones_like(work), where=work > 0), 0, 1)
        kept = np.empty_like(held)
        np.put_along_axis(kept, order, held * part, axis=1)
        lost = share[over] - kept
        row, group = np.nonzero(lost > 0)
        asked[group, over[row]] = -np.inf
        share[over] = kept
        left += lost.sum(axis=0)
    return valued(demand, share, energy, time)


def valued(demand: Demand, share: Array, energy: float, time: Array) -> Assignment:
    """Return what a routing is worth and takes."""
    each = demand.rate * share
    return Assignment(
        share,
        energy,
        time,
        float((each * demand.worth).sum()),
        float((each * demand.quality).sum()),
        float((each * demand.joules).sum() + demand.standby.sum()),
    )
