"""Divergence and acceptance against what they are by definition."""

import numpy as np
import torch

from updraft.models.exits.adapter import divergence
from updraft.models.exits.collection import Verdicts
from updraft.models.exits.scores import _compare, places_of

_VOCABULARY, _ROWS, _TOP = 40, 9, 6


def _softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def _case(size):
    rng = np.random.default_rng(size)
    shortlist = np.sort(rng.permutation(_VOCABULARY)[:size]).astype(np.int32)
    logits = rng.normal(0, 2, (_ROWS, size)).astype(np.float32)
    full = _softmax(rng.normal(0, 2, (_ROWS, _VOCABULARY)))
    token = np.argsort(-full, axis=1)[:, :_TOP].astype(np.int32)
    log = np.log(np.take_along_axis(full, token, axis=1)).astype(np.float32)
    return shortlist, logits, full, Verdicts(token, log)


def _by_definition(shortlist, logits, full, verdicts):
    """Divergence over the tokens told apart and their joint remainder, one by one."""
    mine = np.zeros((_ROWS, _VOCABULARY))
    mine[:, shortlist] = _softmax(logits)
    divergences, accepted = [], []
    for row in range(_ROWS):
        apart = [t for t in verdicts.token[row] if t in shortlist]
        p, q = full[row, apart], mine[row, apart]
        rest_p, rest_q = 1 - p.sum(), 1 - q.sum()
        divergences.append((p * np.log(p / q)).sum() + rest_p * np.log(rest_p / rest_q))
        accepted.append(np.minimum(p, q).sum())
    return np.array(divergences), np.array(accepted)


def test_scores_are_what_they_are_by_definition():
    for size in (25, _VOCABULARY):
        shortlist, logits, full, verdicts = _case(size)
        places = places_of(shortlist, _VOCABULARY)
        kept = np.isin(np.arange(_VOCABULARY), shortlist)
        best = _softmax(logits).max(axis=1)
        _, agrees, kl, accepted = _compare(logits, best, verdicts, shortlist, places, kept)
        wanted_kl, wanted_accepted = _by_definition(shortlist, logits, full, verdicts)
        np.testing.assert_allclose(kl, wanted_kl, rtol=1e-4)
        np.testing.assert_allclose(accepted, wanted_accepted, rtol=1e-5)
        said = shortlist[logits.argmax(axis=1)]
        np.testing.assert_array_equal(agrees, said == full.argmax(axis=1))


def test_training_lessens_the_divergence_that_is_reported():
    shortlist, logits, full, verdicts = _case(25)
    places = places_of(shortlist, _VOCABULARY)[verdicts.token]
    loss = divergence(
        torch.from_numpy(logits),
        torch.from_numpy(places),
        torch.from_numpy(verdicts.log_probability),
    )
    wanted, _ = _by_definition(shortlist, logits, full, verdicts)
    np.testing.assert_allclose(float(loss), wanted.mean(), rtol=1e-4)


def test_divergence_of_what_was_never_collected_has_a_gradient():
    # A vocabulary smaller than what is kept is filled up with tokens of no probability.
    logits = torch.zeros(2, 3, requires_grad=True)
    places = torch.tensor([[0, 1, -1, 0], [2, 0, 1, 0]])
    log = torch.log(torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.5, 0.3, 0.2, 0.0]]))
    divergence(logits, places, log).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0
