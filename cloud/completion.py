"""The tokens of a completion, as far as a session needs them to follow its constraint."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.errors import ProtocolError

# One token in a dictionary, about.
TOKEN_BYTES = 100
# Tokens that one frame may bring; a completion under a constraint is not longer.
_MOST_TOKENS = 1 << 17


class Completion:
    """Tokens of one completion by their position in the text, in step with a session's inputs.

    What a constraint allows after an input depends on the tokens up to it alone, and each input
    comes with its own token. So whatever becomes of the inputs (lost, sent again, taken back, in
    any order), the tokens that are needed are here when the inputs are.

    Attributes:
        start: position of the first token in the text.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self._tokens: dict[int, int] = {}

    @property
    def held_bytes(self) -> int:
        """Memory taken."""
        return TOKEN_BYTES * len(self._tokens)

    def expected(self, window_start: int, position: int, count: int, named: bool) -> int:
        """Return how many tokens come with inputs.

        Args:
            position: of the first input in the window; with 0 come those before the window too.
            named: the inputs are token ids, and need no others beside them.
        """
        first = self.start if position == 0 else max(self.start, window_start + position)
        return max(0, window_start + position + (0 if named else count) - first)

    def put(self, stop: int, tokens: Sequence[int]) -> None:
        """Take the tokens before position `stop` of the text; those known are left as they are."""
        for position, token in enumerate(tokens, stop - len(tokens)):
            self._tokens.setdefault(position, token)

    def truncate(self, position: int) -> None:
        """Forget the tokens from a position of the text on."""
        self._tokens = {at: token for at, token in self._tokens.items() if at < position}

    def clear(self) -> None:
        """Forget all: the window is another, or its inputs are lost."""
        self._tokens = {}

    def before(self, position: int) -> list[int]:
        """Return all tokens before a position of the text."""
        return [self._tokens[at] for at in range(self.start, position)]


def check_tokens(tokens: Sequence[int], expected: int, vocabulary_size: int) -> None:
    """Refuse tokens that cannot be those of a frame's inputs.

    Raises:
        ProtocolError: they are more or fewer, or no tokens.
    """
    came = len(tokens)
    if came > _MOST_TOKENS:
        raise ProtocolError(
            f"{came} tokens of the completion came with a frame, at most {_MOST_TOKENS} are taken"
        )
    if came != expected:
        raise ProtocolError(
            f"{came} tokens of the completion came with a frame, its inputs stand for {expected}"
        )
    if tokens and max(tokens) >= vocabulary_size:
        raise ProtocolError(f"token {max(tokens)} came, there are {vocabulary_size}")
