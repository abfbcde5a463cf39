"""Imported checkpoints against `transformers`: the same logits, the same tokens, cut anywhere."""

import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from updraft.models.bundle import Bundle
from updraft.models.checkpoints.checkpoint import open_checkpoint
from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
from updraft.models.fused import Fused
from updraft.models.graphs import write_partition
from updraft.models.manifest import PartitionEntry
from updraft.models.partition import Partition
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

_tiny = runpy.run_path(str(Path(__file__).with_name("tiny_checkpoints.py")))
_LAYERS, _CONTEXT = _tiny["LAYERS"], _tiny["CONTEXT"]
_PROMPT, _STEPS = 20, 128
_OPTIONS = RuntimeOptions()


class Case:
    """A checkpoint, what `transformers` makes of it, and its bundle, cut after every layer."""

    def __init__(self, name, folder):
        self.folder = folder
        reference = _tiny["write_checkpoint"](name, folder / "checkpoint")
        generator = np.random.default_rng(3)
        prompt = generator.integers(1, reference.config.vocab_size, _PROMPT)
        with torch.no_grad():
            self.tokens = reference.generate(
                torch.from_numpy(prompt)[None], max_new_tokens=_STEPS, do_sample=False
            )[0].numpy()
            self.logits = reference(torch.from_numpy(self.tokens)[None]).logits[0].numpy()
        self.bundle = self.imported(precision="fp32")
        self.model = Model.load(self.bundle, range(_LAYERS), _OPTIONS)

    def imported(self, name="bundle", **plan):
        cuts = {"split": _LAYERS - 1, "exits": tuple(range(1, _LAYERS - 1))}
        return import_checkpoint(
            self.folder / "checkpoint",
            self.folder / name,
            ImportPlan(context_length=_CONTEXT, **{**cuts, **plan}),
        )


@pytest.fixture(scope="module", params=_tiny["CHECKPOINTS"])
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


def greedy(model, prompt, count):
    """Return the model's own continuation, token by token."""
    sequence, tokens = model.new_sequence(), list(prompt)
    sequence.append(tokens)
    for _ in range(count):
        sequence.advance(_LAYERS)
        sequence.look(_LAYERS)
        tokens.append(int(np.argmax(sequence.logits)))
        sequence.append(tokens[-1:])
    return tokens


def states(model, tokens, chunks):
    """Return the states after every partition, with the tokens put in chunk by chunk."""
    sequence = model.new_sequence()
    for start, stop in pairwise([0, *chunks, len(tokens)]):
        sequence.append(tokens[start:stop])
        sequence.advance(model.top)
    return [sequence.states(layer, 0, len(tokens)).copy() for layer in model.layers]


def test_logits_are_those_of_transformers(case):
    for chunks in ([], [5, 6, 7, 100, 101]):
        last = states(case.model, case.tokens, chunks)[-1]
        found = case.model.heads.predict(_LAYERS, last).logits
        assert np.abs(found - case.logits).max() <= 1e-4 * np.abs(case.logits).max()


def test_greedy_tokens_are_those_of_transformers(case):
    prompt, expected = case.tokens[:_PROMPT], case.tokens.tolist()
    assert len(set(expected[_PROMPT:])) > 3  # not one word again and again
    assert greedy(case.model, prompt, _STEPS) == expected


def test_a_cut_changes_no_bit(case):
    checkpoint = open_checkpoint(case.folder / "checkpoint", _CONTEXT)
    folder = case.folder / "whole"
    folder.mkdir()
    manifest = case.bundle.manifest
    write_partition(
        folder, checkpoint.architecture, checkpoint.weights, manifest.quantization, 0, _LAYERS
    )
    entry = PartitionEntry(file=f"layers-0-{_LAYERS}.onnx", first=0, last=_LAYERS)
    bundle = Bundle(folder, manifest)
    whole = Model(bundle, (Partition(bundle, entry, _OPTIONS),), case.model.heads)
    for chunks in ([], [5, 6, 7, 100, 101]):
        expected = states(whole, case.tokens, chunks)[-1]
        np.testing.assert_array_equal(states(case.model, case.tokens, chunks)[-1], expected)


def test_a_pass_over_many_sequences_agrees_with_each_alone(case):
    passes = Fused(case.model)
    lengths = [3, 40, 1, 90]
    sequences = [case.model.new_sequence() for _ in lengths]
    for sequence, length in zip(sequences, lengths, strict=True):
        sequence.append(case.tokens[:length])
    passes.advance([(sequence, sequence.length) for sequence in sequences])
    for sequence in sequences:
        sequence.append(case.tokens[sequence.length : sequence.length + 2])
    passes.advance([(sequence, 2) for sequence in sequences])
    for sequence in sequences:
        count = sequence.length
        logits = case.model.heads.predict(_LAYERS, sequence.states(_LAYERS, 0, count)).logits
        assert np.abs(logits - case.logits[:count]).max() <= 1e-4 * np.abs(case.logits).max()
