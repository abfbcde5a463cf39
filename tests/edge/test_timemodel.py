"""The time model: against sums done by hand, and its laws."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.timemodel import (
    Costs,
    Path,
    Work,
    cloud_s,
    naive_s,
    rejection_s,
    request_s,
    speculation_s,
    standalone_s,
    threshold_s,
    upload_s,
)

WORK = Work(prompt_tokens=10, new_tokens=4)
COSTS = Costs(edge_s=0.01, whole_s=0.03, upper_s=0.02, position_bytes=500)
PATH = Path(round_trip_s=0.1, uplink_bytes_s=1e5)

seconds = st.floats(1e-5, 1, allow_nan=False)
shares = st.floats(0, 1)
paths = st.builds(Path, seconds, st.floats(1e4, 1e8))
costs = st.builds(
    Costs,
    edge_s=seconds,
    whole_s=seconds,
    upper_s=seconds,
    position_bytes=st.floats(1, 1e4),
    upper_growth=shares,
    exchange_s=seconds,
)


def test_one_state_keeps_the_uplink_busy_for_its_bytes():
    assert upload_s(COSTS, PATH) == pytest.approx(0.005)


def test_t_v_grows_with_the_positions_of_a_pass():
    assert COSTS.verify_s(1) == COSTS.upper_s
    assert COSTS.verify_s(11) == pytest.approx(0.02 * 1.2)


def test_standalone_is_the_edge_alone():
    assert standalone_s(WORK, COSTS) == pytest.approx(4 * 0.01)


def test_cloud_pays_the_way_once():
    assert cloud_s(WORK, COSTS, PATH) == pytest.approx(0.1 + 4 * 0.03)


def test_threshold_is_the_formula_of_the_design():
    asked = 0.5 * 4 * (0.1 + 0.02 + 0.005)
    expected = 10 * 0.005 + 4 * 0.01 + asked
    assert threshold_s(WORK, COSTS, PATH, request_rate=0.5) == pytest.approx(expected)


def test_a_slow_uplink_sets_the_pace():
    slow = Path(round_trip_s=0.1, uplink_bytes_s=1e4)
    expected = 10 * 0.05 + 4 * 0.05
    assert threshold_s(WORK, COSTS, slow, request_rate=0) == pytest.approx(expected)


def test_naive_sends_the_whole_context_at_each_step():
    positions = 10 + 11 + 12 + 13
    expected = 4 * (0.01 + 0.02 + 0.1) + positions * 0.005
    assert naive_s(WORK, COSTS, PATH) == pytest.approx(expected)


def test_speculation_is_the_formula_of_the_design():
    verify = 0.02 * (1 + 0.02 * 3)
    late = 0.005 + 0.1 + verify + 3 * 0.01 / 2
    assert rejection_s(COSTS, PATH, draft=4) == pytest.approx(late)
    expected = 10 * 0.005 + 4 * 0.01 + 0.25 * 4 * late + 0.1 + verify
    assert speculation_s(WORK, COSTS, PATH, rejection_rate=0.25, draft=4) == pytest.approx(expected)


@given(costs, paths, shares)
def test_more_requests_never_take_less_time(constants, path, rate):
    most = threshold_s(WORK, constants, path, 1.0)
    assert threshold_s(WORK, constants, path, rate) <= most


@given(costs, paths, shares, st.floats(1, 64))
def test_a_longer_way_never_takes_less_time(constants, path, rate, draft):
    longer = replace(path, round_trip_s=2 * path.round_trip_s)
    assert threshold_s(WORK, constants, path, rate) <= threshold_s(WORK, constants, longer, rate)
    assert cloud_s(WORK, constants, path) <= cloud_s(WORK, constants, longer)
    assert naive_s(WORK, constants, path) <= naive_s(WORK, constants, longer)
    nearer = speculation_s(WORK, constants, path, rate, draft)
    assert nearer <= speculation_s(WORK, constants, longer, rate, draft)


@given(costs, paths, shares, shares)
def test_drafts_of_one_beat_threshold_by_the_inequality_of_the_design(
    constants, path, rejection_rate, request_rate
):
    """Where the pace is the edge's, (1 - α)·L < r·(R + t_c + u) decides, the last verdict apart."""
    brisk = replace(constants, edge_s=max(constants.edge_s, constants.upper_s))
    work = Work(prompt_tokens=10, new_tokens=1000)
    last_verdict = path.round_trip_s + brisk.exchange_s + brisk.upper_s
    ours = speculation_s(work, brisk, path, rejection_rate, 1) - last_verdict
    theirs = threshold_s(work, brisk, path, request_rate)
    gap = rejection_rate * rejection_s(brisk, path, 1) - request_rate * request_s(brisk, path)
    assert ours - theirs == pytest.approx(1000 * gap, rel=1e-6, abs=1e-6 * (ours + theirs))
