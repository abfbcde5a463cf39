"""Plans of small fleets: the laws they keep, and what they are worth against the best there is."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.benchmarks.planning.fleets import DOMAINS, EXPERTS, draw_fleet
from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.hysteresis import Hysteresis
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.planner import Planner, PlannerSettings
from updraft.cloud.fleet.traffic import Traffic
from updraft.cloud.fleet.traffic_log import TrafficLog, TrafficSettings
from updraft.optimizer.gate.gate import Gate, Layer
from updraft.optimizer.placement.selecting import choose, evaluate

GATE = Gate(EXPERTS, (Layer(np.zeros((1, len(EXPERTS))), np.zeros(len(EXPERTS))),))
THRIFT = 0.001
few = settings(max_examples=25)


def demand(nodes, traffic, power=None, **budget):
    budget = FleetBudget(power, **budget)
    return demand_of(nodes, traffic, budget, utilisation=0.8, answer_worth=1.0)


@st.composite
def fleets(draw, nodes=8, groups=12):
    """A fleet, its traffic, and a budget from too little to plenty."""
    count = draw(st.integers(1, nodes))
    load = draw(st.sampled_from([0.001, 0.05, 0.3, 1.5]))
    fleet, traffic = draw_fleet(count, draw(st.integers(1, groups)), load, draw(st.integers(0, 99)))
    most = demand(fleet, traffic).power
    return fleet, traffic, draw(st.sampled_from([0.02, 0.1, 0.3, 0.6, 1.0])) * most


def plan(fleet, traffic, power, previous=None, cause="start", **budget):
    return Planner(GATE).plan(fleet, traffic, FleetBudget(power, **budget), previous, cause)


@few
@given(fleets())
def test_a_choice_keeps_power_time_and_every_prompt_once(drawn):
    fleet, traffic, power = drawn
    whole = demand(fleet, traffic, power)
    found = choose(whole, thrift=THRIFT)
    share, on = found.assignment.share, whole.among(found.nodes)
    assert (share >= 0).all()
    assert (share.sum(axis=0) <= 1 + 1e-9).all()
    assert ((share * on.work).sum(axis=1) <= on.room * (1 + 1e-6)).all()
    assert found.assignment.power <= whole.power * (1 + 1e-9)
    drawn_w = float((share * on.load_w).sum() + on.standby.sum())
    assert found.assignment.power == pytest.approx(drawn_w)
    assert (share.sum(axis=1) > 0).all()
    assert not share[on.worth == 0].any()


@few
@given(fleets())
def test_no_choice_is_worth_more_than_the_bound_and_ours_comes_near(drawn):
    pytest.importorskip("highspy")
    from updraft.benchmarks.planning.rivals import milp

    fleet, traffic, power = drawn
    whole = demand(fleet, traffic, power)
    found = choose(whole, thrift=THRIFT)
    best = milp(whole, 20)
    assert best.worth <= found.upper_bound * (1 + 1e-4) + 1e-9
    assert found.assignment.worth <= best.upper_bound * (1 + 1e-4) + 1e-9
    assert found.assignment.worth >= 0.9 * best.worth - 1e-9


@few
@given(fleets())
def test_more_budget_never_lowers_what_is_predicted_beyond_the_gap(drawn):
    fleet, traffic, power = drawn
    less = choose(demand(fleet, traffic, power), thrift=THRIFT)
    more = choose(demand(fleet, traffic, 1.7 * power), thrift=THRIFT)
    assert more.upper_bound >= less.assignment.worth * (1 - 1e-6)


@few
@given(fleets(), st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_does_not_matter(drawn, random):
    fleet, traffic, power = drawn
    shuffled = random.sample(fleet, len(fleet))
    one, other = plan(fleet, traffic, power), plan(shuffled, traffic, power)
    assert replace(one, seconds=0) == replace(other, seconds=0)


@few
@given(fleets(), st.integers(0, 99))
def test_a_node_that_another_beats_in_everything_is_not_chosen_before_it(drawn, place):
    fleet, traffic, power = drawn
    good = fleet[place % len(fleet)]
    worse = replace(
        good,
        node="a-worse",
        per_token_ms=1.1 * good.per_token_ms,
        per_token_j=1.1 * good.per_token_j,
        standby_w=1.1 * good.standby_w,
    )
    found = plan([*fleet, worse], traffic, power)
    assert "a-worse" not in found.selected or good.node in found.selected


@few
@given(fleets())
def test_when_a_node_that_is_off_leaves_the_selection_changes_only_for_a_better_one(drawn):
    fleet, traffic, power = drawn
    first = plan(fleet, traffic, power)
    for gone in sorted({node.node for node in fleet} - first.selected):
        rest = [node for node in fleet if node.node != gone]
        after = plan(rest, traffic, power, first, "leave")
        if after.selected != first.selected:
            assert "another selection" in after.reason
            assert after.quality > first.quality or after.power_w < first.power_w


@few
@given(fleets())
def test_the_same_again_publishes_nothing(drawn):
    fleet, traffic, power = drawn
    first = plan(fleet, traffic, power)
    again = plan(fleet, traffic, power, first, "drift")
    assert again is first or again.selected == first.selected
    assert plan(fleet, traffic, power, again, "drift").selected == first.selected


def changes_in_steady_traffic(fleet, traffic, power, hysteresis):
    """Plan again and again for prompts drawn from one traffic; count changed selections."""
    rng = np.random.default_rng(7)
    log = TrafficLog(EXPERTS, TrafficSettings(half_life_s=100 / traffic.rate_per_s))
    planner = Planner(GATE, PlannerSettings(hysteresis=hysteresis))
    now, current, selections = 0.0, None, []
    for count in range(500):
        now += rng.exponential(1 / traffic.rate_per_s)
        p = rng.choice(len(traffic.rate), p=traffic.rate / traffic.rate_per_s)
        quality = dict(zip(EXPERTS, traffic.quality[p].tolist(), strict=True))
        prompt, new = np.array([traffic.prompt_tokens[p], traffic.new_tokens[p]]) * rng.lognormal(
            0, 0.3, 2
        )
        log.record(quality, int(prompt) + 1, int(new) + 1, now, traffic.domain[p])
        if count >= 300 and count % 10 == 0:
            budget = FleetBudget(power)
            current = planner.plan(fleet, log.traffic(now), budget, current, "drift")
            selections.append(current.selected)
    assert len(selections) == 20
    return sum(a != b for a, b in pairwise(selections))


def test_noise_in_a_steady_traffic_makes_the_selection_flap_but_for_the_margin():
    fleet, traffic = draw_fleet(10, 24, 0.3, 2)
    power = 0.3 * demand(fleet, traffic).power
    none = Hysteresis(margin=-1.0, saving=0.0, switch_s=0.0)
    assert changes_in_steady_traffic(fleet, traffic, power, none) >= 5
    assert changes_in_steady_traffic(fleet, traffic, power, Hysteresis()) <= 2


def test_a_clearly_better_selection_is_taken_and_said_so():
    fleet, traffic = draw_fleet(10, 24, 0.05, 1)
    power = demand(fleet, traffic).power
    tight = plan(fleet, traffic, 0.15 * power)
    wide = plan(fleet, traffic, 0.9 * power, tight, "the fleet's budget was raised")
    assert wide.version == tight.version + 1
    assert wide.quality > tight.quality
    assert "budget was raised; another selection is better by" in wide.reason
    assert "energy limits the selection" in tight.reason


def test_who_left_is_not_in_the_plan_and_the_rest_stays_on():
    fleet, traffic = draw_fleet(12, 24, 0.1, 2)
    first = plan(fleet, traffic, None)
    gone = min(first.selected)
    rest = [node for node in fleet if node.node != gone]
    second = plan(rest, traffic, None, first, f"{gone} left")
    assert gone not in second.selected
    assert second.version == first.version + 1
    assert second.reason.startswith(f"{gone} left")


def test_a_busy_group_is_split_over_as_many_nodes_as_it_needs():
    (node, *_), _ = draw_fleet(1, 1, 0.1, 0)
    fleet = [replace(node, node=f"n{i}") for i in range(6)]
    one = 0.8 * 1e3 * node.concurrency / node.latency_ms(100, 50)
    busy = Traffic(EXPERTS, np.full((1, 5), 0.7), np.array([2.5 * one]), ("python",),
                   np.array([100.0]), np.array([50.0]), 100)  # fmt: skip
    found = plan(fleet, busy, None)
    assert len(found.selected) == 3
    assert found.spent["answered"] == pytest.approx(1)
    too_much = replace(busy, rate=np.array([12 * one]))
    overrun = plan(fleet, too_much, None)
    assert len(overrun.selected) == 6
    assert overrun.spent["answered"] == pytest.approx(0.5, rel=1e-3)
    assert "50% of the prompts can be answered" in overrun.reason
    assert set(overrun.quality_per_s) == overrun.selected


def test_a_node_that_is_too_slow_for_a_domain_does_not_serve_it():
    fleet, traffic = draw_fleet(5, 24, 0.01, 4)
    slowest = max(fleet, key=lambda node: node.per_token_ms)
    limit = dict.fromkeys(DOMAINS, 1.0)
    assert plan(fleet, traffic, None, latency_ms=limit).selected == frozenset()
    assert (
        "no node can serve within the budget" in plan(fleet, traffic, None, latency_ms=limit).reason
    )
    by_token = FleetBudget(per_token_ms=slowest.per_token_ms - 1e-6)
    found = Planner(GATE).plan(fleet, traffic, by_token, None, "start")
    assert slowest.node not in found.selected
    assert found.selected


def test_a_nodes_own_power_caps_its_load():
    (node, *_), _ = draw_fleet(1, 1, 0.1, 0)
    rate = 0.5 * 1e3 * node.concurrency / node.latency_ms(100, 50)
    traffic = Traffic(EXPERTS, np.full((1, 5), 0.7), np.array([rate]), ("c",),
                      np.array([100.0]), np.array([50.0]), 100)  # fmt: skip
    draws = rate * node.answer_j(100, 50)
    own = node.standby_w + 0.4 * draws
    found = plan([node], traffic, None, node_power_w={node.node: own})
    assert found.power_w <= own * (1 + 1e-9)
    assert found.spent["answered"] == pytest.approx(0.4, rel=1e-3)


def test_a_budget_that_standby_takes_up_answers_nothing():
    fleet, traffic = draw_fleet(3, 6, 0.01, 0)
    found = plan(fleet[:1], traffic, fleet[0].standby_w)
    assert found.selected == frozenset()
    assert found.reason == "start; no node can serve within the budget"


def test_nodes_whose_energy_is_nothing_are_no_trouble():
    fleet, traffic = draw_fleet(3, 6, 0.01, 0)
    free = [replace(node, prompt_j=0.0, per_token_j=0.0, standby_w=0.0) for node in fleet]
    found = plan(free, traffic, None)
    assert found.power_w == 0
    assert found.spent["answered"] == pytest.approx(1)


def test_without_prompts_it_plans_by_the_records():
    fleet, _ = draw_fleet(5, 24, 0.1, 0)
    nothing = TrafficLog(EXPERTS).traffic(0.0)
    found = plan(fleet, nothing, None)
    specialists = {node.node for node in fleet if node.expert != "generalist"}
    assert specialists <= found.selected


def test_a_single_prompt_does_not_switch_off_the_experts_of_other_domains():
    fleet, _ = draw_fleet(5, 24, 0.1, 0)
    log = TrafficLog(EXPERTS)
    log.record(dict.fromkeys(EXPERTS, 0.1) | {"c": 0.9}, 100, 50, 0.0, "c")
    specialists = {node.node for node in fleet if node.expert != "generalist"}
    assert specialists <= plan(fleet, log.traffic(1.0), None).selected
    for now in range(1, 200):
        log.record(dict.fromkeys(EXPERTS, 0.1) | {"c": 0.9}, 100, 50, float(now), "c")
    (node,) = plan(fleet, log.traffic(200.0), None).selected
    assert node in {member.node for member in fleet if member.expert == "c"}


def test_an_empty_fleet_and_an_unknown_expert_are_said_in_words():
    fleet, traffic = draw_fleet(2, 6, 0.01, 0)
    assert plan([], traffic, None).reason == "start; no node is in the fleet"
    stranger = replace(fleet[0], node="n", expert="poetry", quality={"python": 0.9, "c": 0.9})
    found = plan([stranger], traffic, None)
    assert found.selected == {"n"}
    assert "the gate does not know poetry" in found.reason


def test_a_crowd_keeps_its_budgets_and_its_bound():
    fleet, traffic = draw_fleet(400, 32, 0.1, 0)
    whole = demand(fleet, traffic, 0.5 * demand(fleet, traffic).power)
    found = choose(whole, thrift=THRIFT)
    share, on = found.assignment.share, whole.among(found.nodes)
    assert (share.sum(axis=0) <= 1 + 1e-9).all()
    assert ((share * on.work).sum(axis=1) <= on.room * (1 + 1e-6)).all()
    assert found.assignment.power <= whole.power * (1 + 1e-9)
    assert found.assignment.worth >= 0.85 * found.upper_bound
    half = evaluate(whole, found.nodes[::2], thrift=THRIFT)
    assert half.worth <= found.upper_bound


def test_settings_can_forgo_answers_for_quality():
    fleet, traffic = draw_fleet(6, 24, 0.1, 5)
    power = 0.1 * demand(fleet, traffic).power
    answers = plan(fleet, traffic, power)
    picky = Planner(GATE, PlannerSettings(answer_worth=0.0))
    quality = picky.plan(fleet, traffic, FleetBudget(power), None, "start")
    assert quality.quality >= answers.quality * (1 - 0.02)
    assert quality.spent["answered"] <= answers.spent["answered"] + 0.02
