"""What requests are expected to cost, and how measured ones correct it."""

import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.costs import Costs, Measured
from updraft.devices.usage import Usage

_shared = runpy.run_path(str(Path(__file__).with_name("spending.py")))
point_of = _shared["point_of"]

_POINT = point_of(token_j=2.0, token_uplink_bytes=100.0, token_cloud=1.5)


def taken(point, factor, prompt=64, tokens=64, max_tokens=64):
    fresh = Costs(64, 64).cost(point, prompt, tokens)
    first_ms = factor * fresh.first_token_ms
    usage = Usage(
        first_ms + factor * fresh.token_ms * (tokens - 1),
        factor * fresh.expected.energy_j,
        round(factor * fresh.expected.uplink_bytes),
        0,
        round(factor * fresh.expected.cloud_tokens),
    )
    return Measured(point, prompt, max_tokens, tokens, usage, first_ms)


def test_an_answer_of_the_points_own_lengths_costs_what_they_say():
    cost = Costs(64, 64).cost(_POINT, 64, 64)
    assert cost.expected.energy_j == pytest.approx(128.0)
    assert cost.expected.uplink_bytes == 6400
    assert cost.expected.cloud_tokens == 96
    assert (cost.first_token_ms, cost.token_ms) == (20.0, 10.0)
    assert cost.most.energy_j > 2 * cost.expected.energy_j  # nothing is known yet


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 2000))
def test_longer_requests_cost_more(prompt, tokens, more):
    costs = Costs(64, 64)
    one = costs.cost(_POINT, prompt, tokens)
    longer_prompt = costs.cost(_POINT, prompt + more, tokens)
    longer_text = costs.cost(_POINT, prompt, tokens + more)
    for other in (longer_prompt, longer_text):
        assert other.expected.energy_j > one.expected.energy_j
        assert other.expected.latency_ms > one.expected.latency_ms
    assert one.most.energy_j >= one.expected.energy_j


@given(st.floats(0.1, 10))
def test_measurements_move_the_expectation_to_what_was_seen(factor):
    costs = Costs(64, 64)
    for _ in range(40):
        costs.learn(taken(_POINT, factor))
    cost = costs.cost(_POINT, 128, 32)
    fresh = Costs(64, 64).cost(_POINT, 128, 32)
    assert cost.expected.energy_j == pytest.approx(factor * fresh.expected.energy_j, rel=0.15)
    assert cost.first_token_ms == pytest.approx(factor * fresh.first_token_ms, rel=0.15)
    assert cost.token_ms == pytest.approx(factor * fresh.token_ms, rel=0.15)
    assert cost.most.energy_j < 1.5 * cost.expected.energy_j  # nothing varied


def test_what_one_point_teaches_others_learn_from_until_they_are_seen():
    costs = Costs(64, 64)
    other = point_of("standalone", 2, token_j=1.0)
    before = costs.answer_j(other)
    for _ in range(20):
        costs.learn(taken(_POINT, 3.0))
    assert costs.answer_j(other) > 2 * before
    for _ in range(100):
        costs.learn(taken(other, 1.0))
        costs.learn(taken(_POINT, 3.0))
    assert costs.answer_j(other) == pytest.approx(before, rel=0.15)
    assert costs.answer_j(_POINT) == pytest.approx(3 * 128.0, rel=0.15)


def test_a_device_that_cools_is_trusted_again_at_points_that_were_left():
    costs = Costs(64, 64)
    other = point_of("standalone", 2, token_j=1.0)
    for _ in range(100):
        costs.learn(taken(_POINT, 1.0))
    for _ in range(20):
        costs.learn(taken(_POINT, 3.0))
    hot = costs.answer_j(_POINT)
    for _ in range(100):
        costs.learn(taken(other, 1.0))
    assert costs.answer_j(_POINT) < 0.6 * hot


def test_texts_that_end_early_are_expected_to_again():
    costs = Costs(64, 64)
    for _ in range(30):
        costs.learn(taken(_POINT, 1.0, tokens=16, max_tokens=64))
    cost = costs.cost(_POINT, 64, 64)
    assert cost.expected.energy_j < 0.5 * 128.0
    assert cost.most.energy_j >= 0.99 * 128.0


def test_a_dead_meter_and_an_empty_answer_teach_nothing():
    costs = Costs(64, 64)
    costs.learn(Measured(_POINT, 64, 64, 64, Usage(650.0, 0.0), 20.0))
    costs.learn(Measured(_POINT, 64, 64, 0, Usage(5.0, 3.0), None))
    assert costs.cost(_POINT, 64, 64).expected.energy_j == pytest.approx(128.0)
