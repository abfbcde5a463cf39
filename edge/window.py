"""The context window of one text, and the edge's layers run over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from updraft.models.context import window_start
from updraft.models.partition import States
from updraft.models.sequence import Model, Sequence

# Positions of a prompt that are computed before the first of them leave.
_PIECE = 128


class Window:
    """A text as the edge's layers see it, run as far as each exit needs.

    It keeps the states of every position in the window, so whatever the cloud has lost can be
    sent again.

    Attributes:
        start: position in the text where the window starts.
        sequence: the window's tokens on their way through the edge's layers.
        top: layers done at the end of the edge.
    """

    def __init__(self, model: Model, top: int) -> None:
        self.start = 0
        self.top = top
        self.model = model
        self.sequence: Sequence = model.new_sequence()
        self._past_s = 0.0
        self._limit = model.bundle.manifest.architecture.context_length

    def moves(self, text_length: int) -> bool:
        """Whether a text of this length no longer fits the window as it stands."""
        return window_start(text_length, self._limit) != self.start

    def follow(self, tokens: list[int], on_piece: Callable[[], None] | None = None) -> None:
        """Put in the tokens of a text that are new; start over where the window has moved.

        Args:
            on_piece: called when a piece of a long text has passed the edge's layers.
        """
        if self.moves(len(tokens)):
            self._past_s += self.sequence.busy_s
            self.start = window_start(len(tokens), self._limit)
            self.sequence = self.model.new_sequence()
        fresh = tokens[self.start + self.sequence.length :]
        while on_piece is not None and len(fresh) > _PIECE:
            self.sequence.append(fresh[:_PIECE])
            fresh = fresh[_PIECE:]
            self.sequence.advance(self.top)
            on_piece()
        self.sequence.append(fresh)

    def look(self, tokens: list[int], on_piece: Callable[[], None] | None = None) -> float:
        """Follow a text and return how sure the last exit is of the token after it."""
        self.follow(tokens, on_piece)
        self.sequence.advance(self.top)
        return self.sequence.look(self.top)

    def truncate(self, text_length: int) -> None:
        """Forget the tokens of the text from `text_length` on."""
        self.sequence.truncate(max(0, text_length - self.start))

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return token ids at positions of the window."""
        return self.sequence.inputs(start, stop)

    def states(self, start: int, stop: int) -> States:
        """Return the states after the last of the edge's layers at positions of the window."""
        return self.sequence.states(self.top, start, stop)

    @property
    def done(self) -> int:
        """Positions of the window that have passed the edge's layers."""
        return self.sequence.done(self.top)

    @property
    def compute_s(self) -> float:
        """Seconds spent inside the runtime so far."""
        return self._past_s + self.sequence.busy_s
