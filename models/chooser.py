"""Chooses the tokens of one text: its sampling, within its constraint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from updraft.models.constraint import ConstraintMatcher
from updraft.models.logprobs import LogProbabilities, log_probabilities
from updraft.models.sampling import Mask, Sampling

_WORD_BITS = 32
_BEST = Sampling()


class Exit(Protocol):
    """A sequence at the exit that was looked at last."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """What the exit said."""

    def pick(self, sampling: Sampling, position: int) -> int:
        """Choose among all tokens."""


class Chooser:
    """What is chosen after a text depends on the text and the logits alone, not on the calls.

    So drafts may be taken back, and both sides of the wire choose alike.

    Attributes:
        constrained: not every token may be chosen everywhere.
        tells: log probabilities are told beside tokens.

    Args:
        start: length of the prompt, where the completion begins.
        ends: whether a token ends a text.
        matcher: follows the completion through its constraint; None: there is none.
        top: how many of the most probable tokens are told beside each; None: no probabilities.
    """

    def __init__(
        self,
        sampling: Sampling,
        start: int,
        ends: Callable[[int], bool],
        matcher: ConstraintMatcher | None = None,
        top: int | None = None,
    ) -> None:
        self.sampling = sampling
        self.constrained = matcher is not None
        self.tells = top is not None
        self._start = start
        self._ends = ends
        self._matcher = matcher
        self._top = top

    def pick(self, exit_: Exit, text: Sequence[int]) -> int:
        """Choose the token after a text.

        Raises:
            RequestError: the constraint cannot be followed any further.
        """
        if self._matcher is None:
            return exit_.pick(self.sampling, len(text))
        return self.sampling.pick(exit_.logits, len(text), self.mask(text))

    def second(self, exit_: Exit, text: Sequence[int]) -> int | None:
        """Return the token that would be chosen if `pick`'s did not exist; None: there is none."""
        return self.sampling.second(exit_.logits, len(text), self.mask(text))

    def mask(self, text: Sequence[int]) -> Mask | None:
        """Return the tokens that may follow a text; None: all."""
        if self._matcher is None:
            return None
        self._matcher.follow(text[self._start :])
        return self._matcher.mask()

    def forced(self, text: Sequence[int]) -> int | None:
        """Return the only token that may follow a text, where no model need be asked for it."""
        if self._matcher is None or self._top is not None:
            return None
        mask = self.mask(text)
        assert mask is not None, "there is a constraint"
        words = np.flatnonzero(mask)
        if len(words) != 1:
            return None
        word = int(mask[words[0]]) & 0xFFFFFFFF
        if word & (word - 1):
            return None
        return _WORD_BITS * int(words[0]) + word.bit_length() - 1

    def ends(self, text: Sequence[int]) -> bool:
        """Whether a text that is longer than its prompt is complete."""
        if self._ends(text[-1]):
            return True
        if self._matcher is None:
            return False
        self._matcher.follow(text[self._start :])
        return self._matcher.is_over

    def trusted(self, exit_: Exit, text: Sequence[int], confidence: float) -> float:
        """Return how sure an exit is of what `pick` says of it.

        Confidence is about an exit's best token: where that may not be, it says nothing.
        """
        mask = self.mask(text)
        if mask is None:
            return confidence
        best = exit_.pick(_BEST, len(text))
        return confidence if int(mask[best // _WORD_BITS]) >> best % _WORD_BITS & 1 else 0.0

    def tell(self, exit_: Exit, token: int) -> LogProbabilities | None:
        """Return what is to be told beside a token that an exit was taken for, if anything."""
        return None if self._top is None else log_probabilities(exit_.logits, token, self._top)

    def log_probabilities(self, logits: NDArray[np.float32], token: int) -> LogProbabilities | None:
        """Return the same of a token that was chosen by these logits."""
        return None if self._top is None else log_probabilities(logits, token, self._top)
