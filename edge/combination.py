"""Combine the cloud's logits with those of small models on the edge: `contrastive`, `proxy`."""

from __future__ import annotations

import numpy as np

from updraft.edge.window import Window
from updraft.errors import ProtocolError
from updraft.models.combine import (
    Logits,
    Tokens,
    contrast,
    plausible,
    spread,
    tuning_shift,
)
from updraft.models.sampling import Mask, Sampling, masked


class _Sum:
    """Adds what the small models say to the large one's logits and takes the best.

    Args:
        plausibility: tokens less probable than this share of the best are out; 0: none is. The
            cloud applies it to its own logits, and this side to its drafts.
    """

    def __init__(self, sampling: Sampling, weight: float, plausibility: float) -> None:
        self._sampling = sampling
        self._weight = weight
        self._plausibility = plausibility

    def choose(
        self,
        kept: Logits,
        tokens: Tokens | None,
        logits: Logits,
        position: int,
        mask: Mask | None = None,
    ) -> int:
        return self._sampling.pick(self.scores(kept, tokens, logits), position, mask)

    def scores(self, kept: Logits, tokens: Tokens | None, logits: Logits) -> Logits:
        _check(tokens, logits, len(kept))
        return spread(tokens, logits + (kept if tokens is None else kept[tokens]), len(kept))

    def _draft(self, own: Logits, guess: Logits, position: int, mask: Mask | None) -> int:
        """Return the pick by a guess at the sum, among what the edge itself finds plausible."""
        if not self._plausibility:
            return self._sampling.pick(guess, position, mask)
        tokens = plausible(own if mask is None else masked(own, mask), self._plausibility)
        return self._sampling.pick(spread(tokens, guess[tokens], len(own)), position, mask)


class Contrastive(_Sum):
    """Whole model minus the edge's layers (Li et al. 2022); see `models.combine.contrast`."""

    def propose(
        self, text: list[int], logits: Logits, position: int, mask: Mask | None = None
    ) -> tuple[int, Logits]:
        # The sum, with the edge's own logits in place of the cloud's, would be flat at weight 1.
        return self._draft(logits, logits, position, mask), contrast(logits, self._weight)

    def chance(self, confidence: float) -> float:
        # Where several tokens are plausible, the contrast avoids the one that the edge expects.
        # The exponent fits how often drafts hold on the shipped bundle, at weights 1/3 and 1.
        return confidence ** (1 + 2 * self._weight)

    def take_back(self, length: int) -> None:
        """Nothing is kept."""


class Proxy(_Sum):
    """Whole model plus what tuning changed in a small one (Liu et al. 2024).

    The untuned small model is the edge's part of the served bundle; the tuned one runs here
    beside it and never leaves the device. See `models.combine.tuning_shift`.
    """

    def __init__(
        self, sampling: Sampling, weight: float, plausibility: float, tuned: Window
    ) -> None:
        super().__init__(sampling, weight, plausibility)
        self._tuned = tuned

    def propose(
        self, text: list[int], logits: Logits, position: int, mask: Mask | None = None
    ) -> tuple[int, Logits]:
        self._tuned.look(text)
        shift = tuning_shift(self._tuned.sequence.logits, logits, self._weight)
        return self._draft(logits, logits + shift, position, mask), shift

    def chance(self, confidence: float) -> float:
        return confidence

    def take_back(self, length: int) -> None:
        self._tuned.truncate(length)


def _check(tokens: Tokens | None, logits: Logits, vocabulary_size: int) -> None:
    count = vocabulary_size if tokens is None else len(tokens)
    if len(logits) != count:
        raise ProtocolError(f"the coordinator sent {len(logits)} logits for {count} tokens")
    if not np.isfinite(logits).all():
        raise ProtocolError("the coordinator sent a logit that is no finite number")
    if tokens is not None and tokens.max() >= vocabulary_size:
        raise ProtocolError(
            f"the coordinator sent the logit of token {tokens.max()}, the vocabulary ends at "
            f"{vocabulary_size - 1}"
        )
