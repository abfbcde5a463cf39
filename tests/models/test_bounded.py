"""The bounded rule in one process, against the same rule written plainly."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updraft.models.bounded import BoundedRule, Outcome
from updraft.models.codecs import wire_codec
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

PROMPT = [5, 17, 40, 3, 99, 260, 41]
LAMBDAS = (1.1, 0.5, 0.1, 0.05, 0.03, 0.02, 0.0)
NEW = 20


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return Model.load(tiny_bundle, range(4), RuntimeOptions())


class Nothing:
    """A codec after which nothing is left."""

    name = "fp32"

    def encode(self, states):
        return b""

    def decode(self, payload, count, width):
        return np.zeros((count, width), np.float32)


def plainly(model, codec, tokens, commit_from, sampling):
    """The rule with no memory: the whole prefix runs again for every token."""
    split, tokens, wrong, start = 2, list(tokens), [], len(tokens)
    while len(tokens) < start + NEW:
        lower = model.below(split).new_sequence()
        lower.append(tokens)
        states = lower.advance(split)
        upper = model.above(split).new_sequence()
        upper.append(codec.decode(codec.encode(states), *states.shape))
        upper.advance(4)
        draft = lower.propose(split, sampling, len(tokens))
        whole = upper.propose(4, sampling, len(tokens)).token
        if draft.confidence >= commit_from:
            wrong.append(draft.token != whole)
        tokens.append(draft.token if draft.confidence >= commit_from else whole)
        if tokens[-1] == model.bundle.manifest.tokenizer.end_of_text:
            break
    return Outcome(tuple(tokens[start:]), tuple(wrong))


def ways(model, temperature=0.0, seed=0, wire="fp16"):
    rule = BoundedRule(model, wire_codec(model.bundle, wire), temperature, NEW)
    return rule.ways(PROMPT, seed)


@pytest.mark.parametrize("wire", ["fp32", "fp16"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_it_is_the_rule_written_plainly(model, wire, temperature):
    found = ways(model, temperature, 3, wire)
    codec, sampling = wire_codec(model.bundle, wire), Sampling(temperature, 3)
    outcomes = [found.at(commit_from) for commit_from in LAMBDAS]
    assert outcomes == [plainly(model, codec, PROMPT, at, sampling) for at in LAMBDAS]
    assert len({outcome.tokens for outcome in outcomes}) > 2


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations(LAMBDAS), st.sampled_from([0.0, 1.0]))
def test_what_was_run_before_changes_nothing(model, order, temperature):
    shared = ways(model, temperature)
    assert {at: shared.at(at) for at in order} == {
        at: ways(model, temperature).at(at) for at in order
    }


def test_above_every_confidence_it_is_the_whole_model(model):
    outcome = ways(model, wire="fp32").at(1.1)
    sequence, tokens = model.new_sequence(), []
    sequence.append(PROMPT)
    for _ in range(NEW):
        sequence.advance(4)
        tokens.append(sequence.propose(4, Sampling(), 0).token)
        sequence.append(tokens[-1:])
    assert outcome == (tuple(tokens), ())
    assert outcome.loss == 0


def test_below_every_confidence_it_is_the_exit_alone_and_the_codec_is_none_of_its_business(model):
    outcome = ways(model, wire="fp32").at(0.0)
    assert len(outcome.wrong) == len(outcome.tokens)
    deaf = BoundedRule(model, Nothing(), 0.0, NEW).ways(PROMPT, 0).at(0.0)
    assert deaf.tokens == outcome.tokens
    assert deaf.wrong != outcome.wrong


def test_a_text_that_ends_early_ends_the_sequence(model):
    end = model.bundle.manifest.tokenizer.end_of_text
    found = [ways(model, 50.0, seed).at(0.01) for seed in range(40)]
    early = [outcome.tokens for outcome in found if len(outcome.tokens) < NEW]
    assert early
    assert all(tokens[-1] == end for tokens in early)
    assert all(end not in outcome.tokens[:-1] for outcome in found)


@pytest.mark.parametrize(
    ("wrong", "loss"), [((), 0), ((False,), 0), ((True,), 1), ((True, False, False, False), 0.25)]
)
def test_the_loss_is_the_share_of_committed_tokens_that_are_wrong(wrong, loss):
    assert Outcome((1,) * 9, wrong).loss == loss
