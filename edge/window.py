"""The context window of one text, and the edge's layers run over it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from updraft.edge.prefix import PrefixCache, Stack
from updraft.models.context import window_start
from updraft.models.manifest import CodecName
from updraft.models.partition import States
from updraft.models.sequence import CHUNK, Model, Sequence


class Window:
    """A text as the edge's layers see it, run as far as each exit needs.

    It keeps the states of every position in the window, so whatever the cloud has lost can be
    sent again. It takes memory when the first text comes, and gives it back by `release`.

    Attributes:
        start: position in the text where the window starts.
        top: layers done at the end of the edge.
        passed: tokens of the text before the window.
        found: positions of the first text that an earlier one had computed.
    """

    def __init__(self, model: Model, top: int, prefixes: PrefixCache | None = None) -> None:
        """Begin without a text.

        Args:
            prefixes: what earlier texts have left, and where this one goes; None: nothing.
        """
        self.start = 0
        self.top = top
        self.model = model
        self.passed: list[int] = []
        self.found = 0
        self._prefixes = prefixes or PrefixCache(0)
        self._stack: Stack | None = None
        self._interrupted = False
        self._interrupting = threading.Lock()
        self._past_s = 0.0
        self._limit = model.bundle.manifest.architecture.context_length

    @property
    def sequence(self) -> Sequence:
        """The window's tokens on their way through the edge's layers."""
        if self._stack is None:
            self._begin(Stack(self.model.new_sequence()))
        assert self._stack is not None, "it was begun"
        return self._stack.lower

    def above(self, model: Model, codec: CodecName) -> Sequence:
        """Return the same text in the layers above, to which a codec's states go."""
        stack = self._stack
        assert stack is not None, "states go up after a text has come"
        upper = stack.upper
        if upper is None or stack.codec != codec or upper.model.partitions != model.partitions:
            self._past_s += 0.0 if upper is None else upper.busy_s
            upper = model.new_sequence()
            self._take(stack._replace(upper=upper, codec=codec))
        return upper

    def moves(self, text_length: int) -> bool:
        """Whether a text of this length no longer fits the window as it stands."""
        return window_start(text_length, self._limit) != self.start

    def follow(self, tokens: list[int], on_piece: Callable[[], None] | None = None) -> None:
        """Put in the tokens of a text that are new; start over where the window has moved.

        Args:
            on_piece: called when a piece of a long text has passed the edge's layers.
        """
        if self.moves(len(tokens)):
            self.release()
            self.start = window_start(len(tokens), self._limit)
            self.passed = tokens[: self.start]
        fresh_text = self._stack is None
        if fresh_text:
            self._begin(self._prefixes.take(self.model, tokens[self.start :]))
            self.found = max(self.found, self.sequence.whole)
        sequence = self.sequence
        fresh = tokens[self.start + sequence.length :]
        while on_piece is not None and len(fresh) > CHUNK:
            # The first positions leave as soon as they are computed, in the chunks of any prefill.
            size = CHUNK - sequence.length % CHUNK
            sequence.append(fresh[:size])
            fresh = fresh[size:]
            sequence.advance(self.top)
            on_piece()
        sequence.append(fresh)
        if fresh_text:
            self._prefixes.lend(sequence, sequence.length)

    def run(self, tokens: list[int], on_piece: Callable[[], None] | None = None) -> None:
        """Follow a text through all of the edge's layers."""
        self.follow(tokens, on_piece)
        self.sequence.advance(self.top)

    def look(self, tokens: list[int], on_piece: Callable[[], None] | None = None) -> float:
        """Follow a text and return how sure the last exit is of the token after it."""
        self.run(tokens, on_piece)
        return self.sequence.look(self.top)

    def truncate(self, text_length: int) -> None:
        """Forget the tokens of the text from `text_length` on."""
        if self._stack is not None:
            self.sequence.truncate(max(0, text_length - self.start))

    def interrupt(self) -> None:
        """End what is being computed before its next chunk; may be called from any thread."""
        with self._interrupting:
            self._interrupted = True
            if self._stack is not None:
                _interrupt(self._stack, True)

    def release(self) -> None:
        """Give the memory back; later texts that begin alike find there what they share."""
        with self._interrupting:
            stack, self._stack = self._stack, None
            if stack is not None:
                _interrupt(stack, False)  # whoever gets it next is not who was interrupted
        if stack is not None:
            self._past_s += _busy_s(stack)
            self._prefixes.give(stack)

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return token ids at positions of the window."""
        return self.sequence.inputs(start, stop)

    def states(self, start: int, stop: int) -> States:
        """Return the states after the last of the edge's layers at positions of the window."""
        return self.sequence.states(self.top, start, stop)

    @property
    def done(self) -> int:
        """Positions of the window that have passed the edge's layers."""
        return 0 if self._stack is None else self.sequence.done(self.top)

    @property
    def compute_s(self) -> float:
        """Seconds spent inside the runtime so far, those above the window's top included."""
        return self._past_s + (0.0 if self._stack is None else _busy_s(self._stack))

    def _begin(self, stack: Stack) -> None:
        self._take(stack)
        self._past_s -= _busy_s(stack)  # it may have run for others

    def _take(self, stack: Stack) -> None:
        with self._interrupting:
            self._stack = stack
            _interrupt(stack, self._interrupted)


def _interrupt(stack: Stack, interrupted: bool) -> None:
    for sequence in (stack.lower, stack.upper):
        if sequence is not None:
            sequence.interrupted = interrupted


def _busy_s(stack: Stack) -> float:
    upper_s = 0.0 if stack.upper is None else stack.upper.busy_s
    return stack.lower.busy_s + upper_s
