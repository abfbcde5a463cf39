"""The modes of the engine against a real coordinator: what each promises, token by token."""

import pytest

from updraft.edge.request import GenerationRequest
from updraft.edge.session import Terms
from updraft.models.sampling import Sampling

_TOKENS = 32
SAMPLINGS = [{}, {"temperature": 0.8, "seed": 1}, {"temperature": 1.3, "seed": 2**63 - 1}]
BYTES_PER_VALUE = {"fp16": 2, "fp32": 4}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_cloud_gives_exactly_the_tokens_of_full(engine, complete, snippets, sampling):
    for prompt in snippets:
        full = complete(engine, prompt, "full", max_tokens=_TOKENS, **sampling)
        cloud = complete(engine, prompt, "cloud", max_tokens=_TOKENS, **sampling)
        assert cloud.tokens == full.tokens
        assert (cloud.text, cloud.finish_reason) == (full.text, full.finish_reason)
        assert not cloud.degraded


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_threshold_above_one_on_a_fp32_wire_gives_exactly_the_tokens_of_cloud(
    engine, complete, snippets, sampling
):
    for prompt in snippets:
        choices = {"max_tokens": _TOKENS, **sampling}
        cloud = complete(engine, prompt, "cloud", **choices)
        threshold = complete(engine, prompt, "threshold", theta=1.5, wire="fp32", **choices)
        assert threshold.tokens == cloud.tokens
        assert threshold.cloud_calls == threshold.decisions["cloud"] == len(cloud.tokens)
        assert not threshold.degraded


@pytest.mark.parametrize("theta", [0, 0.5, 1.5])
@pytest.mark.parametrize("wire", BYTES_PER_VALUE)
def test_the_uplink_carries_every_position_once(engine, complete, snippets, theta, wire):
    width = engine.bundle.manifest.architecture.width
    for prompt in snippets:
        result = complete(engine, prompt, "threshold", theta=theta, wire=wire, max_tokens=_TOKENS)
        positions = len(engine.tokenizer.encode(prompt)) + len(result.tokens) - 1
        assert result.uplink_bytes == BYTES_PER_VALUE[wire] * width * positions
        assert not result.degraded


@pytest.mark.parametrize("theta", [0, 0.5, 1.5])
def test_the_decisions_account_for_every_token(engine, complete, long_prompt, theta):
    manifest = engine.bundle.manifest
    result = complete(engine, long_prompt, "threshold", theta=theta, max_tokens=_TOKENS)
    assert list(result.decisions) == [
        *(f"exit_{exit_.layer}" for exit_ in manifest.exits),
        "cloud",
        "stop",
    ]
    assert sum(result.decisions.values()) == len(result.tokens) == _TOKENS
    assert result.cloud_calls == result.decisions["cloud"]
    first_exit = f"exit_{manifest.edge_exits[0].layer}"
    if theta == 0:
        assert result.decisions[first_exit] == _TOKENS
    if theta > 1:
        assert result.decisions["cloud"] == _TOKENS


def test_the_cloud_computes_every_position_once_however_late_it_is_asked(
    engine, complete, long_prompt
):
    result = complete(engine, long_prompt, "threshold", theta=1.5, max_tokens=_TOKENS)
    prompt = len(engine.tokenizer.encode(long_prompt))
    assert result.cloud_positions == prompt + _TOKENS - 1
    less = complete(engine, long_prompt, "threshold", theta=0, max_tokens=_TOKENS)
    assert less.cloud_positions == 0


def test_standalone_makes_no_cloud_calls(engine, complete, long_prompt):
    result = complete(engine, long_prompt, "standalone", max_tokens=_TOKENS)
    assert result.decisions["cloud"] == result.cloud_calls == 0
    assert result.uplink_bytes == result.downlink_bytes == 0
    assert result.comm_s == result.cloud_s == 0
    assert len(result.tokens) == _TOKENS
    assert not result.degraded
    assert result.unverified_from is None


@pytest.mark.parametrize("mode", ["full", "cloud", "threshold", "standalone"])
def test_a_seed_gives_the_same_tokens_again_and_another_seed_others(
    engine, complete, long_prompt, mode
):
    choices = {"temperature": 1.0, "max_tokens": _TOKENS}
    once = complete(engine, long_prompt, mode, seed=3, **choices)
    assert complete(engine, long_prompt, mode, seed=3, **choices).tokens == once.tokens
    assert complete(engine, long_prompt, mode, seed=4, **choices).tokens != once.tokens


@pytest.mark.parametrize("mode", ["full", "cloud", "threshold", "standalone"])
def test_a_stop_string_ends_the_text_before_it(engine, complete, long_prompt, mode):
    whole = complete(engine, long_prompt, mode, max_tokens=_TOKENS)
    middle = len(whole.text) // 2
    stop = whole.text[middle : middle + 3]
    stopped = complete(engine, long_prompt, mode, max_tokens=_TOKENS, stop=(stop,))
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    assert stopped.tokens == whole.tokens[: len(stopped.tokens)]


@pytest.mark.parametrize("mode", ["full", "cloud", "threshold", "standalone"])
def test_what_streams_out_is_the_text(engine, snippets, mode):
    for prompt in snippets:
        generation = engine.start(GenerationRequest(prompt, mode, max_tokens=_TOKENS))
        tokens = list(generation)
        assert "".join(token.text for token in tokens) == generation.result.text
        assert [token.token for token in tokens] == generation.result.tokens
        start = generation.prompt_tokens
        assert [token.position for token in tokens] == list(range(start, start + len(tokens)))


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_cancelling_in_the_middle_ends_the_session(engine, long_prompt, wait_until, mode):
    wait_until(lambda: engine.link.describe().sessions == 0)
    generation = engine.start(GenerationRequest(long_prompt, mode, theta=1.5, max_tokens=_TOKENS))
    for count, _ in enumerate(generation, start=1):
        if count == 4:
            # In mode `cloud` the coordinator is ahead, and may be through already.
            assert mode == "cloud" or engine.link.describe().sessions == 1
            generation.cancel()
    assert generation.result.finish_reason == "cancelled"
    assert len(generation.result.tokens) == 4
    wait_until(lambda: engine.link.describe().sessions == 0)


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_leaving_the_loop_in_the_middle_ends_the_session(engine, long_prompt, wait_until, mode):
    generation = iter(engine.start(GenerationRequest(long_prompt, mode, theta=1.5)))
    next(generation)
    generation.close()
    wait_until(lambda: engine.link.describe().sessions == 0)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_sliding_bundle_goes_on_beyond_its_context(
    sliding_bundle, start_coordinator, start_engine, complete, sampling
):
    daemon = start_coordinator("--bundle", sliding_bundle.folder)
    engine = start_engine(daemon.address, of=sliding_bundle)
    limit = sliding_bundle.manifest.architecture.context_length
    wanted = 3 * limit
    choices = {"max_tokens": wanted, "wire": "fp32", **sampling}
    for prompt in ("def ", "for item in items:\n    " * 40):
        full = complete(engine, prompt, "full", **choices)
        cloud = complete(engine, prompt, "cloud", **choices)
        threshold = complete(engine, prompt, "threshold", theta=1.5, **choices)
        assert cloud.tokens == full.tokens
        assert threshold.tokens == full.tokens
        assert not (cloud.degraded or threshold.degraded)
        if full.finish_reason == "length":
            assert len(full.tokens) == wanted
    early = complete(engine, "def ", "threshold", theta=0.0, **choices)
    assert not early.degraded


def test_a_link_is_shared_by_modes_and_by_samplings(engine, wait_until):
    wait_until(lambda: engine.link.describe().sessions == 0)
    sessions = [engine.link.open(Terms("fp16", Sampling(t, 5))) for t in (0.0, 1.0)]
    for session in sessions:
        session.opened.result()
    assert engine.link.describe().sessions == len(sessions)
    for session in sessions:
        session.finish()
    wait_until(lambda: engine.link.describe().sessions == 0)
