"""What is remembered of the traffic, and when it has drifted."""

from dataclasses import replace

import numpy as np
import pytest

from updraft.benchmarks.planning.fleets import DOMAINS, EXPERTS, draw_fleet
from updraft.cloud.fleet.drift import Basis, cause, mix_distance
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.traffic import Traffic
from updraft.cloud.fleet.traffic_log import TrafficLog, TrafficSettings
from updraft.devices.budgets.budget import Budget, Line, Origin


def quality(best, rng=None):
    noise = np.zeros(len(EXPERTS)) if rng is None else rng.normal(0, 0.05, len(EXPERTS))
    return {
        name: float(np.clip(0.8 * (name == best) + 0.1 + noise[column], 0, 1))
        for column, name in enumerate(EXPERTS)
    }


def fill(log, rng, count, shares, start=0.0, rate=2.0):
    now = start
    for _ in range(count):
        now += rng.exponential(1 / rate)
        domain = str(rng.choice(DOMAINS, p=shares))
        log.record(quality(domain, rng), 100, 50, now, domain)
    return now


def test_rate_shares_and_lengths_are_those_of_the_prompts():
    log, rng = TrafficLog(EXPERTS), np.random.default_rng(0)
    now = fill(log, rng, 2000, (0.4, 0.3, 0.2, 0.1))
    traffic = log.traffic(now)
    assert traffic.rate_per_s == pytest.approx(2, rel=0.15)
    python = traffic.rate[[name == "python" for name in traffic.domain]].sum()
    assert python / traffic.rate_per_s == pytest.approx(0.4, abs=0.06)
    assert traffic.prompt_tokens == pytest.approx(np.full(len(traffic.rate), 100))
    assert traffic.new_tokens == pytest.approx(np.full(len(traffic.rate), 50))


def test_memory_is_bounded_and_nothing_is_lost_by_it():
    log, rng = TrafficLog(EXPERTS, TrafficSettings(groups=10)), np.random.default_rng(1)
    for _ in range(300):
        vague = dict(zip(EXPERTS, rng.random(len(EXPERTS)).tolist(), strict=True))
        log.record(vague, int(rng.integers(1, 2000)), 20, 5.0, str(rng.choice(DOMAINS)))
    traffic = log.traffic(5.0)
    assert len(traffic.rate) == len(traffic.domain) == 10
    assert traffic.prompts == pytest.approx(300)
    assert set(traffic.domain) == set(DOMAINS)


def test_old_prompts_are_forgotten_by_halves():
    log = TrafficLog(EXPERTS, TrafficSettings(half_life_s=100))
    for now in range(100):
        log.record(quality("c"), 100, 50, float(now), "c")
    before = log.traffic(99.0)
    later = log.traffic(299.0)
    assert later.prompts == pytest.approx(before.prompts / 4)
    assert later.rate_per_s < 0.5 * before.rate_per_s


def test_a_clock_that_goes_back_changes_nothing():
    log = TrafficLog(EXPERTS)
    log.record(quality("c"), 100, 50, 1000.0, "c")
    log.record(quality("c"), 100, 50, 400.0, "c")
    assert log.traffic(400.0).prompts == pytest.approx(2)
    assert np.isfinite(log.traffic(400.0).rate).all()


def test_a_log_without_prompts_gives_a_traffic_without_groups():
    traffic = TrafficLog(EXPERTS).traffic(7.0)
    assert traffic.rate_per_s == 0
    assert traffic.quality.shape == (0, len(EXPERTS))


def test_an_expert_unknown_to_the_gate_is_as_good_as_its_record_says():
    (node, *_), _ = draw_fleet(1, 1, 0.1, 0)
    traffic = Traffic(("c",), np.array([[0.3], [0.4]]), np.ones(2), ("python", "other"),
                      np.full(2, 10.0), np.full(2, 10.0))  # fmt: skip
    stranger = replace(node, expert="poetry", quality={"python": 0.9, "c": 0.5})
    assert traffic.quality_of([stranger]).tolist() == [[0.9, 0.7]]
    assert traffic.quality_of([replace(node, expert="c")]).tolist() == [[0.3, 0.4]]


def basis(nodes, traffic, budget=FleetBudget(50.0)):  # noqa: B008
    return Basis(tuple(nodes), traffic, budget)


def steady(shares, seed, count=800):
    log = TrafficLog(EXPERTS, TrafficSettings(half_life_s=1e6))
    return log.traffic(fill(log, np.random.default_rng(seed), count, shares))


MIX = (0.4, 0.3, 0.2, 0.1)


def test_the_same_traffic_drawn_again_is_no_drift():
    nodes, _ = draw_fleet(5, 4, 0.1, 0)
    for seed in range(10):
        before, now = (basis(nodes, steady(MIX, 2 * seed + part, 300)) for part in (0, 1))
        assert cause(before, now) == ""


def test_few_prompts_must_be_further_off_than_many():
    nodes, _ = draw_fleet(5, 4, 0.1, 0)
    other = (0.1, 0.3, 0.2, 0.4)
    many = cause(basis(nodes, steady(MIX, 0)), basis(nodes, steady(other, 1)))
    assert "of the prompts are of another kind than planned" in many
    assert cause(basis(nodes, steady(MIX, 0)), basis(nodes, steady(other, 2, count=12))) == ""


def test_the_mix_distance_is_a_share():
    python, c = steady((1, 0, 0, 0), 0), steady((0, 1, 0, 0), 1)
    assert mix_distance(python, c) == pytest.approx(1)
    assert mix_distance(python, python) == 0
    assert mix_distance(python, steady((0.5, 0.5, 0, 0), 2)) == pytest.approx(0.5, abs=0.06)


def first(basis, **changes):
    node, *rest = basis.nodes
    return replace(basis, nodes=(replace(node, **changes), *rest))


def record(basis, **factors):
    node = basis.nodes[0]
    return first(basis, **{name: factor * getattr(node, name) for name, factor in factors.items()})


def limits(basis):
    return first(basis, max_tokens=7)


def better(basis):
    return first(basis, quality={**basis.nodes[0].quality, "python": 0.99})


def other_version(basis):
    return first(basis, version="abcdef0123")


def rates(traffic, factor):
    return replace(traffic, rate=factor * traffic.rate)


def longer(traffic):
    return replace(traffic, new_tokens=3 * traffic.new_tokens)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: replace(b, nodes=b.nodes[1:]), "node-0 left"),
        (lambda b: replace(b, nodes=()), "node-0, node-1, node-2 and 2 more left"),
        (lambda b: replace(b, budget=FleetBudget(20.0)), "the fleet's budget is 20 W, was 50 W"),
        (lambda b: replace(b, budget=FleetBudget()), "is without limit, was 50 W"),
        (lambda b: replace(b, budget=FleetBudget(50.0, {"c": 900.0})), "changed: latency_ms"),
        (lambda b: record(b, per_token_j=2.0), "node-0: per_token_j is 2 times"),
        (lambda b: record(b, per_token_ms=0.5), "node-0: per_token_ms is 0.5 times"),
        (lambda b: replace(b, traffic=rates(b.traffic, 4)), "prompts/s come"),
        (lambda b: replace(b, traffic=longer(b.traffic)), "new_tokens are 150 on average"),
        (limits, "node-0: its limits changed"),
        (better, "node-0: its quality in python is not what was planned"),
        (other_version, "node-0 runs generalist abcdef01 now"),
    ],
)  # fmt: skip
def test_what_changed_is_said_in_words(change, words):
    nodes, _ = draw_fleet(5, 4, 0.1, 0)
    before = basis(nodes, steady(MIX, 0))
    assert cause(before, before) == ""
    assert words in cause(before, change(before))


def test_a_node_that_came_and_the_first_prompts_are_named():
    nodes, _ = draw_fleet(5, 4, 0.1, 0)
    before = basis(nodes[1:], TrafficLog(EXPERTS).traffic(0.0))
    words = cause(before, basis(nodes, steady(MIX, 0)))
    assert words == "node-0 joined; the first prompts came"
    assert cause(before, basis(nodes[1:], steady(MIX, 0, count=5))) == ""


def line(name, limit):
    return Line(name, limit, "refuse", Origin("budgets.toml", 1, "fleet"))


def test_a_fleets_budget_is_the_tighter_of_its_lines():
    lines = {
        "average_power": line("average_power", 5.0),
        "energy_per_day": line("energy_per_day", 86_400.0),
        "per_token": line("per_token", 40.0),
    }
    own = Budget("a", {"energy_per_day": line("energy_per_day", 172_800.0)})
    found = FleetBudget.of(Budget("fleet", lines), {"a": own, "b": Budget("b", {})}, {"c": 800})
    assert found == FleetBudget(1.0, {"c": 800}, None, 40.0, {"a": 2.0})
