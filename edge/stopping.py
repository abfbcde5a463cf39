"""STOP: end a generation whose line will not be what its author wants."""

from __future__ import annotations

from updraft.errors import RequestError
from updraft.models.manifest import Manifest
from updraft.models.stop import chance_wrong, surprise_of
from updraft.models.tokenizer import Tokenizer


class Stopping:
    """Follows one text as it is decoded, and says when its line is likely to come out wrong.

    For each token: `stops` at every exit that is looked at, then `take` when the text goes on,
    whoever produced the token. Drafts that are taken back are forgotten by `take_back`.

    Args:
        stop_at: chance of a wrong line from which to stop.
        fresh: the text starts a line (`at_line_start` of the prompt).

    Raises:
        RequestError: the bundle has no rules.
    """

    def __init__(self, manifest: Manifest, stop_at: float, fresh: bool) -> None:
        if not manifest.stop_rules:
            raise RequestError(
                f"bundle {manifest.name!r} has no stop rules, so it cannot tell when a line will "
                "be wrong: leave stop_at out, or use a bundle that was built with them"
            )
        self._rules = {rule.layer: rule for rule in manifest.stop_rules}
        self._stop_at = stop_at
        self._surprise = 0.0
        self._doubt = 0.0
        self._fresh = fresh
        # Of each token taken: its surprise, and doubt and fresh before it.
        self._taken: list[tuple[float, float, bool]] = []

    def stops(self, layer: int, probability: float) -> bool:
        """Whether to stop here, in place of the token that follows the text.

        Args:
            probability: of the best token at the exit after `layer`, not calibrated.
        """
        self._surprise = surprise_of(probability)
        return self.chance_wrong(layer) >= self._stop_at

    def chance_wrong(self, layer: int) -> float:
        """Return the chance of a wrong line, by the exit that was looked at last; 0: no rule."""
        rule = self._rules.get(layer)
        if rule is None:
            return 0.0
        return chance_wrong(rule, self._surprise, self._doubt, self._fresh)

    def take(self, piece: bytes) -> None:
        """Go on behind the next token, of which `piece` is the text."""
        self._taken.append((self._surprise, self._doubt, self._fresh))
        self._doubt += self._surprise
        if b"\n" in piece:
            self._doubt, self._fresh = 0.0, True

    @property
    def taken(self) -> int:
        """Tokens taken so far."""
        return len(self._taken)

    def take_back(self, count: int) -> None:
        """Forget all tokens but the first `count` taken.

        What the exits saw at the first of those forgotten stays known: another token may take
        its place at once.
        """
        if count < len(self._taken):
            self._surprise, self._doubt, self._fresh = self._taken[count]
            del self._taken[count:]


class Lookout:
    """Keeps a `Stopping` in step with a text of tokens that starts with a prompt."""

    def __init__(self, stopping: Stopping, tokenizer: Tokenizer, prompt_tokens: int) -> None:
        self._stopping = stopping
        self._tokenizer = tokenizer
        self._prompt_tokens = prompt_tokens

    def stops(self, text: list[int], layer: int, probability: float) -> bool:
        """Whether to stop in place of the token that follows `text`; see `Stopping.stops`."""
        for token in text[self._prompt_tokens + self._stopping.taken :]:
            self._stopping.take(self._tokenizer.bytes_of(token))
        return self._stopping.stops(layer, probability)

    def take_back(self, length: int) -> None:
        """Forget the text from `length` on."""
        self._stopping.take_back(length - self._prompt_tokens)
