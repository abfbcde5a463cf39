"""Sequences: what comes out depends on the tokens, never on how they went in."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

_CONTEXT, _SPLIT, _TOP = 64, 2, 4
_EXITS = (1, _SPLIT, _TOP)
_STATE_TOLERANCE = 1e-4
_LOGIT_TOLERANCE = 1e-3
_reference = runpy.run_path(str(Path(__file__).with_name("reference.py")))

TOKENS = st.lists(st.integers(0, 256), min_size=1, max_size=_CONTEXT)
examples = settings(max_examples=30)


@st.composite
def schedules(draw, layers):
    """A text cut into chunks, each with the layer to advance to after it, or None."""
    rest, steps = draw(TOKENS), []
    while rest:
        size = draw(st.integers(1, len(rest)))
        chunk, rest = rest[:size], rest[size:]
        steps.append((chunk, draw(st.sampled_from(layers))))
    return steps


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return Model.load(tiny_bundle, range(_TOP), RuntimeOptions())


@pytest.fixture(scope="module")
def reference(tiny_plan, tiny_weights):
    return _reference["ReferenceDecoder"](
        tiny_plan.architecture, tiny_weights, tiny_plan.quantization.block
    )


def in_one_pass(model, inputs):
    sequence = model.new_sequence()
    sequence.append(inputs)
    sequence.advance(model.top)
    return sequence


def play(sequence, steps):
    """Follow a schedule, and check that each advance returns the positions new to its layer."""
    for chunk, layer in steps:
        sequence.append(chunk)
        if layer is not None:
            before = sequence.done(layer)
            assert len(sequence.advance(layer)) == sequence.length - before
            assert sequence.done(layer) == sequence.length


def assert_same(model, sequence, expected, layers=_EXITS):
    assert sequence.length == expected.length
    for layer in layers:
        states, right = (s.states(layer, 0, expected.length) for s in (sequence, expected))
        np.testing.assert_allclose(states, right, rtol=0, atol=_STATE_TOLERANCE)
        have, want = model.heads.predict(layer, states), model.heads.predict(layer, right)
        np.testing.assert_allclose(have.logits, want.logits, rtol=0, atol=_LOGIT_TOLERANCE)
        second, first = np.sort(want.logits, axis=1)[:, -2:].T
        clear = first - second > 2 * _LOGIT_TOLERANCE
        np.testing.assert_array_equal(have.token[clear], want.token[clear])


@examples
@given(steps=schedules([None, *_EXITS]))
def test_states_and_tokens_do_not_depend_on_how_positions_are_grouped(model, steps):
    sequence = model.new_sequence()
    play(sequence, steps)
    sequence.advance(_TOP)
    assert_same(model, sequence, in_one_pass(model, [t for chunk, _ in steps for t in chunk]))


@examples
@given(tokens=TOKENS, needed=st.sets(st.integers(0, _CONTEXT - 1)))
def test_catching_up_gives_what_running_each_step_gives(model, tokens, needed):
    eager, deferred = model.new_sequence(), model.new_sequence()
    for position, token in enumerate(tokens):
        play(eager, [([token], _TOP)])
        play(deferred, [([token], _TOP if position in needed else _SPLIT)])
        if position in needed:
            proposals = [s.propose(_TOP, Sampling(), position) for s in (eager, deferred)]
            assert proposals[0].confidence == pytest.approx(proposals[1].confidence, abs=1e-4)
    deferred.advance(_TOP)
    assert_same(model, deferred, eager)


@examples
@given(steps=schedules([_SPLIT]))
def test_below_and_above_the_split_equal_the_whole(model, steps):
    lower = model.below(_SPLIT).new_sequence()
    upper = model.above(_SPLIT).new_sequence()
    for chunk, _ in steps:
        lower.append(chunk)
        upper.append(lower.advance(_SPLIT).copy())
    upper.advance(_TOP)
    expected = in_one_pass(model, [t for chunk, _ in steps for t in chunk])
    assert_same(model, lower, expected, [1, _SPLIT])
    assert_same(model, upper, expected, [_TOP])


@examples
@given(tokens=TOKENS)
def test_states_logits_and_confidence_match_the_reference_decoder(model, reference, tokens):
    sequence, states = in_one_pass(model, tokens), reference.states(tokens)
    for layer in _EXITS:
        own = sequence.states(layer, 0, len(tokens))
        np.testing.assert_allclose(own, states[layer], rtol=0, atol=_LOGIT_TOLERANCE)
        predictions = model.heads.predict(layer, own)
        logits = reference.logits(layer, states[layer])
        np.testing.assert_allclose(predictions.logits, logits, rtol=0, atol=_LOGIT_TOLERANCE)
        probabilities = _reference["softmax"](predictions.logits.astype(np.float64))
        np.testing.assert_allclose(predictions.probability, probabilities.max(axis=1), rtol=1e-5)
        np.testing.assert_array_equal(predictions.token, predictions.logits.argmax(axis=1))


@examples
@given(first=schedules(_EXITS), second=schedules(_EXITS))
def test_interleaved_sequences_do_not_disturb_each_other(model, first, second):
    sequences = [model.new_sequence(), model.new_sequence()]
    for turn in range(max(len(first), len(second))):
        for sequence, steps in zip(sequences, (first, second), strict=True):
            play(sequence, steps[turn : turn + 1])
    for sequence, steps in zip(sequences, (first, second), strict=True):
        sequence.advance(_TOP)
        assert_same(model, sequence, in_one_pass(model, [t for chunk, _ in steps for t in chunk]))


@examples
@given(tokens=TOKENS, layer=st.sampled_from(_EXITS), seed=st.integers(0, 1 << 62))
def test_a_proposal_is_drawn_from_the_last_positions_logits(model, tokens, layer, seed):
    sequence = in_one_pass(model, tokens)
    predictions = model.heads.predict(layer, sequence.states(layer, len(tokens) - 1, len(tokens)))
    greedy = sequence.propose(layer, Sampling(), len(tokens))
    assert greedy.token == predictions.token[0]
    assert greedy.confidence == pytest.approx(float(predictions.probability[0]), rel=1e-5)
    sampling = Sampling(1.0, seed)
    drawn = sequence.propose(layer, sampling, len(tokens))
    assert drawn.token == sampling.pick(predictions.logits[0], len(tokens))
    assert drawn.confidence == greedy.confidence


def test_the_context_can_be_filled_and_not_overfilled(model):
    sequence = model.new_sequence()
    sequence.append([1] * (_CONTEXT - 1))
    with pytest.raises(ValueError, match="63 \\+ 2 positions exceed 64"):
        sequence.append([1, 2])
    assert sequence.length == _CONTEXT - 1
    sequence.append([2])
    assert len(sequence.advance(_TOP)) == _CONTEXT
    with pytest.raises(ValueError, match="64 \\+ 1 positions exceed 64"):
        sequence.append([3])


def test_advancing_without_new_positions_returns_none_of_them(model):
    sequence = in_one_pass(model, [1, 2, 3])
    assert sequence.advance(_TOP).shape == (0, 64)
    assert sequence.done(_TOP) == 3


def test_only_the_partitions_asked_for_are_loaded(tiny_bundle):
    edge = Model.load(tiny_bundle, range(_SPLIT), RuntimeOptions())
    upper = Model.load(tiny_bundle, range(_SPLIT, _TOP), RuntimeOptions())
    assert (edge.layers, edge.top) == ([1, _SPLIT], _SPLIT)
    assert (upper.layers, upper.top) == ([_TOP], _TOP)
    assert edge.partitions[0].takes_tokens
    assert not upper.partitions[0].takes_tokens


def test_the_memory_of_a_sequence_is_its_caches_and_states(model):
    layers, kv_heads, head_width, width, float_bytes = 4, 2, 16, 64, 4
    caches = layers * 2 * kv_heads * _CONTEXT * head_width
    states = (len(model.partitions) + 1) * _CONTEXT * width
    assert model.sequence_bytes == (caches + states) * float_bytes


def test_a_prefill_longer_than_one_pass_equals_many_short_ones(bundle):
    whole = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    tokens = np.random.default_rng(3).integers(0, 4096, 300)
    expected = in_one_pass(whole, tokens).states(whole.top, 0, 300)
    sequence = whole.new_sequence()
    for start in range(0, 300, 50):
        play(sequence, [(tokens[start : start + 50], whole.top)])
    bound = _STATE_TOLERANCE * np.abs(expected).max()
    np.testing.assert_allclose(sequence.states(whole.top, 0, 300), expected, rtol=0, atol=bound)


@given(TOKENS, TOKENS, st.data())
@examples
def test_a_tail_that_was_cut_can_be_pasted_after_another_one_was_tried(model, text, other, data):
    length = data.draw(st.integers(0, len(text)))
    done = data.draw(st.sampled_from(_EXITS))
    expected = in_one_pass(model, text)
    sequence = model.new_sequence()
    sequence.append(text)
    sequence.advance(done)
    tail = sequence.cut(length)
    assert sequence.length == length
    tried = other[: _CONTEXT - length]
    sequence.append(tried)
    if sequence.length:
        sequence.advance(_TOP)
    sequence.truncate(length)
    sequence.paste(tail)
    sequence.advance(_TOP)
    assert_same(model, sequence, expected)
