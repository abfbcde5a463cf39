"""The coordinator goes away and comes back: every request is finished, and says what it lacks."""

import time

import pytest

from updraft.edge.link import Deadlines
from updraft.edge.request import GenerationRequest
from updraft.errors import ProtocolError

_BEFORE = 5
_TOKENS = 48


def run_into_the_kill(engine, daemon, request):
    """Take a few tokens, kill the coordinator, take the rest."""
    generation = engine.start(request)
    steps = iter(generation)
    before = [next(steps) for _ in range(_BEFORE)]
    daemon.kill()
    return generation, [*before, *steps]


def test_threshold_goes_on_alone_from_the_first_token_after_the_kill(
    start_coordinator, start_engine, long_prompt, complete
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    choices = {"theta": 1.5, "wire": "fp32", "max_tokens": _TOKENS}
    undisturbed = complete(engine, long_prompt, "threshold", **choices)
    request = GenerationRequest(long_prompt, "threshold", **choices)
    generation, tokens = run_into_the_kill(engine, daemon, request)
    result = generation.result
    assert len(result.tokens) == _TOKENS
    assert result.degraded
    assert result.unverified_from == generation.prompt_tokens + _BEFORE
    assert result.tokens[:_BEFORE] == undisturbed.tokens[:_BEFORE]
    assert [token.verified for token in tokens] == [True] * _BEFORE + [False] * (_TOKENS - _BEFORE)
    assert result.decisions["cloud"] == _BEFORE


def test_what_follows_the_kill_is_what_standalone_makes_of_it(
    start_coordinator, start_engine, long_prompt, complete
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    choices = {"theta": 0.0, "max_tokens": _TOKENS}
    alone = complete(engine, long_prompt, "standalone", **choices)
    request = GenerationRequest(long_prompt, "threshold", **choices)
    generation, _ = run_into_the_kill(engine, daemon, request)
    assert generation.result.tokens == alone.tokens
    assert not generation.result.degraded, "no token needed the cloud"


def test_cloud_goes_on_alone_after_what_had_arrived(
    start_coordinator, start_engine, long_prompt, complete
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    most = engine.bundle.manifest.architecture.context_length // 2
    undisturbed = complete(engine, long_prompt, "cloud", max_tokens=most)
    request = GenerationRequest(long_prompt, "cloud", max_tokens=most)
    generation, tokens = run_into_the_kill(engine, daemon, request)
    result = generation.result
    assert result.degraded
    verified = [token.verified for token in tokens]
    arrived = verified.index(False)
    assert arrived >= _BEFORE
    assert verified == [True] * arrived + [False] * (len(tokens) - arrived)
    assert result.unverified_from == generation.prompt_tokens + arrived
    assert result.tokens[:arrived] == undisturbed.tokens[:arrived]
    assert result.decisions["cloud"] == arrived
    assert result.finish_reason == "stop" or len(tokens) == most


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_the_next_generation_collaborates_when_the_coordinator_is_back(
    start_coordinator, start_engine, long_prompt, complete, wait_until, mode
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    daemon.kill()
    choices = {"theta": 1.5, "max_tokens": 4}
    assert complete(engine, long_prompt, mode, **choices).degraded
    start_coordinator(port=daemon.port)

    def collaborates():
        result = complete(engine, long_prompt, mode, **choices)
        assert len(result.tokens) == 4
        return not result.degraded

    wait_until(collaborates)


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_a_generation_collaborates_again_while_it_runs(
    start_coordinator, start_engine, long_prompt, mode
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    most = engine.bundle.manifest.architecture.context_length // 2
    request = GenerationRequest(long_prompt, mode, theta=1.5, max_tokens=most)
    generation = engine.start(request)
    tokens, back = [], False
    for token in generation:
        tokens.append(token)
        if len(tokens) == _BEFORE:
            daemon.kill()
        if not token.verified and not back:
            start_coordinator(port=daemon.port)
            back = True
        if not token.verified:
            time.sleep(0.2)  # a slow device: the generation must not end before the way is free
    verified = [token.verified for token in tokens]
    lost = verified.index(False)
    again = verified.index(True, lost)
    assert all(verified[again:])
    assert [token.source for token in tokens[again:]] == ["cloud"] * (len(tokens) - again)
    assert generation.result.degraded
    assert generation.result.unverified_from == generation.prompt_tokens + lost


def test_a_session_that_expired_before_it_was_used_costs_no_request(
    start_coordinator, start_engine, long_prompt
):
    """The way back is open, but the device is so slow that the coordinator gives it up again."""
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    generation = engine.start(GenerationRequest(long_prompt, "cloud", max_tokens=400))
    steps = iter(generation)
    next(steps)
    daemon.kill()
    while next(steps).verified:
        pass
    start_coordinator(port=daemon.port, config="[sessions]\nidle_expiry_s = 0.2\n")
    for _ in range(8):
        time.sleep(1)
        next(steps)
    generation.cancel()
    assert list(steps) == []
    assert generation.result.degraded


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_without_a_coordinator_every_token_is_unverified(
    start_coordinator, start_engine, long_prompt, complete, mode
):
    daemon = start_coordinator()
    daemon.kill()
    engine = start_engine(daemon.address)
    result = complete(engine, long_prompt, mode, theta=1.5, max_tokens=_TOKENS)
    assert len(result.tokens) == _TOKENS
    assert result.degraded
    assert result.unverified_from == len(engine.tokenizer.encode(long_prompt))
    assert result.cloud_calls == result.decisions["cloud"] == 0


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_a_coordinator_with_another_model_is_an_error_and_never_a_fallback(
    tiny_bundle, start_coordinator, start_engine, mode
):
    daemon = start_coordinator("--bundle", tiny_bundle.folder)
    generation = start_engine(daemon.address).start(GenerationRequest("def ", mode))
    with pytest.raises(ProtocolError, match="give both the same bundle"):
        list(generation)
    assert generation.result.tokens == []


def test_a_coordinator_that_comes_back_with_another_model_is_an_error(
    tiny_bundle, start_coordinator, start_engine, long_prompt
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    generation = engine.start(GenerationRequest(long_prompt, theta=1.5, max_tokens=200))
    steps = iter(generation)
    next(steps)
    daemon.kill()
    assert not next(steps).verified
    start_coordinator("--bundle", tiny_bundle.folder, port=daemon.port)

    def slowly():
        for _ in steps:
            time.sleep(0.2)

    with pytest.raises(ProtocolError, match="give both the same bundle"):
        slowly()


@pytest.mark.parametrize("mode", ["cloud", "threshold"])
def test_a_coordinator_that_hangs_is_left_after_the_deadline(
    start_coordinator, start_engine, long_prompt, complete, wait_until, mode
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address, deadlines=Deadlines(open_s=0.5, answer_s=0.5))
    choices = {"theta": 1.5, "max_tokens": 200}
    wait_until(lambda: not complete(engine, long_prompt, mode, **choices).degraded)
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices))
    steps = iter(generation)
    next(steps)
    daemon.hang()
    rest = list(steps)
    assert len(rest) == 199
    assert generation.result.degraded
    lost = [token.verified for token in rest].index(False)
    assert generation.result.unverified_from == generation.prompt_tokens + 1 + lost
    assert complete(engine, long_prompt, mode, theta=1.5, max_tokens=4).degraded
    daemon.resume()
    wait_until(lambda: not complete(engine, long_prompt, mode, **choices).degraded)


def test_a_stop_string_does_not_wait_for_a_cloud_that_decodes_on(
    start_coordinator, start_engine, long_prompt, complete
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address, deadlines=Deadlines(open_s=30, answer_s=3600))
    most = engine.bundle.manifest.architecture.context_length // 2
    text = complete(engine, long_prompt, "cloud", max_tokens=most).text
    stop = text[8:12]
    request = GenerationRequest(long_prompt, "cloud", max_tokens=most, stop=(stop,))
    generation = engine.start(request)
    for _ in generation:
        if stop in engine.tokenizer.decode(generation.result.tokens):
            daemon.hang()
    assert generation.result.finish_reason == "stop"
    assert generation.result.text == text[: text.index(stop)]
