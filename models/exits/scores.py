"""How far an exit is from the full depth: agreement, divergence, acceptance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.models.exits.collection import Collection, Verdicts

# Positions per call: their logits must fit into memory.
_ROWS = 128
_SMALLEST = 1e-12

# Returns, for states (n, width), the logits (n, shortlist) and the best one's probability (n,).
Ask = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class ExitScore:
    """What an exit is worth, averaged over positions of held-out text.

    Attributes:
        agreement: share of positions at which its best token is that of the full depth.
        kl: nats by which it diverges from the full depth, all tokens that the full depth gives
            little chance counted as one.
        acceptance: chance that a token drawn from the exit passes the full depth's speculative
            test: what a draft is worth when sampling. At temperature 0 that is `agreement`.
    """

    positions: int
    agreement: float
    kl: float
    acceptance: float


@dataclass(frozen=True)
class Answers:
    """What an exit says at some positions, each (n,).

    Attributes:
        probability: of its best token.
        agrees: its best token is that of the full depth.
    """

    probability: NDArray[np.float32]
    agrees: NDArray[np.bool_]
    kl: NDArray[np.float64]
    acceptance: NDArray[np.float64]

    def score(self) -> ExitScore:
        """Return the averages."""
        means = (float(v.mean()) for v in (self.agrees, self.kl, self.acceptance))
        return ExitScore(len(self.agrees), *means)


def places_of(shortlist: NDArray[np.int32], vocabulary: int) -> NDArray[np.int64]:
    """Return (vocabulary,) where each token stands in a shortlist; -1: it does not."""
    places = np.full(vocabulary, -1, np.int64)
    places[shortlist] = np.arange(len(shortlist))
    return places


def answers(
    ask: Ask,
    collection: Collection,
    layer: int,
    rows: NDArray[np.int64],
    shortlist: NDArray[np.int32],
    kept: NDArray[np.bool_],
) -> Answers:
    """Ask an exit about some positions and compare with the full depth.

    Args:
        rows: the positions.
        shortlist: the tokens that the exit's logits stand for.
        kept: (vocabulary,) tokens told apart in the divergence; the others count as one.
    """
    places = places_of(shortlist, len(kept))
    parts = []
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        logits, probability = ask(collection.states(layer, some))
        verdicts = collection.verdicts(some)
        parts.append(_compare(logits, probability, verdicts, shortlist, places, kept))
    return Answers(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _compare(
    logits: NDArray[np.float32],
    probability: NDArray[np.float32],
    verdicts: Verdicts,
    shortlist: NDArray[np.int32],
    places: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> tuple[NDArray[np.generic], ...]:
    best = logits.argmax(axis=1)
    # probability = exp(best logit) / Σ exp(logit): the sum need not be formed again.
    total = logits[np.arange(len(best)), best] - np.log(probability)
    place = places[verdicts.token]
    counted = kept[verdicts.token] & (place >= 0)
    mine = np.take_along_axis(logits, np.maximum(place, 0), axis=1) - total[:, None]
    p = np.where(counted, np.exp(verdicts.log_probability.astype(np.float64)), 0)
    q = np.where(counted, np.exp(mine.astype(np.float64)), 0)
    terms = p * (np.log(np.maximum(p, _SMALLEST)) - np.log(np.maximum(q, _SMALLEST)))
    p_rest, q_rest = (np.maximum(1 - x.sum(axis=1), _SMALLEST) for x in (p, q))
    kl = terms.sum(axis=1) + p_rest * (np.log(p_rest) - np.log(q_rest))
    agrees = shortlist[best] == verdicts.token[:, 0]
    return probability, agrees, np.maximum(kl, 0), np.minimum(p, q).sum(axis=1)
