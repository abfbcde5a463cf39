"""The text of a generation that the cloud decodes."""

from __future__ import annotations

from updraft.errors import RequestError
from updraft.models.context import window_start
from updraft.models.manifest import Manifest


class Generation:
    """Tokens of one text, and the window of them that the model sees.

    Attributes:
        start: position in the text where the window starts.
        done: the text ended or is as long as was asked.
    """

    def __init__(self, manifest: Manifest, tokens: list[int], max_tokens: int) -> None:
        """Begin with a prompt.

        Raises:
            RequestError: it can never be served.
        """
        shape = manifest.architecture
        if not tokens or not all(0 <= token < shape.vocabulary_size for token in tokens):
            raise RequestError("a generation needs at least one token, all within the vocabulary")
        if max_tokens < 1:
            raise RequestError("max_tokens must be at least 1")
        if manifest.overflow == "refuse" and len(tokens) + max_tokens > shape.context_length:
            raise RequestError(
                f"{len(tokens)} tokens and max_tokens {max_tokens} exceed the context of "
                f"{shape.context_length}"
            )
        self.done = False
        self._tokens = tokens
        self._end = len(tokens) + max_tokens
        self._end_of_text = manifest.tokenizer.end_of_text
        self._limit = shape.context_length
        self.start = window_start(len(tokens), self._limit)

    @property
    def window(self) -> list[int]:
        """The tokens that the model sees."""
        return self._tokens[self.start :]

    def append(self, token: int) -> bool:
        """Take the next token; returns whether the window has moved."""
        self._tokens.append(token)
        self.done = token == self._end_of_text or len(self._tokens) == self._end
        start = window_start(len(self._tokens), self._limit)
        moved = start != self.start
        self.start = start
        return moved and not self.done
