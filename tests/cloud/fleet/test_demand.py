"""What is left unplanned of a budget of power, so that chance keeps it too."""

from dataclasses import replace

import numpy as np

from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic

NODE = Capability(
    "node", "code", "1", 1, "x86", {"python": 0.5}, 64, 10, 5, 0.4, 0.1, 3.0, 512, 64, 4
)
WINDOW_S = 20.0
BUDGET_W = 45.0


def traffic(rate_per_s):
    return Traffic.expected([NODE], rate_per_s=rate_per_s, prompt_tokens=64, new_tokens=16)


def planned_w(rate_per_s, **limits):
    budget = FleetBudget(power_w=BUDGET_W, **limits)
    return demand_of([NODE], traffic(rate_per_s), budget, utilisation=0.8, answer_worth=1.0).power


def test_without_a_window_all_of_the_budget_is_planned():
    assert planned_w(100) == BUDGET_W


def test_shorter_windows_and_larger_answers_leave_more_unplanned():
    assert planned_w(100, window_s=10) < planned_w(100, window_s=1000) < BUDGET_W
    larger = replace(NODE, per_token_j=1.0)
    budget = FleetBudget(power_w=BUDGET_W, window_s=WINDOW_S)
    settings = {"utilisation": 0.8, "answer_worth": 1.0}
    plain = demand_of([NODE], traffic(100), budget, **settings).power
    assert demand_of([larger], traffic(100), budget, **settings).power < plain


def test_a_window_too_short_for_one_answer_plans_nothing_rather_than_less():
    assert planned_w(100, window_s=1e-3) == 0.0


def test_windows_of_prompts_that_come_by_chance_keep_the_budget_99_times_in_100():
    """A fleet that draws all that was planned, in standby and in answers at random times."""
    rng = np.random.default_rng(0)
    answer_j = NODE.answer_j(64, 16)
    rate_per_s = 20.0
    power_w = planned_w(rate_per_s, window_s=WINDOW_S)
    standby_w = power_w - rate_per_s * answer_j
    windows = standby_w + rng.poisson(rate_per_s * WINDOW_S, size=50_000) * answer_j / WINDOW_S
    assert 0.985 <= (windows <= BUDGET_W).mean() <= 0.995
