"""STOP in the decoding loop: the text ends, or the cloud takes it over, where a rule says so."""

import pytest

from updraft.edge.request import GenerationRequest

_TOKENS = 32


def test_a_stop_at_zero_ends_every_text_before_its_first_token(engine, complete, snippets):
    for mode in ("standalone", "threshold", "lossless"):
        result = complete(engine, snippets[0], mode, max_tokens=_TOKENS, stop_at=0.0)
        assert result.tokens == []
        assert result.finish_reason == "abstained"
        assert result.decisions["stop"] == 1


@pytest.mark.parametrize("mode", ["standalone", "threshold", "lossless"])
def test_an_abstained_text_is_the_start_of_the_whole_one(engine, complete, snippets, mode):
    stopped = 0
    for prompt in snippets:
        for stop_at in (0.9, 0.97, 0.99):
            choices = {"max_tokens": _TOKENS, "theta": 0.8}
            whole = complete(engine, prompt, mode, **choices)
            result = complete(engine, prompt, mode, stop_at=stop_at, **choices)
            assert result.tokens == whole.tokens[: len(result.tokens)]
            assert result.text == whole.text[: len(result.text)]
            assert (result.finish_reason == "abstained") == (result.decisions["stop"] == 1)
            if result.finish_reason != "abstained":
                assert result.tokens == whole.tokens
            stopped += result.decisions["stop"]
    assert stopped


def test_lossless_stops_where_full_depth_decoding_by_the_same_exit_would(
    engine, complete, snippets
):
    """Drafting ahead must not change where a text stops: fp16 or fp32, grouped or one by one."""
    for prompt in snippets:
        lossless = complete(
            engine, prompt, "lossless", max_tokens=_TOKENS, stop_at=0.97, wire="fp32"
        )
        threshold = complete(
            engine, prompt, "threshold", max_tokens=_TOKENS, stop_at=0.97, wire="fp32", theta=1.0
        )
        # Both look at the exit at the split before every token; `threshold` at the one before too.
        assert lossless.tokens[: len(threshold.tokens)] == threshold.tokens


@pytest.mark.parametrize("mode", ["threshold", "lossless"])
def test_an_escalated_text_is_finished_by_the_cloud(engine, complete, snippets, mode):
    escalated = 0
    for prompt in snippets:
        choices = {"max_tokens": _TOKENS, "theta": 1.0}
        whole = complete(engine, prompt, "cloud", **choices)
        result = complete(engine, prompt, mode, stop_at=0.95, on_stop="escalate", **choices)
        assert result.tokens == whole.tokens
        assert result.finish_reason == whole.finish_reason
        escalated += result.decisions["stop"]
    assert escalated


def test_the_session_of_an_abstained_text_ends(engine, snippets, wait_until):
    generation = engine.start(GenerationRequest(snippets[0], "lossless", stop_at=0.9))
    assert len(list(generation)) < 64
    wait_until(lambda: engine.link.describe().sessions == 0)
