"""Who answers how much: what routing at prices must fulfil, and the plain rule that it follows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.placement.assignment import _routed, assign
from updraft.optimizer.placement.demand import Demand
from updraft.optimizer.placement.prices import Prices, descend

SMALL = 1e-6


@st.composite
def routings(draw):
    """Nodes, groups and prices of any proportion; some nodes cannot serve some groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes, groups = draw(st.integers(1, 7)), draw(st.integers(1, 9))
    room = draw(st.sampled_from([0.1, 1.0, 10.0])) * rng.uniform(0.2, 2, nodes)
    quality = rng.uniform(0, 1, (nodes, groups))
    worth = np.where(rng.random((nodes, groups)) < 0.15, 0.0, 1 + quality)
    joules = rng.uniform(0.1, 3, (nodes, groups))
    seconds = rng.uniform(0.1, 3, (nodes, groups))
    rate, standby = rng.uniform(0.1, 2, groups), rng.uniform(0, 1, nodes)
    power = float(standby.sum()) + draw(st.sampled_from([0.1, 1.0, 100.0]))
    each = np.ones(nodes)
    demand = Demand(rate, quality, worth, joules, seconds, room, standby, power, each)
    energy = draw(st.sampled_from([0.0, 0.3, 1.0]))
    time = rng.uniform(0, 1, nodes) * draw(st.sampled_from([0.0, 1.0]))
    return demand, energy, time, rng.uniform(0, 0.5, groups)


def plainly(demand, energy, time, prompt):
    """Route as the rule is told: one refusal after another, in no hurry."""
    net = demand.worth - energy * demand.joules
    score = net - time[:, None] * demand.seconds
    pays = (net - prompt) / demand.seconds
    nodes, groups = net.shape
    share, refused = np.zeros((nodes, groups)), net <= 0
    while True:
        asking = [
            (p, 1 - share[:, p].sum())
            for p in range(groups)
            if 1 - share[:, p].sum() > 1e-9 and not refused[:, p].all()
        ]
        if not asking:
            return share
        for p, left in asking:
            share[np.where(refused[:, p], -np.inf, score[:, p]).argmax(), p] += left
        for n in range(nodes):
            room = demand.room[n]
            if share[n] @ demand.work[n] <= room * (1 + 1e-9):
                continue
            for p in sorted(np.flatnonzero(share[n]), key=lambda p: -pays[n, p]):
                kept = min(share[n, p], max(room, 0.0) / demand.work[n, p])
                room -= kept * demand.work[n, p]
                refused[n, p] |= kept < share[n, p]
                share[n, p] = kept


@settings(max_examples=200)
@given(routings())
def test_routing_follows_the_plain_rule(drawn):
    demand, energy, time, prompt = drawn
    found = _routed(demand, energy, time, prompt)
    assert found.share == pytest.approx(plainly(demand, energy, time, prompt), abs=SMALL)


@settings(max_examples=200)
@given(routings())
def test_nobody_is_refused_for_one_who_pays_less(drawn):
    """A group that a better node does not serve in full finds it full of those who pay it more."""
    demand, energy, time, prompt = drawn
    share = _routed(demand, energy, time, prompt).share
    net = demand.worth - energy * demand.joules
    score, pays = net - time[:, None] * demand.seconds, (net - prompt) / demand.seconds
    used = (share * demand.work).sum(axis=1)
    assert (used <= demand.room * (1 + SMALL)).all()
    assert (share.sum(axis=0) <= 1 + SMALL).all()
    for n, p in np.argwhere(net > 0):
        worse_off = 1 - share[score[:, p] >= score[n, p], p].sum()
        if worse_off > SMALL:
            assert used[n] == pytest.approx(demand.room[n], rel=SMALL)
            assert (pays[n, share[n] > SMALL] >= pays[n, p] - SMALL).all()


@settings(max_examples=100)
@given(routings(), st.sampled_from([0.0, 0.02, 0.3]))
def test_an_assignment_keeps_the_power_and_the_time(drawn, discount):
    demand, _, _, prompt = drawn
    dual = descend(demand, Prices(prompt, 0.0), 60, all_on=True)
    found = assign(demand, dual, discount=discount)
    assert found.power <= demand.power * (1 + SMALL)
    assert ((found.share * demand.work).sum(axis=1) <= demand.room * (1 + SMALL)).all()
    assert (found.share.sum(axis=0) <= 1 + SMALL).all()
    assert found.worth <= dual.value * (1 + SMALL)


def test_nodes_of_equal_worth_fill_the_one_whose_time_is_short():
    """Where power is short, the thrifty node works all it can, and the other does the rest."""
    one = np.ones((2, 1))
    demand = Demand(
        rate=np.array([1.0]),
        quality=one,
        worth=2 * one,
        joules=np.array([[10.0], [20.0]]),
        seconds=one,
        room=np.array([0.3, 5.0]),
        standby=np.zeros(2),
        power=10.0,
        copies=np.ones(2),
    )
    dual = descend(demand, Prices(np.array([1.0]), 0.0), 300, all_on=True)
    share = assign(demand, dual, discount=0.02).share[:, 0]
    assert share == pytest.approx([0.3, 0.35], abs=1e-3)
