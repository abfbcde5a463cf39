"""Fused passes: what comes out is what each sequence gives alone."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.models.cut import cut_at_attention
from updraft.models.fused import Fused
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

_CONTEXT, _SPLIT, _TOP, _WIDTH = 64, 2, 4, 64
_TOLERANCE = 1e-4
_LOGIT_MARGIN = 1e-3
examples = settings(max_examples=40)


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return Model.load(tiny_bundle, range(_TOP), RuntimeOptions())


@pytest.fixture(scope="module")
def fused(model):
    """Passes over every part: all layers from tokens, below the split, above it from states."""
    parts = (model, model.below(_SPLIT), model.above(_SPLIT))
    return {(part.partitions[0].entry.first, part.top): (part, Fused(part)) for part in parts}


PARTS = st.sampled_from([(0, _TOP), (0, _SPLIT), (_SPLIT, _TOP)])


def inputs_of(part, seed, count):
    rng = np.random.default_rng(seed)
    if part.partitions[0].takes_tokens:
        return rng.integers(0, part.heads.vocabulary_size, count)
    return rng.normal(0, 1, (count, _WIDTH)).astype(np.float32)


def assert_same(part, sequence, inputs, tolerance=_TOLERANCE):
    """Compare every position past the top, after every partition, with one plain pass."""
    alone = part.new_sequence()
    alone.append(inputs[: sequence.length])
    alone.advance(part.top)
    done = sequence.done(part.top)
    for layer in part.layers:
        right, states = (s.states(layer, 0, done) for s in (alone, sequence))
        bound = tolerance * max(1, np.abs(right).max(initial=0))
        np.testing.assert_allclose(states, right, rtol=0, atol=bound)
    if done and part.top in part.heads.entries:
        want = part.heads.predict(part.top, alone.states(part.top, 0, done))
        have = part.heads.predict(part.top, sequence.states(part.top, 0, done))
        second, first = np.sort(want.logits, axis=1)[:, -2:].T
        clear = first - second > _LOGIT_MARGIN
        np.testing.assert_array_equal(have.token[clear], want.token[clear])
        if done == sequence.length:
            assert sequence.look(part.top) == pytest.approx(alone.look(part.top), abs=1e-4)


@examples
@given(
    part=PARTS,
    chunks=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 34)), min_size=1, max_size=8),
)
def test_a_ragged_pass_equals_each_sequence_alone(fused, part, chunks):
    part, passes = fused[part]
    inputs = [inputs_of(part, seed, past + count) for seed, (past, count) in enumerate(chunks)]
    sequences = [part.new_sequence() for _ in chunks]
    for sequence, own, (past, _) in zip(sequences, inputs, chunks, strict=True):
        sequence.append(own[:past])
        sequence.advance(part.top)
        sequence.append(own[past:])
    passes.advance([(s, count) for s, (_, count) in zip(sequences, chunks, strict=True)])
    for sequence, own, (past, count) in zip(sequences, inputs, chunks, strict=True):
        assert [sequence.done(layer) for layer in part.layers] == [past + count] * len(part.layers)
        assert_same(part, sequence, own)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "pass", "plain", "below", "truncate"]),
        st.lists(st.integers(0, 12), min_size=3, max_size=3),
    ),
    max_size=12,
)


@examples
@given(part=PARTS, steps=STEPS)
def test_passes_plain_steps_and_truncation_mix(fused, part, steps):
    part, passes = fused[part]
    inputs = [inputs_of(part, seed, _CONTEXT) for seed in range(3)]
    sequences = [part.new_sequence() for _ in range(3)]
    for kind, numbers in steps:
        if kind == "pass":
            waiting = [s.length - s.done(part.top) for s in sequences]
            counts = [min(n, w) for n, w in zip(numbers, waiting, strict=True)]
            passes.advance(list(zip(sequences, counts, strict=True)))
            continue
        for sequence, number, own in zip(sequences, numbers, inputs, strict=True):
            if kind == "append":
                sequence.append(own[sequence.length : sequence.length + number])
            elif kind == "truncate":
                sequence.truncate(max(0, sequence.length - number))
            elif number > 6:
                sequence.advance(part.top if kind == "plain" else part.layers[0])
    for sequence, own in zip(sequences, inputs, strict=True):
        assert_same(part, sequence, own)


@pytest.mark.parametrize("first", [0, _SPLIT])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_single_sequence_may_pass_alone(fused, first, rows):
    part, passes = fused[first, _TOP]
    inputs = inputs_of(part, 0, rows)
    sequence = part.new_sequence()
    sequence.append(inputs)
    passes.advance([(sequence, rows)])
    assert sequence.done(_TOP) == rows
    assert_same(part, sequence, inputs)


def test_a_pass_over_nothing_does_nothing(fused, model):
    _, passes = fused[0, _TOP]
    passes.advance([])
    sequence = model.new_sequence()
    sequence.append([1, 2])
    passes.advance([(sequence, 0)])
    assert (sequence.done(_TOP), sequence.busy_s) == (0, 0)


def test_the_seconds_of_a_pass_are_shared_out_by_rows(fused, model):
    _, passes = fused[0, _TOP]
    short, long = model.new_sequence(), model.new_sequence()
    short.append([1])
    long.append([1] * 3)
    passes.advance([(short, 1), (long, 3)])
    assert long.busy_s == pytest.approx(3 * short.busy_s)
    assert short.busy_s > 0


def test_a_finished_sequence_is_not_kept(fused, model):
    import gc
    import weakref

    _, passes = fused[0, _TOP]
    pair = [model.new_sequence(), model.new_sequence()]
    for sequence in pair:
        sequence.append([1, 2])
    passes.advance([(sequence, 2) for sequence in pair])
    kept = weakref.ref(pair.pop())
    del sequence
    gc.collect()
    assert kept() is None


def test_what_cannot_join_a_pass_is_refused_before_anything_runs(fused, model):
    _, passes = fused[0, _TOP]
    good, short = model.new_sequence(), model.new_sequence()
    for sequence in (good, short):
        sequence.append([1, 2, 3])
    with pytest.raises(ValueError, match="4 positions were asked for, 3 wait"):
        passes.advance([(good, 3), (short, 4)])
    with pytest.raises(ValueError, match="-1 positions were asked for, 3 wait"):
        passes.advance([(good, 3), (short, -1)])
    with pytest.raises(ValueError, match="twice"):
        passes.advance([(good, 1), (good, 1)])
    other = model.below(_SPLIT).new_sequence()
    other.append([1])
    with pytest.raises(ValueError, match="another model"):
        passes.advance([(good, 3), (other, 1)])
    assert good.done(_TOP) == short.done(_TOP) == 0


def test_sequences_of_the_same_part_taken_twice_may_join(fused, model):
    _, passes = fused[_SPLIT, _TOP]
    sequence = model.above(_SPLIT).new_sequence()
    sequence.append(np.ones((2, _WIDTH), np.float32))
    passes.advance([(sequence, 2)])
    assert sequence.done(_TOP) == 2


def test_the_shipped_model_gives_the_same_tokens_fused(bundle):
    whole = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    passes = Fused(whole)
    inputs = [inputs_of(whole, seed, 220) for seed in range(4)]
    sequences = [whole.new_sequence() for _ in inputs]
    lengths = (200, 17, 1, 90)
    for sequence, own, length in zip(sequences, inputs, lengths, strict=True):
        sequence.append(own[:length])
    passes.advance([(s, s.length) for s in sequences])
    for count in (1, 1, 7, 2):
        for sequence, own in zip(sequences, inputs, strict=True):
            sequence.append(own[sequence.length : sequence.length + count])
        passes.advance([(sequence, count) for sequence in sequences])
    for sequence, own in zip(sequences, inputs, strict=True):
        assert_same(whole, sequence, own)


def test_layers_with_attention_of_their_own_kind_have_a_graph_of_their_own(tiny_bundle, tmp_path):
    path = tmp_path / "layers-2-4.onnx"
    graph = onnx.load(tiny_bundle.path(path.name))
    nodes = [node for node in graph.graph.node if node.op_type == "GroupQueryAttention"]
    nodes[1].attribute.append(onnx.helper.make_attribute("local_window_size", 8))
    onnx.save(graph, path)
    cut = cut_at_attention(path)
    assert [layer.kind for layer in cut.layers] == [0, 1]
    assert len(cut.attentions) == 2
    assert len(cut_at_attention(tiny_bundle.path(path.name)).attentions) == 1


def test_the_pieces_are_valid_models_and_hold_each_weight_once(tiny_bundle):
    path = tiny_bundle.path("layers-2-4.onnx")
    cut = cut_at_attention(path)
    names = []
    for piece in cut.pieces:
        graph = onnx.load_from_string(piece.graph).graph
        assert [value.name for value in graph.input] == piece.inputs
        assert [value.name for value in graph.output] == piece.outputs
        names += [tensor.name for tensor in graph.initializer]
    whole = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert sorted(names) == sorted(whole - {"rope_cos", "rope_sin"})
