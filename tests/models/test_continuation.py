"""Quality of a continuation: one pass says what decoding token by token would."""

import numpy as np
import pytest

from updraft.models.bundle import open_bundle
from updraft.models.continuation import GREEDY_TOKENS, continue_prompts
from updraft.models.experts import DomainPrompt, read_prompts, write_prompts
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.shipped import shipped_family
from updraft.models.tokenizer import Tokenizer

PROMPTS = ["for item in items:\n    ", "return a + b\n", "é ü 漢字"]


@pytest.fixture(scope="module")
def model(tiny_bundle):
    layers = range(tiny_bundle.manifest.architecture.layers)
    return Model.load(tiny_bundle, layers, RuntimeOptions())


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle):
    return Tokenizer(tiny_bundle)


def decode(model, layer, tokens, count):
    """Return the tokens that an exit writes after these."""
    sequence, written = model.new_sequence(), []
    sequence.append(tokens)
    for position in range(count):
        sequence.advance(layer)
        written.append(sequence.propose(layer, Sampling(), position).token)
        sequence.append(written[-1:])
    return written


def test_a_greedy_continuation_scores_until_its_first_untrue_token():
    family = shipped_family()
    bundle = open_bundle(family.folder / "generalist")
    real, tokenizer = Model.load(bundle, range(4), RuntimeOptions()), Tokenizer(bundle)
    prompts = family.prompts()[::20]
    found = continue_prompts(real, tokenizer, prompts)
    for layer, continued in found.items():
        for row, greedy in zip(prompts, continued.greedy, strict=True):
            tokens = tokenizer.encode(row.prompt)
            truth = tokenizer.encode(row.prompt + row.completion)[len(tokens) :]
            mine = decode(real, layer, tokens, GREEDY_TOKENS)
            pairs = enumerate(zip(mine, truth, strict=False))
            right = next((n for n, (own, true) in pairs if own != true), GREEDY_TOKENS)
            assert greedy == right / GREEDY_TOKENS
        assert continued.greedy.max() > 0


def test_the_forced_share_is_that_of_one_token_steps(model, tokenizer):
    rows = [DomainPrompt(prompt, "def add(a, b):\n", "x") for prompt in PROMPTS]
    found = continue_prompts(model, tokenizer, rows)
    assert sorted(found) == [1, 2, 4]
    for layer, continued in found.items():
        for row, share in zip(rows, continued.forced, strict=True):
            start = len(tokenizer.encode(row.prompt))
            tokens = tokenizer.encode(row.prompt + row.completion)
            right = [
                decode(model, layer, tokens[:end], 1)[0] == tokens[end]
                for end in range(start, len(tokens))
            ]
            assert share == pytest.approx(np.mean(right))


def test_prompts_survive_their_file():
    rows = [DomainPrompt("a\nb\u2028c", "é\x85d", "logs"), DomainPrompt("x", "y", "c")]
    assert read_prompts(write_prompts(rows)) == rows
