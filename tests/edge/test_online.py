"""The corrected λ: never laxer than the certified one, and a bound that no text can break."""

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.online import CEILING, STEP, OnlineLambda
from updraft.models.manifest import ExitEntry, Guarantee

EPSILONS = st.sampled_from([0.02, 0.05, 0.2])
CERTIFIED = st.floats(0.02, 0.999)
CONFIDENCES = st.floats(0, 1)


def guarantee(commit_from=0.9, epsilon=0.05):
    return Guarantee(
        epsilon=epsilon,
        delta=0.05,
        commit_from=commit_from,
        wire="fp16",
        temperature=0.0,
        max_tokens=64,
        sequences=100,
        risk=0.0,
        p_value=0.01,
        committed_share=0.5,
        prompts_sha256="0" * 64,
        fingerprint="f",
        exit=ExitEntry(layer=2, head="head.onnx", index=0),
    )


def log_odds(confidence):
    return math.log(confidence / (1 - confidence))


def drive(online, drafts, lag=0):
    """Commit drafts (confidence, wrong) by λ; labels come `lag` drafts late.

    Returns how many were committed and wrong, and the most that were committed and not judged.
    """
    waiting, committed_wrong, most = deque(), 0, 0

    def judge():
        confidence, commits, wrong = waiting.popleft()
        online.learn(confidence, committed=commits, wrong=wrong)

    for confidence, wrong in drafts:
        commits = confidence >= online.commit_from
        committed_wrong += commits and wrong
        waiting.append((confidence, commits, wrong))
        most = max(most, sum(committed for _, committed, _ in waiting))
        if len(waiting) > lag:
            judge()
    while waiting:
        judge()
    return committed_wrong, most


def test_untaught_it_is_the_certified_lambda():
    assert OnlineLambda(guarantee(0.9526)).commit_from == 0.9526


@given(CERTIFIED, EPSILONS, st.lists(st.tuples(CONFIDENCES, st.booleans(), st.booleans())))
def test_it_is_never_laxer_than_the_certified_lambda(certified, epsilon, labels):
    online = OnlineLambda(guarantee(certified, epsilon))
    for confidence, committed, wrong in labels:
        online.learn(confidence, committed=committed, wrong=wrong)
        assert online.commit_from >= certified


@given(
    CERTIFIED,
    EPSILONS,
    st.lists(st.tuples(st.sampled_from([0.1, 0.9, 0.999, 1.0]), st.booleans()), max_size=300),
    st.integers(0, 20),
)
def test_no_text_breaks_the_bound(certified, epsilon, drafts, lag):
    online = OnlineLambda(guarantee(certified, epsilon))
    wrong, most = drive(online, [*drafts, *drafts, *drafts], lag)
    room = max(0.0, CEILING - log_odds(certified)) / STEP
    assert wrong <= epsilon * online.judged + room + most * (1 - epsilon) + 1e-6


@pytest.mark.parametrize("lag", [0, 16])
def test_the_bound_holds_against_whoever_knows_lambda(lag):
    """Right where it is not committed, wrong where it is: the worst text that there is."""
    online = OnlineLambda(guarantee(0.9, 0.05))
    judged_wrong, waiting = 0, deque()
    for _ in range(20_000):
        commits = online.commit_from <= 0.9999
        judged_wrong += commits
        waiting.append((0.9999, commits, commits))
        if len(waiting) > lag:
            confidence, committed, wrong = waiting.popleft()
            online.learn(confidence, committed=committed, wrong=wrong)
    room = (CEILING - log_odds(0.9)) / STEP
    assert judged_wrong <= 0.05 * 20_000 + room + (lag + 1) * 0.95
    assert judged_wrong / 20_000 == pytest.approx(0.05, abs=0.005)


def test_under_drift_the_risk_falls_back_and_afterwards_lambda_does():
    rng = np.random.default_rng(0)
    online = OnlineLambda(guarantee(0.9, 0.02))

    def drafts(count, risk):
        """An exit that is wrong ten times as often below 0.99 as above."""
        confidence = rng.choice([0.95, 0.995], count)
        wrong = rng.random(count) < np.where(confidence < 0.99, risk, risk / 10)
        return list(zip(confidence.tolist(), wrong.tolist(), strict=True))

    calm, _ = drive(online, drafts(5_000, 0.01))
    assert calm / 5_000 <= 0.02
    drifted, _ = drive(online, drafts(5_000, 0.2))
    assert drifted / 5_000 <= 0.02 < online.wrong / online.judged
    assert online.commit_from > 0.95
    drive(online, drafts(5_000, 0.001))
    assert online.commit_from == 0.9


def test_a_calm_time_earns_no_credit():
    online = OnlineLambda(guarantee(0.9, 0.05))
    for _ in range(5_000):
        online.learn(0.95, committed=True, wrong=False)
    assert online.commit_from == 0.9
    online.learn(0.95, committed=True, wrong=True)
    assert online.commit_from > 0.9


def test_past_the_ceiling_nothing_is_committed_and_what_is_wrong_is_not_added_up():
    online = OnlineLambda(guarantee(0.9, 0.05))
    for _ in range(200):
        online.learn(1.0, committed=online.commit_from <= 1, wrong=True)
    assert online.commit_from == math.inf
    for _ in range(math.ceil((CEILING + STEP - log_odds(0.9)) / (STEP * 0.05)) + 1):
        online.learn(1.0, committed=online.commit_from <= 1, wrong=False)
    assert online.commit_from == 0.9


@pytest.mark.parametrize("confidence", [0.0, 0.8999, math.nan])
def test_a_draft_that_would_never_be_committed_teaches_nothing(confidence):
    online = OnlineLambda(guarantee(0.9))
    online.learn(confidence, committed=False, wrong=True)
    assert (online.judged, online.wrong, online.commit_from) == (0, 0, 0.9)


def test_it_counts_what_the_certified_lambda_would_have_risked():
    online = OnlineLambda(guarantee(0.9))
    for committed, wrong in ((True, True), (False, True), (False, False)):
        online.learn(0.95, committed=committed, wrong=wrong)
    assert (online.judged, online.wrong) == (3, 2)
