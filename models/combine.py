"""Combine the logits of a large and a small model: contrastive decoding and proxy tuning.

Both add something that small models say to the logits of the large one, and choose among the
tokens that the large one finds plausible. Constants fall out when a token is chosen, so logits
stand for log probabilities throughout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Tokens = NDArray[np.int64]


def plausible(large: Logits, share: float) -> Tokens:
    """Return the tokens that are at least `share` times as probable as the best one, by id.

    The adaptive plausibility constraint of contrastive decoding (Li et al. 2022, equation 2);
    probabilities are those of temperature 1.

    Args:
        large: (vocabulary,).
        share: above 0, at most 1.
    """
    return np.flatnonzero(large >= large.max() + np.float32(np.log(share)))


def contrast(small: Logits, weight: float) -> Logits:
    """Return what contrastive decoding adds to the large model's logits (Li et al. 2022).

    log p_large - weight × log p_small. Weight 1 is the paper's; weight 1 / τ is its temperature τ
    of the small model; weight β / (1 + β) at temperature T / (1 + β) is O'Brien & Lewis 2023.

    Args:
        small: (vocabulary,), as what is returned.
    """
    return np.float32(-weight) * small


def tuning_shift(tuned: Logits, untuned: Logits, weight: float) -> Logits:
    """Return what proxy tuning adds to the large model's logits (Liu et al. 2024).

    large + weight × (tuned - untuned): what tuning has changed in a small model, carried over.

    Args:
        tuned, untuned: (vocabulary,) of the same small model, as what is returned.
    """
    return np.float32(weight) * (tuned - untuned)


def spread(tokens: Tokens | None, logits: Logits, size: int) -> Logits:
    """Return the logits of some tokens in their places, those of all others at minus infinity.

    Args:
        tokens: what the logits belong to; None: all of the vocabulary.
        size: of the vocabulary.
    """
    if tokens is None:
        return logits
    whole = np.full(size, -np.inf, np.float32)
    whole[tokens] = logits
    return whole
