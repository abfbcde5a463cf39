"""Agreement of exits: what decoding token by token finds at true prefixes."""

import pytest

from updraft.models.agreement import exit_agreement
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

_TEXTS = ("def add(a, b):\n    return a + b\n", "for item in items:\n    print(item)\n")


@pytest.fixture(scope="module")
def model(bundle):
    return Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())


def test_agreement_is_the_share_of_prefixes_after_which_both_say_the_same(bundle, model):
    tokenizer = Tokenizer(bundle)
    same, count = {2: 0, 3: 0}, 0
    for text in _TEXTS:
        sequence = model.new_sequence()
        for token in tokenizer.encode(text):
            sequence.append([token])
            said = {}
            for layer in (2, 3, 8):
                sequence.advance(layer)
                said[layer] = sequence.propose(layer, Sampling(), sequence.length).token
            count += 1
            for layer in same:
                same[layer] += said[layer] == said[8]
    expected = {layer: hits / count for layer, hits in same.items()}
    assert exit_agreement(model, tokenizer, _TEXTS) == expected
    assert 0 < expected[2] < 1


def test_long_texts_are_cut_and_no_texts_say_nothing(bundle, model):
    tokenizer = Tokenizer(bundle)
    assert set(exit_agreement(model, tokenizer, ["x = 1\n" * 2000])) == {2, 3}
    assert exit_agreement(model, tokenizer, []) == {}
