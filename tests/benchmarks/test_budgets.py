"""The benchmark of budgets: its meters, days, rivals and results, and one day that is real."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.benchmarks.budgets.allowance import DayClock
from updraft.benchmarks.budgets.day import HOURS, Arrival, Asked, agreement, arrivals
from updraft.benchmarks.budgets.emulated import EmulatedMeter
from updraft.benchmarks.budgets.losses import Loss, busiest
from updraft.benchmarks.budgets.plan import ALL_ON, HALF, TIERS, Cell
from updraft.benchmarks.budgets.play import Answer, Budgets, Day, play
from updraft.benchmarks.budgets.policies import OURS, Rival, planning, power_w, quality
from updraft.benchmarks.budgets.results import Played, Results, Setting, save, to_json
from updraft.benchmarks.budgets.scenario import NEW_TOKENS, PROMPT_TOKENS, fleet
from updraft.benchmarks.budgets.stage import Stage
from updraft.cloud.fleet.budgets import FleetBudgets
from updraft.cloud.fleet.demand import demand_of
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.planner import PlannerSettings
from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.traffic import Traffic
from updraft.errors import RuntimeMissing
from updraft.models.shipped import family_gate, shipped_family

RIVALS = ("greedy", "top-k", "best single", "random")
SETTINGS = PlannerSettings(rate_per_s=5, prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS)
LOOSE = 40.0


# The emulated meter


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "on", "off"]), st.integers(0, 40))))
def test_shares_add_up_to_what_was_drawn_above_standby(steps):
    clock = Clock()
    meter = EmulatedMeter(8.0, 4.0, clock)
    spans, shares_j, standby_j, on = [], 0.0, 0.0, False
    for step, tenths in steps:
        clock.now += tenths / 10
        standby_j += 4.0 * on * tenths / 10
        if step == "begin":
            spans.append(meter.begin())
        elif step == "end" and spans:
            shares_j += spans.pop(0).end(0.0).joules
        elif step in ("on", "off"):
            on = step == "on"
            meter.switch(on)
    shares_j += sum(span.end(0.0).joules for span in spans)
    assert shares_j == pytest.approx(meter.spent_j - standby_j)


def test_answers_at_the_same_time_share_evenly():
    clock = Clock()
    meter = EmulatedMeter(10.0, 0.0, clock)
    first = meter.begin()
    clock.now = 1.0
    second = meter.begin()
    clock.now = 2.0
    assert first.end(0.0).joules == pytest.approx(15.0)
    clock.now = 3.0
    assert second.end(0.0).joules == pytest.approx(15.0)


def test_the_day_of_a_budget_begins_with_a_prompt_and_does_not_pass_into_the_next():
    clock = DayClock(0.1)
    assert clock() % 86_400 == 0
    clock.begin()
    first = clock()
    time.sleep(0.15)
    assert 0 < clock() - first < 86_400
    assert clock() == clock()
    assert clock() // 86_400 == first // 86_400


# The day


def some_prompts():
    quality = {"a": 0.5}
    return [Asked(name, f"{name}{n}", "text", quality) for name in ("c", "logs") for n in range(3)]


@given(st.integers(0, 9), st.integers(1, 300), st.floats(0.1, 1e4))
def test_a_day_is_in_order_and_the_same_for_a_seed(seed, count, day_s):
    day = arrivals(some_prompts(), day_s, count, seed)
    assert len(day) == count
    times = [arrival.at_s for arrival in day]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= day_s
    assert day == arrivals(some_prompts(), day_s, count, seed)


def test_busy_hours_and_peaks_are_seen_in_the_day():
    day = arrivals(some_prompts(), HOURS, 12_000, 0)
    rates = np.bincount([int(arrival.at_s) for arrival in day], minlength=HOURS)
    assert rates[8:20].mean() / np.r_[rates[:8], rates[20:]].mean() == pytest.approx(2, rel=0.1)
    logs = [arrival.at_s for arrival in day if arrival.asked.domain == "logs"]
    by_night = [at for at in logs if at < 6]
    all_by_night = [arrival for arrival in day if arrival.at_s < 6]
    assert len(by_night) / len(all_by_night) > 2 * len(logs) / len(day) * 0.8


@given(st.text(min_size=1), st.text())
def test_agreement_ends_with_the_first_difference(reference, answer):
    share = agreement(answer, reference)
    assert 0 <= share <= 1
    assert answer[: round(share * len(reference))] == reference[: round(share * len(reference))]
    assert agreement(reference, reference) == 1


# Rivals


def capabilities():
    quality = shipped_family().quality()
    return [
        Capability(
            n.name, n.expert, "", 1, n.device, quality[n.expert], PROMPT_TOKENS, n.first_token_ms,
            n.per_token_ms, n.prompt_j, n.per_token_j, n.standby_w, 128, NEW_TOKENS,
        )
        for n in fleet()
    ]  # fmt: skip


def traffic_of(rate_per_s):
    return Traffic.expected(
        capabilities(), rate_per_s=rate_per_s, prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS
    )


def plan_of(policy, budget, rate_per_s=5.0, nodes=None, seed=0):
    planner = planning(policy, SETTINGS, family_gate(), seed)
    nodes = capabilities() if nodes is None else nodes
    return planner.plan(nodes, traffic_of(rate_per_s), budget, None, "start")


@given(
    st.sampled_from(RIVALS), st.floats(0, 200), st.sampled_from([6.0, 12.0, LOOSE]),
    st.integers(0, 3),
)  # fmt: skip
def test_rivals_keep_the_budget(policy, limit_w, per_token_ms, seed):
    found = plan_of(policy, FleetBudget(limit_w, per_token_ms=per_token_ms), seed=seed)
    assert found.power_w <= limit_w + 1e-9
    assert 0 <= found.quality <= 1


@given(st.floats(0, 100), st.floats(1, 20))
def test_greedy_takes_a_node_that_fits_and_none_that_does_not(limit_w, window_s):
    budget = FleetBudget(limit_w, window_s=window_s)
    demand = demand_of(
        sorted(capabilities(), key=lambda node: node.node), traffic_of(5.0), budget,
        utilisation=SETTINGS.utilisation, answer_worth=0.0,
    )  # fmt: skip
    taken = []
    for node in planning("greedy", SETTINGS, family_gate(), 0).order(demand):
        before = quality(demand, taken)
        taken.append(node)
        assert power_w(demand, taken) <= demand.power
        assert quality(demand, taken) > before
    for node in set(range(demand.nodes)) - set(taken):
        fits = power_w(demand, [*taken, node]) <= demand.power
        assert not fits or quality(demand, [*taken, node]) <= quality(demand, taken)


def test_best_single_takes_the_best_node():
    (name,) = plan_of("best single", FleetBudget()).selected
    shares = {n.node: np.mean(list(n.quality.values())) for n in capabilities()}
    assert shares[name] == pytest.approx(max(shares.values()))


def test_all_on_knows_no_budget():
    assert len(plan_of(ALL_ON, FleetBudget(1.0)).selected) == len(fleet())


@pytest.mark.parametrize("policy", [*RIVALS, ALL_ON, OURS])
def test_before_any_prompt_the_expected_ones_are_planned_for(policy):
    found = plan_of(policy, FleetBudget(60.0), rate_per_s=0.0)
    assert found.selected
    assert found.quality > 0.3


@pytest.mark.parametrize("policy", [*RIVALS, ALL_ON])
def test_a_fleet_without_nodes_has_a_plan(policy):
    assert plan_of(policy, FleetBudget(60.0), nodes=[]).selected == frozenset()


def test_a_rival_is_a_planner_like_ours():
    assert isinstance(planning("greedy", SETTINGS, family_gate(), 0), Rival)
    assert plan_of("greedy", FleetBudget(60.0)).version == 1


# Budgets and days


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_the_budgets_of_every_tier_are_read_as_they_were_meant(tmp_path, tier):
    for cell in (*tier.references(), *tier.cells()):
        power_w = None if cell.share is None else 80 * cell.share
        window_s = tier.day_s / HOURS
        path = tmp_path / "budgets.toml"
        path.write_text(Budgets(power_w, window_s, cell.per_token_ms).as_toml())
        found = FleetBudgets(path).of(())
        assert found.power_w == (None if power_w is None else pytest.approx(power_w, abs=1e-3))
        assert found.per_token_ms == cell.per_token_ms
        assert found.window_s == (None if power_w is None else pytest.approx(window_s, rel=1e-5))


def test_every_tier_measures_the_day_that_nodes_are_lost_on():
    for tier in TIERS.values():
        assert HALF in {cell.share for cell in tier.cells() if cell.policy == OURS}


def a_day(answers=None, power_w=None, limit_w=20.0, policy=OURS):
    if answers is None:
        answers = [
            Answer(hour, "c", 0.5, 0.1, 320.0, 16, "nx-3", "c", 2.0) for hour in range(HOURS)
        ]
    return Day(policy, Budgets(limit_w, 1.0, 20.0), 24.0, answers, power_w or [20.0] * 24, 0.01, 3, 0.0)  # noqa: E501  # fmt: skip


def test_hours_keep_the_budgets_or_do_not():
    slow = [Answer(1, "c", 0.5, 0.1, 330.0, 16), Answer(2, "c", error="link-timeout: none")]
    day = a_day(slow, [21.0] + [20.0] * 23)
    assert day.hours_in_power == [False] + [True] * 23
    assert day.hours_in_time == [True, False] + [True] * 22
    assert day.lost == 1
    assert day.quality == 0.25
    assert day.energy_j == pytest.approx(481)
    assert all(a_day(limit_w=None).hours_in_power)


def results_of(day, **losses):
    played = [
        Played(Cell(ALL_ON, None, 20.0), 0, a_day(limit_w=None, policy=ALL_ON)),
        Played(Cell(OURS, HALF, 20.0), 0, day),
        Played(Cell("greedy", HALF, 20.0), 0, a_day(policy="greedy")),
    ]
    found = [Loss(how, "nx-3", lost) for how, lost in losses.items()]
    return Results(Setting("quick", 24.0, 24, 1, "c" * 40, "a machine"), played, found)


def silent():
    return a_day([Answer(hour, "c", error="link-timeout: nobody") for hour in range(HOURS)])


def test_what_was_kept_is_met():
    results = results_of(a_day(), killed=a_day())
    verdicts = {goal.name: goal.verdict for goal in results.goals() if goal.values}
    assert set(verdicts.values()) == {"met"}
    assert "quality ÷ greedy" in verdicts
    assert results.faults == []


def test_a_day_without_answers_is_a_fault_and_no_crash():
    results = results_of(silent(), killed=silent())
    assert busiest(silent()) is None
    assert busiest(a_day()) == "nx-3"
    assert any("no prompt was answered" in fault for fault in results.faults)
    assert any("24 requests had no answer" in fault for fault in results.faults)
    verdicts = {goal.name: goal.verdict for goal in results.goals()}
    assert verdicts["quality at half the energy ÷ all on"] == "missed"
    assert verdicts["requests lost with a node"] == "missed"
    assert all(len(row) == len(table.header) for table in results.tables() for row in table.rows)


def test_a_day_without_answers_is_written_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    written = save(results_of(silent(), killed=silent()), tmp_path)
    assert all((tmp_path / name).stat().st_size > 0 for name in written)
    assert "no prompt was answered" in (tmp_path / "budgets.md").read_text()


def test_figures_are_json_that_others_read():
    figures = json.loads(to_json(results_of(a_day(), hung=a_day())), parse_constant=pytest.fail)
    assert figures["days"][1]["budget_w"] == 20.0
    assert len(figures["days"][1]["power_w"]) == HOURS
    assert figures["losses"][0]["longest_s"] == pytest.approx(0.32)


# Meters' logs, and processes that fail


@pytest.fixture
def idle_stage(tmp_path, monkeypatch):
    """A stage without nodes, whose logs a test writes."""
    monkeypatch.setattr("updraft.benchmarks.budgets.stage.fleet", tuple)
    return Stage(tmp_path)


def test_a_dead_node_draws_nothing_after_its_last_line(idle_stage, tmp_path):
    (tmp_path / "a.0.meter").write_text("[10.0, 0.0]\n[12.0, 20.0]\n[13.0, 3")
    (tmp_path / "a.1.meter").write_text("[20.0, 0.0]\n[22.0, 6.0]\n")
    (tmp_path / "b.0.meter").write_text("")
    drawn = idle_stage.spent_j(np.array([9.0, 11.0, 15.0, 21.0, 22.0]))
    assert drawn.tolist() == [0.0, 10.0, 20.0, 23.0, 26.0]


def test_a_coordinator_that_cannot_start_says_why_at_once(idle_stage):
    with (
        pytest.raises(RuntimeMissing, match=r"window: '0.01 s' lies outside"),
        idle_stage.coordinator(OURS, Budgets(10.0, 0.01, LOOSE).as_toml(), 1.0),
    ):
        pass


def test_nodes_end_with_whoever_started_them(tmp_path):
    script = (
        "import os, pathlib, sys\n"
        "from updraft.benchmarks.budgets import stage\n"
        "all_nodes = stage.fleet()\n"
        "stage.fleet = lambda: all_nodes[:1]\n"
        "made = stage.Stage(pathlib.Path(sys.argv[1]))\n"
        "print(made._processes['agx-1'].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as parent:  # fmt: skip
        node = int(parent.stdout.readline())
        meter = tmp_path / "agx-1.0.meter"
        assert soon(lambda: meter.exists() and meter.stat().st_size > 0)
        parent.send_signal(signal.SIGKILL)
    assert soon(lambda: not alive(node))


def soon(holds, within_s=20):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


# A real day


def short_day(day_s, count):
    found = shipped_family().prompts()
    quality = dict.fromkeys(family_gate().experts, 0.5)
    prompts = [Asked(p.domain, p.prompt, p.completion, quality) for p in found]
    return [Arrival(a.at_s, a.asked) for a in arrivals(prompts, day_s, count, 0)]


def test_a_day_is_served_and_a_node_that_dies_at_noon_costs_no_request(tmp_path, monkeypatch):
    few = {"nano-2", "nano-3", "nano-5", "nx-1", "nx-2"}
    chosen = tuple(node for node in fleet() if node.name in few)
    monkeypatch.setattr("updraft.benchmarks.budgets.stage.fleet", lambda: chosen)
    budgets = Budgets(60.0, 1.0, LOOSE)
    with closing(Stage(tmp_path)) as stage:
        day = play(stage, OURS, budgets, short_day(3.0, 20), 3.0)
        assert [answer.error for answer in day.answers] == [""] * 20
        assert {answer.tokens for answer in day.answers} == {NEW_TOKENS}
        assert day.plans > 0
        drawn_j, answers_j = sum(day.power_w) * 3 / HOURS, sum(a.energy_j for a in day.answers)
        assert drawn_j > answers_j > 0
        assert math.isclose(day.energy_j, drawn_j)
        node = busiest(day)
        without = play(
            stage, OURS, budgets, short_day(3.0, 20), 3.0, at_noon=lambda: stage.kill(node)
        )
        assert [answer.error for answer in without.answers] == [""] * 20
        assert {a.node for a in without.answers if a.hour > 18} <= few - {node}
    assert all(process.poll() is not None for process in stage._processes.values())


def test_an_error_at_noon_breaks_the_day_off(tmp_path, monkeypatch):
    chosen = fleet()[:1]
    monkeypatch.setattr("updraft.benchmarks.budgets.stage.fleet", lambda: chosen)

    def fail():
        raise RuntimeMissing("no such node")

    with closing(Stage(tmp_path)) as stage, pytest.raises(RuntimeMissing, match="no such node"):
        play(stage, ALL_ON, Budgets(None, 1.0, LOOSE), short_day(2.0, 4), 2.0, at_noon=fail)
