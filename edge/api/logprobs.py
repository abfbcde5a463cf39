"""Log-probabilities of tokens, in the shapes of both endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from updraft.edge.request import GeneratedToken
from updraft.models.tokenizer import Tokenizer

MOST_TOP_LOGPROBS = 20


class Scored(NamedTuple):
    """A token with its log-probability and those of the best tokens in its place.

    Attributes:
        offset: where its text begins, in bytes of the answer.
        place: the same in characters.
    """

    token: int
    logprob: float
    top: Sequence[tuple[int, float]]
    offset: int
    place: int


class Scores:
    """Gives each token's score when its text begins to show, so that stop strings have none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._held: list[Scored] = []
        self._seen_bytes = self._shown_bytes = self._seen_characters = 0

    def take(self, token: GeneratedToken) -> list[Scored]:
        """Take the next token and return the scores that go out with it."""
        data = self._tokenizer.bytes_of(token.token)
        if token.logprob is not None and not self._tokenizer.ends(token.token):
            seen = self._seen_bytes, self._seen_characters
            self._held.append(Scored(token.token, token.logprob, token.top_logprobs, *seen))
        self._seen_bytes += len(data)
        # All bytes of a character but its first begin with the bits 10.
        self._seen_characters += sum(byte & 0xC0 != 0x80 for byte in data)
        self._shown_bytes += len(token.text.encode())
        shown = [scored for scored in self._held if scored.offset < self._shown_bytes]
        self._held = self._held[len(shown) :]
        return shown

    def for_chat(self, scores: Sequence[Scored]) -> dict[str, Any]:
        """Return `logprobs` of a chat's choice."""
        return {"content": [self._entry(*scored[:3]) for scored in scores], "refusal": None}

    def for_text(self, scores: Sequence[Scored], before: int) -> dict[str, Any]:
        """Return `logprobs` of a completion's choice.

        Args:
            before: characters of the text that stand before the answer.
        """
        offsets, top = [], []
        for scored in scores:
            offsets.append(before + scored.place)
            top.append({self._name(token): logprob for token, logprob in scored.top})
        return {
            "tokens": [self._name(scored.token) for scored in scores],
            "token_logprobs": [scored.logprob for scored in scores],
            "top_logprobs": top,
            "text_offset": offsets,
        }

    def _entry(
        self, token: int, logprob: float, top: Sequence[tuple[int, float]] | None = None
    ) -> dict[str, Any]:
        data = self._tokenizer.bytes_of(token)
        entry: dict[str, Any] = {
            "token": data.decode(errors="replace"),
            "logprob": logprob,
            "bytes": list(data),
        }
        if top is not None:
            entry["top_logprobs"] = [self._entry(*best) for best in top]
        return entry

    def _name(self, token: int) -> str:
        """Return a token's text; tokens that are parts of characters show their bytes."""
        data = self._tokenizer.bytes_of(token)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
