"""What `bounded` serves over the wire is the rule that its guarantee was calibrated on."""

import pytest

from updraft.edge.request import GenerationRequest
from updraft.errors import RequestError
from updraft.models.bounded import BoundedRule
from updraft.models.codecs import wire_codec
from updraft.models.guarantee import guarantee_for

_TOKENS = 48


@pytest.mark.parametrize("wire", ["fp16", "int8"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_bounded_gives_the_tokens_of_the_rule_in_one_process(
    coordinator, start_engine, complete, snippets, wire, temperature
):
    engine = start_engine(coordinator.address)
    codec = wire_codec(engine.bundle, wire)
    rule = BoundedRule(engine.model, codec, temperature, _TOKENS)
    compared = committed = 0
    for epsilon in (0.02, 0.05):
        choices = {"epsilon": epsilon, "wire": wire, "temperature": temperature, "seed": 5}
        commit_from = guarantee_for(engine.bundle, epsilon, wire, temperature).commit_from
        for prompt in snippets:
            expected = rule.ways(engine.tokenizer.encode(prompt), 5).at(commit_from)
            if any(expected.wrong):
                continue  # its labels would raise λ on the way
            found = complete(engine, prompt, "bounded", max_tokens=_TOKENS, **choices)
            assert found.tokens == list(expected.tokens)
            compared += 1
            committed += len(expected.wrong)
    assert compared >= 3
    assert committed > _TOKENS // 2


def test_labels_from_the_cloud_are_learnt(coordinator, start_engine, complete, snippets):
    engine = start_engine(coordinator.address)
    request = {"epsilon": 0.05, "wire": "fp16", "temperature": 0.8}
    commit_from = guarantee_for(engine.bundle, 0.05, "fp16", 0.8).commit_from
    rule = BoundedRule(engine.model, wire_codec(engine.bundle, "fp16"), 0.8, _TOKENS)
    for seed in range(40):
        for prompt in snippets:
            outcome = rule.ways(engine.tokenizer.encode(prompt), seed).at(commit_from)
            if not any(outcome.wrong):
                continue
            complete(engine, prompt, "bounded", max_tokens=_TOKENS, seed=seed, **request)
            (online,) = engine._commitments.values()
            assert 0 < online.wrong <= online.judged
            return
    raise AssertionError("no committed token was wrong: choose other prompts")


def test_a_text_longer_than_the_calibrated_ones_is_refused(engine):
    longest = min(g.max_tokens for g in engine.bundle.manifest.guarantees)
    with pytest.raises(RequestError, match=f"up to {longest} tokens"):
        engine.start(GenerationRequest("def ", "bounded", max_tokens=longest + 1))
