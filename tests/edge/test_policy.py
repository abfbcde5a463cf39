"""Exit policies: which confidence lets a token leave, and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.policy import Decision, NeverExit, StandaloneExit, ThresholdExit

CONFIDENCES = st.floats(0, 1)
THETAS = st.floats(0, 2)


@given(CONFIDENCES, st.booleans())
def test_full_depth_never_exits_and_evaluates_no_head(confidence, is_last):
    policy = NeverExit()
    assert not policy.looks
    assert policy.decide(confidence, is_last) is Decision.CONTINUE


@given(THETAS, CONFIDENCES, st.booleans())
def test_a_token_leaves_when_its_confidence_reaches_theta(theta, confidence, is_last):
    expected = Decision.EXIT if confidence >= theta else Decision.CONTINUE
    assert ThresholdExit(theta).decide(confidence, is_last) is expected


@given(THETAS, CONFIDENCES)
def test_the_last_exit_of_a_device_alone_takes_whatever_comes(theta, confidence):
    assert StandaloneExit(theta).decide(confidence, is_last=True) is Decision.EXIT


@given(THETAS, CONFIDENCES)
def test_earlier_exits_of_a_device_alone_keep_the_threshold(theta, confidence):
    alone, threshold = StandaloneExit(theta), ThresholdExit(theta)
    assert alone.decide(confidence, is_last=False) is threshold.decide(confidence, is_last=False)


@given(THETAS, THETAS, CONFIDENCES)
def test_a_stricter_theta_never_lets_more_tokens_leave(one, other, confidence):
    strict, loose = ThresholdExit(max(one, other)), ThresholdExit(min(one, other))
    if strict.decide(confidence, is_last=True) is Decision.EXIT:
        assert loose.decide(confidence, is_last=True) is Decision.EXIT


@pytest.mark.parametrize(("theta", "looks"), [(0, True), (1, True), (1.001, False), (2, False)])
def test_heads_are_evaluated_only_where_a_token_could_leave(theta, looks):
    assert ThresholdExit(theta).looks is looks
    assert StandaloneExit(theta).looks


@pytest.mark.parametrize("policy", [ThresholdExit(0.5), StandaloneExit(0.5)])
def test_a_confidence_that_is_no_number_is_not_trusted(policy):
    assert policy.decide(float("nan"), is_last=False) is Decision.CONTINUE
