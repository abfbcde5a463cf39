"""Text to tokens, and tokens to text that arrives in whole characters."""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Sequence

from tokenizers import Tokenizer as _Tokenizer

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle
from updraft.models.pieces import Pieces

_MAX_PROMPT_BYTES = 1 << 20


class Tokenizer:
    """The tokenizer of a bundle: byte-level BPE, or SentencePiece's BPE and unigram.

    Attributes:
        end_of_text: the token that ends a text; `ends` knows the others that do.
        begin_token: the token that every text begins with; None: texts begin with none.
    """

    def __init__(self, bundle: Bundle) -> None:
        entry = bundle.manifest.tokenizer
        path = bundle.path(entry.file)
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path}: not a tokenizer: {error}") from error
        # A prompt that spells a special token is text, not that token.
        self._tokenizer.encode_special_tokens = True
        self._encoding = threading.Lock()
        self._size = bundle.manifest.architecture.vocabulary_size
        known = self._tokenizer.get_vocab_size()
        if known > self._size:
            raise BundleError(f"{path}: {known} tokens, the model knows {self._size}")
        try:
            self._pieces = Pieces(_decoder(self._tokenizer))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path}: {error}") from error
        self.end_of_text = entry.end_of_text
        self.begin_token = entry.begin_token
        self._ends = entry.ends
        self._reserved = {entry.begin_token, *entry.ends}
        added = self._tokenizer.get_added_tokens_decoder()
        self._silent = self._ends | {token for token, what in added.items() if what.special}
        self._bytes: dict[int, bytes] = {}

    @property
    def lead(self) -> tuple[int, bool]:
        """Spaces that the first word of a whole text loses at most; whether in one token."""
        return self._pieces.lead, self._pieces.lead_in_first

    def encode(self, text: str) -> list[int]:
        """Tokenize a prompt, beginning as the model's texts begin.

        Raises:
            RequestError: it is empty, larger than 1 MiB, or not text.
        """
        begin = [] if self.begin_token is None else [self.begin_token]
        tokens = self._encode(text, special=False)
        # A unigram model knows special tokens as words, and would find them in a text.
        return begin + [token for token in tokens if token not in self._reserved]

    def encode_chat(self, text: str) -> list[int]:
        """Tokenize what a chat template gave: special tokens that it spells are those tokens.

        Raises:
            RequestError: it is empty, larger than 1 MiB, or not text.
        """
        return self._encode(text, special=True)

    def spelling(self, token: int) -> str | None:
        """Return how a token is written in the tokenizer's file; None: it is padding."""
        piece: str | None = self._tokenizer.id_to_token(token)
        return piece

    def ends(self, token: int) -> bool:
        """Return whether a text ends with this token."""
        return token in self._ends

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token adds to a text; none for special tokens and padding."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._bytes_of(token)
        return known

    def vocabulary_bytes(self) -> list[bytes]:
        """Return what every token of the model's vocabulary stands for, by its number."""
        return [self.bytes_of(token) for token in range(self._size)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text that tokens are from its start on.

        Bytes that are no UTF-8 become U+FFFD.
        """
        stream = TextStream(self, starts=True)
        return "".join([*map(stream.push, tokens), stream.finish()])

    def _encode(self, text: str, *, special: bool) -> list[int]:
        if not text:
            raise RequestError("the prompt is empty: give at least one character")
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise RequestError(
                f"the prompt is not valid UTF-8 at character {error.start}"
            ) from error
        if size > _MAX_PROMPT_BYTES:
            raise RequestError(
                f"the prompt has {size} bytes, at most {_MAX_PROMPT_BYTES} are taken"
            )
        # A second tokenizer would cost the memory of its vocabulary, and seconds to read it.
        with self._encoding:
            self._tokenizer.encode_special_tokens = not special
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _bytes_of(self, token: int) -> bytes:
        piece = None if token in self._silent else self._tokenizer.id_to_token(token)
        return b"" if piece is None else self._pieces.bytes_of(piece)


def _decoder(tokenizer: _Tokenizer) -> dict[str, object]:
    """Return a tokenizer's decoder as its file describes it."""
    decoder = tokenizer.decoder
    if decoder is None:
        raise ValueError("it has no decoder, so its tokens cannot be turned into text")
    description: dict[str, object] = json.loads(decoder.__getstate__())
    return description


class TextStream:
    """Turns tokens into pieces of text as they come.

    A piece never splits a UTF-8 character, and never holds the start of what may become a stop
    string: such a tail is kept back until it is decided.

    Attributes:
        text: everything given out so far.
        stopped: a stop string was met; the text ends before it.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, starts: bool = False
    ) -> None:
        """Begin with the text that follows a prompt, or with one that `starts` here.

        Some tokenizers put a space before the first word of a text, which is then not shown.
        """
        self.text = ""
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._lead, self._lead_in_first = tokenizer.lead if starts else (0, False)

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now."""
        data = self._tokenizer.bytes_of(token)
        if self._lead and data:
            data = self._without_lead(data)
        return self._release(self._decoder.decode(data))

    def push_text(self, piece: str) -> str:
        """Take whole characters that did not come as tokens; see `push`."""
        return self._release(piece)

    def finish(self) -> str:
        """Return what was kept back; an unfinished character becomes U+FFFD."""
        return self._release(self._decoder.decode(b"", final=True), last=True)

    def _release(self, piece: str, last: bool = False) -> str:
        if self.stopped:
            return ""
        self._held += piece
        # Of several, the one that is complete first wins, however the text is cut into tokens.
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            keep = min(found)[1]
        else:
            keep = len(self._held) if last else len(self._held) - self._undecided()
        out, self._held = self._held[:keep], self._held[keep:]
        self.text += out
        return out

    def _without_lead(self, data: bytes) -> bytes:
        """Take away the spaces that a whole text does not begin with."""
        lead = min(self._lead, len(data) - len(data.lstrip(b" ")))
        self._lead -= lead
        if self._lead_in_first or lead < len(data):
            self._lead = 0
        return data[lead:]

    def _undecided(self) -> int:
        """Return the length of the longest tail that starts a stop string."""
        return max(
            (
                size
                for stop in self._stop
                for size in range(1, min(len(stop), len(self._held) + 1))
                if self._held.endswith(stop[:size])
            ),
            default=0,
        )
