"""Sampling that depends on the seed and the position alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_TOP_K = 1 << 24
# Tokens that may be chosen: bit i of the mask, from the lowest of its first word on, is token i.
Mask = NDArray[np.int32]

# What each byte of a mask adds to eight logits.
_ADDED = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") > 0,
    np.float32(0),
    np.float32(-np.inf),
)


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits.

    With temperature 0 the best token wins. Else Gumbel-max: the noise is keyed by (seed,
    position), so edge and cloud draw the same token from the same logits, whatever ran before,
    in which order, and on which side. A token's noise does not depend on which others may be
    chosen.

    Attributes:
        top_p: only the most probable tokens that together have this probability are drawn from.
        top_k: only so many of the most probable tokens are drawn from, before `top_p`; None: all.
            Of tokens that are equally probable, none is left out without the others.
    """

    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0
    top_k: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def truncates(self) -> bool:
        """Whether improbable tokens are left out."""
        return self.top_p < 1 or self.top_k is not None

    def pick(self, logits: NDArray[np.float32], position: int, mask: Mask | None = None) -> int:
        """Choose a token.

        Args:
            logits: (vocabulary,).
            position: of the token in its text, counted from the start of the prompt.
            mask: the tokens to choose from; None: all.
        """
        return int(self._rank(logits, position, mask).argmax())

    def second(
        self, logits: NDArray[np.float32], position: int, mask: Mask | None = None
    ) -> int | None:
        """Return the token that would be chosen if `pick`'s did not exist; None: there is none."""
        ranked = self._rank(logits, position, mask)
        token = int(np.argpartition(ranked, -2)[-2])
        return None if ranked[token] == -np.inf else token

    def _rank(
        self, logits: NDArray[np.float32], position: int, mask: Mask | None
    ) -> NDArray[np.floating]:
        if mask is not None:
            logits = masked(logits, mask)
        if self.greedy:
            return logits
        generator = np.random.Generator(np.random.Philox(key=[self.seed, position]))
        exponential = generator.standard_exponential(len(logits))
        if not self.truncates:
            return self._noisy(logits, exponential)
        kept = np.flatnonzero(logits >= self._least(logits))
        ranked = np.full(len(logits), -np.inf)
        ranked[kept] = self._noisy(logits[kept], exponential[kept])
        return ranked

    def _noisy(
        self, logits: NDArray[np.float32], exponential: NDArray[np.float64]
    ) -> NDArray[np.floating]:
        # -log of a standard exponential variable is a Gumbel variable. And not logits /
        # temperature, which overflows for temperatures near 0.
        noisy: NDArray[np.floating] = logits + self.temperature * -np.log(exponential)
        return noisy

    def _least(self, logits: NDArray[np.float32]) -> np.float32:
        """Return the logit from which a token is not left out."""
        least = np.float32(-np.inf)
        if self.top_k is not None and self.top_k < len(logits):
            place = len(logits) - self.top_k
            least = np.partition(logits, place)[place]
        if self.top_p < 1:
            falling = np.sort(logits[logits >= least])[::-1].astype(np.float64)
            with np.errstate(over="ignore"):  # for temperatures near 0
                shares = np.exp((falling - falling[0]) / self.temperature).cumsum()
            enough = np.searchsorted(shares, self.top_p * shares[-1])
            least = np.float32(falling[enough])
        return least


def masked(logits: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """Return logits of which only those of some tokens are above minus infinity.

    Where the exit that gave them knows none of those tokens, all of them are equally probable.
    """
    # No branch per token: ten times as fast as `np.where` where the mask is mixed.
    added = _ADDED.take(mask.view(np.uint8), axis=0).reshape(-1)[: len(logits)]
    out: NDArray[np.float32] = added + logits
    return added if out.max() == -np.inf else out
