"""Modes that draft ahead, against a real coordinator: the text is the whole model's."""

from dataclasses import replace

import pytest

from updraft.benchmarks.collab.emulator import Emulator
from updraft.benchmarks.collab.wire import Link
from updraft.config.endpoint import parse_endpoint
from updraft.edge.request import GenerationRequest

_TOKENS = 48
_SAMPLINGS = [{}, {"temperature": 0.8, "seed": 1}, {"temperature": 1.3, "seed": 2**63 - 1}]
_EXACT = ["lossless", "ids", "auto"]


# How a token is drawn does not depend on the codec: each codec in one way, each way in two codecs.
@pytest.mark.parametrize(
    ("wire", "sampling"),
    list(zip(["fp32", "fp16", "bf16", "int8", "int6", "int4"], 2 * _SAMPLINGS, strict=True)),
)
def test_lossless_and_ids_give_exactly_the_tokens_of_cloud(
    engine, complete, snippets, wire, sampling
):
    for prompt in snippets:
        choices = {"max_tokens": _TOKENS, "wire": wire, **sampling}
        cloud = complete(engine, prompt, "cloud", **choices)
        for mode in ("full", "lossless", "ids"):
            result = complete(engine, prompt, mode, **choices)
            assert result.tokens == cloud.tokens, mode
            assert (result.text, result.finish_reason) == (cloud.text, cloud.finish_reason)
            assert not result.degraded


def test_drafts_are_judged_in_groups_and_what_they_cost_is_counted(engine, complete, long_prompt):
    result = complete(engine, long_prompt, "lossless", max_tokens=_TOKENS)
    exit_name = f"exit_{engine.bundle.manifest.split}"
    assert result.judged >= result.agreed > 0
    assert result.decisions[exit_name] + result.decisions["cloud"] == len(result.tokens)
    assert result.decisions["cloud"] == result.judged - result.agreed
    assert result.cloud_calls < len(result.tokens)
    prompt = len(engine.tokenizer.encode(long_prompt))
    width = engine.bundle.manifest.architecture.width
    # Every position goes up once, and some more after rejected drafts.
    assert result.uplink_bytes >= 2 * width * (prompt + len(result.tokens) - 1)
    assert result.cloud_positions >= prompt + len(result.tokens) - 1


def test_ids_sends_token_ids_and_no_states(engine, complete, long_prompt):
    result = complete(engine, long_prompt, "ids", max_tokens=_TOKENS)
    prompt = len(engine.tokenizer.encode(long_prompt))
    assert 4 * (prompt + _TOKENS - 1) <= result.uplink_bytes <= 8 * (prompt + 2 * _TOKENS)


@pytest.mark.parametrize("mode", _EXACT)
@pytest.mark.parametrize("sampling", _SAMPLINGS[:2])
def test_what_streams_out_is_the_text(engine, snippets, mode, sampling):
    for prompt in snippets:
        generation = engine.start(GenerationRequest(prompt, mode, max_tokens=_TOKENS, **sampling))
        tokens = list(generation)
        assert "".join(token.text for token in tokens) == generation.result.text
        assert [token.token for token in tokens] == generation.result.tokens
        start = generation.prompt_tokens
        assert [token.position for token in tokens] == list(range(start, start + len(tokens)))
        assert all(token.verified for token in tokens)


@pytest.mark.parametrize("mode", _EXACT)
def test_a_stop_string_ends_the_text_before_it(engine, complete, long_prompt, mode):
    whole = complete(engine, long_prompt, mode, max_tokens=_TOKENS)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]
    stopped = complete(engine, long_prompt, mode, max_tokens=_TOKENS, stop=(stop,))
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]


@pytest.mark.parametrize("mode", _EXACT)
def test_leaving_the_loop_in_the_middle_ends_the_session(engine, long_prompt, wait_until, mode):
    generation = iter(engine.start(GenerationRequest(long_prompt, mode)))
    next(generation)
    generation.close()
    wait_until(lambda: engine.link.describe().sessions == 0)


@pytest.mark.parametrize("sampling", _SAMPLINGS[:2])
def test_a_sliding_bundle_goes_on_beyond_its_context(
    sliding_bundle, start_coordinator, start_engine, complete, sampling
):
    daemon = start_coordinator("--bundle", sliding_bundle.folder)
    engine = start_engine(daemon.address, of=sliding_bundle)
    limit = sliding_bundle.manifest.architecture.context_length
    choices = {"max_tokens": 3 * limit, "wire": "fp32", **sampling}
    for prompt in ("def ", "for item in items:\n    " * 40):
        full = complete(engine, prompt, "full", **choices)
        for mode in ("lossless", "ids"):
            result = complete(engine, prompt, mode, **choices)
            assert result.tokens == full.tokens, mode
            assert not result.degraded


def test_auto_says_what_it_chose_and_keeps_its_uplink_budget(engine, complete, long_prompt):
    free = complete(engine, long_prompt, "auto", max_tokens=_TOKENS)
    assert free.mode in ("lossless", "ids", "cloud")
    cloud = complete(engine, long_prompt, "cloud", max_tokens=_TOKENS, wire=free.wire)
    assert free.tokens == cloud.tokens
    prompt = len(engine.tokenizer.encode(long_prompt))
    tight = complete(
        engine,
        long_prompt,
        "auto",
        max_tokens=_TOKENS,
        max_uplink_bytes=4 * prompt + 4 * 3 * _TOKENS,
    )
    assert tight.mode in ("ids", "cloud")
    assert tight.uplink_bytes <= 4 * prompt + 4 * 3 * _TOKENS


def test_auto_keeps_a_latency_by_letting_the_cloud_decode(engine, complete, long_prompt):
    engine.estimate.round_trip_s, before = 0.5, engine.estimate.round_trip_s
    engine.estimate.samples += 1
    try:
        request = GenerationRequest(long_prompt, "auto", max_tokens=_TOKENS)
        patient = engine.pilot.choose(request, 100)
        hurried = engine.pilot.choose(replace(request, max_latency_ms=20), 100)
    finally:
        engine.estimate.round_trip_s = before
    assert patient.mode != "cloud"
    assert hurried.mode == "cloud"


@pytest.mark.parametrize("wire", ["fp16", "int8"])
def test_an_uplink_limit_that_leaves_nothing_to_waste_costs_speed_and_not_the_text(
    engine, complete, long_prompt, wire
):
    choices = {"max_tokens": _TOKENS, "wire": wire}
    free = complete(engine, long_prompt, "lossless", **choices)
    prompt = len(engine.tokenizer.encode(long_prompt))
    positions = prompt + _TOKENS - 1
    once = engine.bundle.manifest.architecture.width * (2 if wire == "fp16" else 1)
    limit = positions * (once + 4)
    tight = complete(engine, long_prompt, "lossless", max_uplink_bytes=limit, **choices)
    assert tight.tokens == free.tokens
    assert tight.uplink_bytes <= limit
    assert tight.cloud_calls > free.cloud_calls


@pytest.mark.parametrize("sampling", _SAMPLINGS[:2])
@pytest.mark.parametrize("mode", ["lossless", "ids"])
def test_foreseen_replacements_change_nothing_but_the_waiting(
    coordinator, start_engine, complete, snippets, monkeypatch, mode, sampling
):
    """Over a link that is slow enough to leave time for them."""
    emulator = Emulator(parse_endpoint(coordinator.address))
    emulator.shape(Link(40, 100))
    engine = start_engine(str(emulator.endpoint))
    usual = engine.pilot.tuning
    monkeypatch.setattr(
        engine.pilot, "tuning", lambda *of: replace(usual(*of), alternatives=3, survival=0.05)
    )
    foreseen = 0
    for prompt in snippets:
        cloud = complete(engine, prompt, "cloud", max_tokens=_TOKENS, **sampling)
        result = complete(engine, prompt, mode, max_tokens=_TOKENS, **sampling)
        assert result.tokens == cloud.tokens
        assert not result.degraded
        assert result.foreseen <= result.judged - result.agreed
        foreseen += result.foreseen
    emulator.close()
    assert foreseen
