"""Sampling that depends on the seed and the position alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits.

    With temperature 0 the best token wins. Else Gumbel-max: the noise is keyed by (seed,
    position), so edge and cloud draw the same token from the same logits, whatever ran before,
    in which order, and on which side.
    """

    temperature: float = 0.0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def pick(self, logits: NDArray[np.float32], position: int) -> int:
        """Choose a token.

        Args:
            logits: (vocabulary,).
            position: of the token in its text, counted from the start of the prompt.
        """
        return int(self._rank(logits, position).argmax())

    def second(self, logits: NDArray[np.float32], position: int) -> int:
        """Return the token that would be chosen if `pick`'s did not exist."""
        ranked = self._rank(logits, position)
        return int(np.argpartition(ranked, -2)[-2])

    def _rank(self, logits: NDArray[np.float32], position: int) -> NDArray[np.floating]:
        if self.greedy:
            return logits
        generator = np.random.Generator(np.random.Philox(key=[self.seed, position]))
        # -log of a standard exponential variable is a Gumbel variable.
        noise = -np.log(generator.standard_exponential(len(logits)))
        # Not logits / temperature, which overflows for temperatures near 0.
        ranked: NDArray[np.floating] = logits + self.temperature * noise
        return ranked
