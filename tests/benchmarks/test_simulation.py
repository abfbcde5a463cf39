"""Speculation event by event, against timelines done by hand and the closed form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.benchmarks.collab.simulation import Draft, simulate
from updraft.edge.pilot import Tuning
from updraft.edge.timemodel import Costs, Path

PATH = Path(round_trip_s=0.1, uplink_bytes_s=1e5)
COSTS = Costs(edge_s=0.01, whole_s=0.03, upper_s=0.02, position_bytes=500, upper_growth=0.0)
UPLOAD = 0.005
SURE, WRONG = Draft(1.0, right=True), Draft(1.0, right=False)


def tuned(group=4, survival=0.1):
    return Tuning(survival=survival, group=group, flush_below=0.0, frame=group)


def test_one_group_of_right_drafts_takes_one_round():
    expected = 4 * 0.01 + 4 * UPLOAD + 0.1 + 0.02
    assert simulate([SURE] * 4, 0, COSTS, PATH, tuned()) == pytest.approx(expected)


def test_the_edge_drafts_on_while_the_cloud_judges():
    expected = 16 * 0.01 + 4 * UPLOAD + 0.1 + 0.02
    assert simulate([SURE] * 16, 0, COSTS, PATH, tuned()) == pytest.approx(expected)


def test_a_wrong_draft_costs_a_round_and_what_was_drafted_behind_it():
    one_round = 0.01 + UPLOAD + 0.1 + 0.02
    found = simulate([WRONG, WRONG, SURE], 0, COSTS, PATH, tuned(group=1, survival=0.5))
    # A verdict is seen between two drafts: up to one draft later.
    assert 3 * one_round <= found <= 3 * (one_round + 0.01)


def test_a_committed_draft_is_not_rejected():
    committed = Draft(1.0, right=False, committed=True)
    right = simulate([SURE] * 8, 0, COSTS, PATH, tuned())
    assert simulate([SURE, committed] * 4, 0, COSTS, PATH, tuned()) == right


def test_unlikely_drafts_make_the_edge_wait():
    unsure = Draft(0.3, right=True)
    patient = simulate([unsure] * 8, 0, COSTS, PATH, tuned(group=1, survival=0.01))
    assert simulate([unsure] * 8, 0, COSTS, PATH, tuned(group=1, survival=0.5)) > patient


def test_the_prompt_is_paid_before_the_first_verdict():
    costs = Costs(0.01, 0.03, 0.02, 500, 0.0, edge_prefill_s=0.001, upper_prefill_s=0.002)
    first = 10 * (0.001 + UPLOAD + 0.002) + 0.1 + 0.02
    assert simulate([SURE], 10, costs, PATH, tuned()) == pytest.approx(first)


@given(
    st.lists(st.builds(Draft, st.floats(0, 1), st.booleans(), st.booleans()), min_size=1),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_text_is_finished_and_no_faster_than_the_edge(drafts, group, survival, flush_below):
    tuning = Tuning(survival=survival, group=group, flush_below=flush_below, frame=group)
    seconds = simulate(drafts, 3, COSTS, PATH, tuning)
    assert seconds >= len(drafts) * COSTS.edge_s + PATH.round_trip_s / 2
