"""Contrastive decoding and proxy tuning as the papers write them: one process, token by token."""

import numpy as np

from updraft.models.codecs import wire_codec
from updraft.models.context import window_start


def decode(
    whole, prompt, count, wire, sampling, *, weight=1.0, share=0.0, tuned=None, matcher=None
):
    """Return the tokens of a text, and of each how many candidates were plausible.

    Args:
        whole: all layers of a bundle; its part below the split is the small model.
        tuned: the small model of proxy tuning; None: contrastive decoding.
        share: tokens less probable than this share of the large model's best are out.
        matcher: of the constraint that the text is under; None: it is under none.
    """
    manifest = whole.bundle.manifest
    split, limit = manifest.split, manifest.architecture.context_length
    codec = wire_codec(whole.bundle, wire)
    text, candidates, start = list(prompt), [], None
    while len(candidates) < count:
        fresh = text[-1:]
        if start != window_start(len(text), limit):
            start = window_start(len(text), limit)
            fresh = text[start:]
            lower, upper = whole.below(split).new_sequence(), whole.above(split).new_sequence()
            other = None if tuned is None else tuned.new_sequence()
        lower.append(fresh)
        states = lower.advance(split)
        upper.append(codec.decode(codec.encode(states), *states.shape))
        upper.advance(whole.top)
        large = _log_probabilities(upper, whole.top)
        small = _log_probabilities(lower, split)
        if other is None:
            scores = large - weight * small
        else:
            other.append(fresh)
            other.advance(tuned.top)
            scores = large + weight * (_log_probabilities(other, tuned.top) - small)
        if matcher is not None:
            matcher.follow(text[len(prompt) :])
            words = matcher.mask().view(np.uint8)
            forbidden = np.unpackbits(words, count=len(large), bitorder="little") == 0
            large[forbidden] = scores[forbidden] = -np.inf
        implausible = np.exp(large) < share * np.exp(large.max())
        scores[implausible] = -np.inf
        candidates.append(int((~implausible).sum()))
        text.append(sampling.pick(scores, len(text)))
        if text[-1] == manifest.tokenizer.end_of_text:
            break
        if matcher is not None:
            matcher.accept(text[-1])
            if matcher.is_over:
                break
    return text[len(prompt) :], candidates


def _log_probabilities(sequence, layer):
    sequence.look(layer)
    exact = sequence.logits.astype(np.float64)
    exact -= exact.max()
    return exact - np.log(np.exp(exact).sum())
