"""Combinations of both sides' logits, drafted ahead and chosen later, against one process."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from updraft.edge.combination import Contrastive, Proxy
from updraft.edge.window import Window
from updraft.errors import ProtocolError
from updraft.models.build import write_bundle
from updraft.models.codecs import wire_codec
from updraft.models.combine import plausible
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

decode = runpy.run_path(str(Path(__file__).parents[1] / "combined.py"))["decode"]
PROMPT, COUNT = [5, 9, 30, 7], 40
SAMPLINGS = [Sampling(), Sampling(0.8, 1)]


@pytest.fixture(scope="module")
def whole(tiny_bundle):
    return Model.load(tiny_bundle, range(4), RuntimeOptions())


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, tiny_plan, tiny_weights):
    """The small model of a bundle whose weights went on a little from the tiny bundle's."""
    rng = np.random.default_rng(3)
    weights = {
        name: (array + 0.3 * array.std() * rng.normal(size=array.shape)).astype(np.float32)
        for name, array in tiny_weights.items()
    }
    bundle = write_bundle(tmp_path_factory.mktemp("bundles") / "tuned", tiny_plan, weights)
    return Model.load(bundle, range(bundle.manifest.split), RuntimeOptions())


def speculate(combination, whole, wire, share, ahead):
    """Decode with `ahead` drafts at a time, judged by the whole model's logits."""
    split, codec = whole.bundle.manifest.split, wire_codec(whole.bundle, wire)
    lower, upper = whole.below(split).new_sequence(), whole.above(split).new_sequence()
    text, accepted = list(PROMPT), 0
    while len(text) < len(PROMPT) + COUNT and text[-1] != 0:
        start, kept = len(text), []
        while len(kept) < ahead:
            lower.append(text[lower.length :])
            lower.advance(split)
            lower.look(split)
            token, own = combination.propose(text, lower.logits, len(text))
            kept.append(own)
            text.append(token)
        upper_from = upper.length
        states = lower.states(split, upper_from, lower.length)
        upper.append(codec.decode(codec.encode(states), *states.shape))
        tops = upper.advance(whole.top)
        for i in range(ahead):
            row = start - 1 + i - upper_from
            large = whole.heads.predict(whole.top, tops[row : row + 1]).logits[0]
            tokens = plausible(large, share) if share else None
            sent = large if tokens is None else large[tokens]
            token = combination.choose(kept[i], tokens, sent, start + i)
            if token != text[start + i]:
                text[start + i :] = [token]
                lower.truncate(start + i)
                upper.truncate(start + i)
                combination.take_back(start + i)
                break
            accepted += 1
            if token == 0:
                del text[start + i + 1 :]
                break
    return text[len(PROMPT) :][:COUNT], accepted


@pytest.mark.parametrize("ahead", [1, 3, 8])
@pytest.mark.parametrize("wire", ["fp16", "int8"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.1), (0.4, 0.3), (0.5, 0.0)])
def test_contrastive_drafted_ahead_gives_the_formulas_tokens(
    whole, sampling, wire, ahead, weight, share
):
    wanted, _ = decode(whole, PROMPT, COUNT, wire, sampling, weight=weight, share=share)
    combination = Contrastive(sampling, weight, share)
    found, _ = speculate(combination, whole, wire, share, ahead)
    assert found == wanted


@pytest.mark.parametrize("ahead", [1, 3, 8])
@pytest.mark.parametrize("wire", ["fp16", "int8"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("weight", "share"), [(1.0, 0.0), (1.5, 0.1)])
def test_proxy_drafted_ahead_gives_the_formulas_tokens(
    whole, tuned, sampling, wire, ahead, weight, share
):
    choices = {"weight": weight, "share": share, "tuned": tuned}
    wanted, _ = decode(whole, PROMPT, COUNT, wire, sampling, **choices)
    plain, _ = decode(whole, PROMPT, COUNT, wire, sampling, weight=0, share=share)
    window = Window(tuned, tuned.top)
    found, accepted = speculate(Proxy(sampling, weight, share, window), whole, wire, share, ahead)
    assert found == wanted != plain
    assert accepted > 0
    assert window.compute_s > 0


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_proxy_drafts_by_the_formula_with_the_small_model_in_the_large_ones_place(
    whole, tuned, sampling
):
    small = whole.below(whole.bundle.manifest.split)
    own, other = Window(small, small.top), Window(tuned, tuned.top)
    for window in (own, other):
        window.follow(PROMPT)
        window.sequence.advance(window.top)
        window.sequence.look(window.top)
    proxy = Proxy(sampling, 1.0, 0.0, Window(tuned, tuned.top))
    token, _ = proxy.propose(PROMPT, own.sequence.logits, len(PROMPT))
    assert token == other.sequence.pick(sampling, len(PROMPT))


@pytest.mark.parametrize(
    ("tokens", "logits", "words"),
    [
        (None, np.zeros(5, np.float32), "5 logits for 6 tokens"),
        (np.array([1, 2]), np.zeros(3, np.float32), "3 logits for 2 tokens"),
        (np.array([1, 6]), np.zeros(2, np.float32), "token 6, the vocabulary ends at 5"),
        (np.array([1]), np.array([np.nan], np.float32), "no finite number"),
        (None, np.full(6, np.inf, np.float32), "no finite number"),
    ],
)
def test_logits_that_cannot_be_right_are_refused(tokens, logits, words):
    combination = Contrastive(Sampling(), 1.0, 0.1)
    with pytest.raises(ProtocolError, match=words):
        combination.choose(np.zeros(6, np.float32), tokens, logits, 3)
