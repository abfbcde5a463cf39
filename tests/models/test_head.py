"""Heads turn states into tokens; those with a shortlist speak of the whole vocabulary too."""

import shutil

import numpy as np
import pytest

from updraft.models.bundle import describe_files, open_bundle, write_manifest
from updraft.models.graphs import write_head
from updraft.models.head import Heads, HeadStep
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling

_LISTED = np.array([200, 3, 77, 5, 150, 41, 9, 260], np.int32)


@pytest.fixture(scope="module")
def listed_bundle(tiny_bundle, tiny_weights, tmp_path_factory):
    """The tiny bundle, whose exits on the edge choose among a few tokens."""
    folder = shutil.copytree(tiny_bundle.folder, tmp_path_factory.mktemp("listed") / "tiny")
    manifest = tiny_bundle.manifest
    layers = [entry.layer for entry in manifest.edge_exits]
    written = write_head(
        folder,
        "edge-head.onnx",
        manifest.architecture,
        tiny_weights,
        manifest.quantization,
        layers,
        _LISTED,
    )
    (folder / "shortlist.i32").write_bytes(_LISTED.astype("<i4").tobytes())
    changes = {"head": "edge-head.onnx", "shortlist": "shortlist.i32"}
    exits = [
        entry.model_copy(update={**changes, "index": layers.index(entry.layer)})
        if entry.layer in layers
        else entry
        for entry in manifest.exits
    ]
    files = {**manifest.files, **describe_files(folder, [*written, "shortlist.i32"])}
    write_manifest(folder, manifest.model_copy(update={"exits": exits, "files": files}))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def states(tiny_bundle):
    width = tiny_bundle.manifest.architecture.width
    return np.random.default_rng(3).standard_normal((6, width), dtype=np.float32)


def heads_of(bundle):
    return Heads(bundle, [entry.layer for entry in bundle.manifest.exits], RuntimeOptions())


def test_a_shortlist_gives_those_logits_and_no_others(tiny_bundle, listed_bundle, states):
    whole = heads_of(tiny_bundle).predict(1, states)
    listed = heads_of(listed_bundle).predict(1, states)
    assert listed.logits.shape == whole.logits.shape
    np.testing.assert_allclose(
        listed.logits[:, _LISTED], whole.logits[:, _LISTED], rtol=1e-4, atol=1e-5
    )
    others = np.setdiff1d(np.arange(whole.logits.shape[1]), _LISTED)
    assert (listed.logits[:, others] == -np.inf).all()


def test_tokens_are_ids_of_the_vocabulary(listed_bundle, states):
    said = heads_of(listed_bundle).predict(1, states)
    assert set(said.token.tolist()) <= set(_LISTED.tolist())
    assert (said.token == said.logits.argmax(axis=1)).all()


def test_probability_is_among_the_tokens_that_are_chosen_from(tiny_bundle, listed_bundle, states):
    for bundle in (tiny_bundle, listed_bundle):
        said = heads_of(bundle).predict(1, states)
        odds = np.exp(said.logits - said.logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(said.probability, 1 / odds.sum(axis=1), rtol=1e-5)


def test_one_state_is_judged_like_many(listed_bundle, states):
    heads = heads_of(listed_bundle)
    step = HeadStep(heads)
    for layer in heads.entries:
        many = heads.predict(layer, states)
        for row, state in enumerate(states):
            step.look(layer, state)
            assert step.pick(Sampling(), 0) == many.token[row]
            assert step.probability == pytest.approx(many.probability[row], rel=1e-5)
            np.testing.assert_allclose(step.logits, many.logits[row], rtol=1e-5, atol=1e-6)


def test_noise_is_that_of_the_token_and_not_of_its_place(tiny_bundle, listed_bundle, states):
    """Where the whole vocabulary draws a token of the shortlist, the shortlist draws it too."""
    whole, listed = HeadStep(heads_of(tiny_bundle)), HeadStep(heads_of(listed_bundle))
    alike = 0
    for position in range(400):
        sampling = Sampling(temperature=1.0, seed=position)
        whole.look(1, states[position % len(states)])
        listed.look(1, states[position % len(states)])
        token = whole.pick(sampling, position)
        if token in _LISTED:
            alike += 1
            assert listed.pick(sampling, position) == token
    assert alike > 5
