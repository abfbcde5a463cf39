"""Keys and values in int8: a quarter of the memory, nearly the same states, and no other laws."""

import shutil

import numpy as np
import pytest

from updraft.errors import BundleError
from updraft.models.bundle import open_bundle
from updraft.models.fused import Fused
from updraft.models.kv_quantization import quantize_kv
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

_OPTIONS = RuntimeOptions(threads=1)
_TEXTS = ["def add(a, b):\n    return a + b\n", "for item in items:\n    print(item)\n", "", "é 漢"]
_LENGTH = 48


@pytest.fixture(scope="module")
def narrow(tiny_bundle, tmp_path_factory):
    """The tiny bundle with keys and values in int8."""
    folder = shutil.copytree(tiny_bundle.folder, tmp_path_factory.mktemp("kv") / "bundle")
    return quantize_kv(open_bundle(folder), _TEXTS)


@pytest.fixture(scope="module")
def models(tiny_bundle, narrow):
    return [Model.load(bundle, range(4), _OPTIONS) for bundle in (tiny_bundle, narrow)]


@pytest.fixture(scope="module")
def tokens(tiny_bundle):
    """Another text in the words of those that were measured."""
    text = "for a in items:\n    print(a)\ndef b(item):\n    return item + a\n" * 2
    return Tokenizer(tiny_bundle).encode(text)[:_LENGTH]


def states(model, tokens, chunks):
    sequence, at = model.new_sequence(), 0
    for count in chunks:
        sequence.append(tokens[at : at + count])
        sequence.advance(4)
        at += count
    return sequence, sequence.states(4, 0, at)


def test_states_move_little(models, tokens):
    wide, narrow = (states(model, tokens, [_LENGTH])[1] for model in models)
    error = np.abs(narrow - wide).max() / np.abs(wide).max()
    assert 0 < error < 0.05


def test_keys_and_values_take_a_quarter_of_the_memory(models, tokens):
    wide, narrow = (sum(p.cache_bytes for p in model.partitions) for model in models)
    assert 4 * narrow == wide
    sequence, _ = states(models[1], tokens, [10])
    kept = dict(sequence.keys_and_values())
    assert len(kept) == 8
    assert {(values.dtype.name, values.shape) for values in kept.values()} == {
        ("int8", (2, 10, 16))
    }


def test_every_channel_has_a_scale_of_its_own(models, tokens):
    wide, narrow = (dict(states(model, tokens, [_LENGTH])[0].keys_and_values()) for model in models)
    for name, values in wide.items():
        if name.endswith("_0"):  # what the first layer keeps depends on no other cache
            integers = narrow[name].astype(np.float64)
            # The best scale per channel, by least squares; half of it is how far values may move.
            scales = (integers * values).sum(axis=1) / (integers**2).sum(axis=1).clip(1)
            moved = np.abs(integers * scales[:, None] - values)
            assert np.quantile(moved / scales[:, None], 0.99) < 0.6
            assert np.unique(scales.round(6)).size > scales.size / 2


def test_steps_chunks_and_fused_passes_agree(models, tokens):
    model = models[1]
    _, whole = states(model, tokens, [_LENGTH])
    _, steps = states(model, tokens, [1] * _LENGTH)
    np.testing.assert_allclose(steps, whole, atol=0.05 * np.abs(whole).max())
    pair = [model.new_sequence() for _ in range(2)]
    pair[0].append(tokens)
    pair[1].append(tokens[:5])
    Fused(model).advance([(pair[0], _LENGTH), (pair[1], 5)])
    np.testing.assert_allclose(pair[0].states(4, 0, _LENGTH), whole, atol=1e-4)


def test_what_was_cut_off_can_be_pasted(models, tokens):
    sequence, whole = states(models[1], tokens, [_LENGTH])
    expected = whole.copy()
    sequence.paste(sequence.cut(30))
    sequence.truncate(40)
    sequence.append(tokens[40:])
    sequence.advance(4)
    np.testing.assert_allclose(sequence.states(4, 0, _LENGTH), expected, atol=1e-4)


def test_it_is_another_model_and_says_so(tiny_bundle, narrow):
    assert narrow.fingerprint != tiny_bundle.fingerprint
    assert narrow.manifest.quantization.kv == "int8"
    with pytest.raises(BundleError, match="keeps keys and values as int8"):
        quantize_kv(narrow, _TEXTS)


def test_texts_may_be_those_that_ship(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle.folder, tmp_path / "bundle")
    assert quantize_kv(open_bundle(folder)).manifest.quantization.kv == "int8"


def test_texts_that_are_empty_are_refused(tiny_bundle, folder):
    with pytest.raises(BundleError, match="need texts to be measured on"):
        quantize_kv(tiny_bundle, [""])
