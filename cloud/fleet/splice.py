"""One text out of the parts of several nodes: what was given already is not given again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """A piece of an answer.

    Attributes:
        position: tokens given before it.
    """

    position: int
    text: str
    tokens: int


@dataclass(frozen=True)
class Given:
    """What came of a part.

    Attributes:
        part: what the client lacks; None where it has all of it.
        anew: the text differs from what the client has: void that, `part` holds all so far.
    """

    part: Part | None = None
    anew: bool = False


class Splice:
    """The answer as the client has it, across the nodes that gave it."""

    def __init__(self) -> None:
        self._version: str | None = None
        self._text, self._tokens = "", 0
        # What the present node has said of a text that the client has; None beyond its end.
        self._replay: str | None = None
        # Tokens of the present node.
        self._present = 0

    def begin(self, version: str) -> bool:
        """Begin with a node's answer; True where it may go on with the text of an earlier one.

        The same expert gives the same text for the same seed. Whether it did is seen part by part.
        """
        goes_on = version == self._version
        if goes_on:
            self._replay, self._present = "", 0
        else:
            self._version, self._replay = version, None
            self._text, self._tokens = "", 0
        return goes_on

    def add(self, part: Part) -> Given:
        """Take the next part of the present node; returns what the client lacks."""
        self._present = part.position + part.tokens
        if self._replay is None:
            self._text += part.text
            self._tokens = self._present
            return Given(part)
        agrees = self._text.startswith(part.text, len(self._replay))
        self._replay += part.text
        if agrees and self._present < self._tokens:
            return Given()
        return self._catch_up()

    def end(self) -> Given:
        """End with the present node's answer; void what the client has beyond it."""
        if self._replay is None or self._replay == self._text:
            return Given()
        return self._catch_up()

    def _catch_up(self) -> Given:
        assert self._replay is not None, "only a text that is said again catches up"
        again, tokens, self._replay = self._replay, self._present, None
        anew = tokens < self._tokens or not again.startswith(self._text)
        if anew:
            part = Part(0, again, tokens)
        else:
            part = Part(self._tokens, again[len(self._text) :], tokens - self._tokens)
        self._text, self._tokens = again, tokens
        return Given(part if part.text or part.tokens or anew else None, anew)
