"""The measurement of STOP: what its policies do to completions, and its figures."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.benchmarks.measures.stop import complete_tasks, read_tasks, rouge_l, score_setups
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

WORDS = st.lists(st.sampled_from(["a", "b", "(", "=="]), max_size=8).map(" ".join).map(str.encode)


@pytest.fixture(scope="module")
def tasks(bundle):
    return read_tasks(bundle)[:24]


@pytest.fixture(scope="module")
def found(bundle, tasks):
    return complete_tasks(Model.load(bundle, range(8), RuntimeOptions()), Tokenizer(bundle), tasks)


def test_a_broken_off_completion_is_the_start_of_the_one_without_stop(found):
    for setup, completions in found.items():
        if setup.stop_at <= 1 and not setup.escalates:
            for ours, whole in zip(completions, found[setup.without_stop], strict=True):
                assert whole.text.startswith(ours.text)
                assert ours.stopped or ours.text == whole.text
                assert ours.layer_positions <= whole.layer_positions


def test_escalating_goes_on_to_the_end(found):
    for setup, completions in found.items():
        if setup.escalates:
            twin = next(
                other
                for other in found
                if not other.escalates and other[1:3] == (setup.theta, setup.stop_at)
            )
            for ours, abstained in zip(completions, found[twin], strict=True):
                assert ours.stopped == abstained.stopped
                assert not ours.broken_off
                assert ours.tokens >= abstained.tokens
                assert ours.text.startswith(abstained.text)


def test_a_higher_stop_at_stops_no_more_lines_and_no_earlier(found):
    for policy in {(setup.theta, setup.escalates) for setup in found}:
        setups = sorted(
            (s for s in found if (s.theta, s.escalates) == policy), key=lambda s: s.stop_at
        )
        for strict, lax in pairwise(setups):
            for early, late in zip(found[strict], found[lax], strict=True):
                assert early.stopped or not late.stopped


def test_scores_add_up(tasks, found):
    scores = score_setups(tasks, found)
    full = next(iter(scores.values()))
    assert (full.skipped, full.time_ratio, full.rate_ratio, full.stopped) == (0, 1, 1, 0)
    for setup, score in scores.items():
        assert score.skipped >= score.skipped_after
        assert score.right <= score.shown
        assert setup.escalates or score.shown == pytest.approx(1 - score.stopped)


@given(WORDS, WORDS)
def test_rouge_lies_between_0_and_1_and_has_no_sides(one, other):
    assert 0 <= rouge_l(one, other) == rouge_l(other, one) <= 1
    assert rouge_l(one, one) == 1


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [
        (b"f(x)", b"f(y)", 0.75),
        (b"return", b"return x", 2 / 3),
        (b"a b c", b"c b a", 1 / 3),
        (b"", b"x", 0),
    ],
)
def test_rouge_counts_the_longest_common_subsequence(text, reference, score):
    assert rouge_l(text, reference) == pytest.approx(score)
