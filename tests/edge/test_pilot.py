"""What the pilot chooses, given what the link has been like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.estimate import LinkEstimate
from updraft.edge.pilot import Pilot
from updraft.edge.request import GenerationRequest
from updraft.errors import RequestError

_PROMPT = 200


def pilot_on(bundle, round_trip_s, bytes_per_s=None):
    estimate = LinkEstimate()
    estimate.round_trip(round_trip_s, 0.0)
    estimate.bytes_per_s = bytes_per_s
    return Pilot(bundle, estimate)


def auto(**choices):
    return GenerationRequest("def ", "auto", max_tokens=64, **choices)


@given(st.floats(0, 10), st.none() | st.floats(1e3, 1e10), st.booleans(), st.floats(0, 100))
def test_the_tuning_stays_within_its_bounds(bundle, round_trip_s, bytes_per_s, ids, temperature):
    pilot = pilot_on(bundle, round_trip_s, bytes_per_s)
    tuning = pilot.tuning("int8", ids, temperature)
    assert 0.05 <= pilot.tuning("int8", ids).survival <= 0.35
    assert pilot.tuning("int8", ids).survival <= tuning.survival < 0.5
    assert 1 <= tuning.frame <= tuning.group
    assert 0 <= tuning.alternatives <= 2


def test_a_longer_round_trip_is_worth_more_drafts(bundle):
    tunings = [pilot_on(bundle, seconds).tuning("int8") for seconds in (0, 0.002, 0.02, 0.2)]
    survivals = [tuning.survival for tuning in tunings]
    assert survivals == sorted(survivals, reverse=True)
    assert survivals[0] > survivals[-1]
    assert tunings[0].alternatives == 0
    assert tunings[-1].alternatives == 2


def test_a_slow_uplink_sends_states_as_they_come(bundle):
    assert pilot_on(bundle, 0.01, 1e5).tuning("fp16").frame == 1
    assert pilot_on(bundle, 0.01, 1e9).tuning("fp16").frame > 1


def test_a_fast_link_keeps_the_most_faithful_codec_and_a_slow_one_sends_little(bundle):
    fast = pilot_on(bundle, 0.002, 1e9).choose(auto(), _PROMPT)
    slow = pilot_on(bundle, 0.002, 2e4).choose(auto(), _PROMPT)
    assert (fast.mode, fast.wire) == ("lossless", "fp16")
    assert slow.mode == "ids"
    assert slow.uplink_bytes < fast.uplink_bytes


@given(st.integers(4 * _PROMPT, 300_000), st.floats(0, 0.2))
def test_an_uplink_budget_is_planned_for(bundle, budget, round_trip_s):
    choice = pilot_on(bundle, round_trip_s).choose(auto(max_uplink_bytes=budget), _PROMPT)
    assert choice.uplink_bytes <= budget
    assert choice.mode in ("lossless", "ids", "cloud")


def test_a_budget_below_the_prompt_is_refused(bundle):
    with pytest.raises(RequestError, match="token ids alone take 800"):
        pilot_on(bundle, 0.01).choose(auto(max_uplink_bytes=799), _PROMPT)


def test_the_cloud_decodes_only_for_a_latency_that_needs_it(bundle):
    assert pilot_on(bundle, 0.1).choose(auto(), _PROMPT).mode != "cloud"
    assert pilot_on(bundle, 0.1).choose(auto(max_latency_ms=5), _PROMPT).mode == "cloud"
    assert pilot_on(bundle, 0.1).choose(auto(max_latency_ms=500), _PROMPT).mode != "cloud"


def test_a_choice_is_kept_until_another_is_clearly_better(bundle):
    pilot = pilot_on(bundle, 0.01, 2e4)
    first = pilot.choose(auto(), _PROMPT)
    pilot._estimate.bytes_per_s = 1e9
    again = pilot.choose(auto(), _PROMPT)
    fresh = pilot_on(bundle, 0.01, 1e9).choose(auto(), _PROMPT)
    assert again.predicted_s <= fresh.predicted_s / 0.9
    assert first.mode == "ids"


def test_what_was_judged_moves_the_expectation(bundle):
    sure, unsure = pilot_on(bundle, 0.05), pilot_on(bundle, 0.05)
    for _ in range(20):
        sure.learn(64, 64)
        unsure.learn(64, 32)
    assert sure.choose(auto(), 50).predicted_s < unsure.choose(auto(), 50).predicted_s
    unsure.learn(0, 0)
