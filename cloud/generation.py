"""The text of a generation that the cloud decodes."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.errors import RequestError
from updraft.models.context import window_start
from updraft.models.manifest import Manifest


class Generation:
    """Tokens of one text, and the window of them that the model sees.

    Attributes:
        window: the tokens that the model sees; earlier ones are not kept.
        start: position in the text where the window starts.
        done: the text ended or is as long as was asked.
    """

    def __init__(self, manifest: Manifest, tokens: Sequence[int], max_tokens: int) -> None:
        """Begin with a prompt.

        Raises:
            RequestError: it can never be served.
        """
        shape = manifest.architecture
        if max_tokens < 1:
            raise RequestError("max_tokens must be at least 1")
        if manifest.overflow == "refuse" and len(tokens) + max_tokens > shape.context_length:
            raise RequestError(
                f"{len(tokens)} tokens and max_tokens {max_tokens} exceed the context of "
                f"{shape.context_length}"
            )
        self.done = False
        self.start = window_start(len(tokens), shape.context_length)
        self.window = list(tokens[self.start :])
        if not self.window or max(self.window) >= shape.vocabulary_size:
            raise RequestError("a generation needs at least one token, all within the vocabulary")
        self._length = len(tokens)
        self._end = len(tokens) + max_tokens
        self._ends = manifest.tokenizer.ends
        self._limit = shape.context_length

    def append(self, token: int, is_last: bool = False) -> bool:
        """Take the next token, after which nothing may follow; returns whether the window moved."""
        self.window.append(token)
        self._length += 1
        self.done = is_last or token in self._ends or self._length == self._end
        moved = window_start(self._length, self._limit) - self.start
        del self.window[:moved]
        self.start += moved
        return moved > 0 and not self.done
