"""Text to tokens, and tokens to text that arrives in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from tokenizers import Tokenizer as _Tokenizer

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle

_MAX_PROMPT_BYTES = 1 << 20


class Tokenizer:
    """The byte-level tokenizer of a bundle.

    Attributes:
        end_of_text: the token that ends a text.
    """

    def __init__(self, bundle: Bundle) -> None:
        path = bundle.path(bundle.manifest.tokenizer.file)
        try:
            self._tokenizer = _Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise BundleError(f"{path}: not a tokenizer: {error}") from error
        # A prompt that spells a special token is text, not that token.
        self._tokenizer.encode_special_tokens = True
        size = bundle.manifest.architecture.vocabulary_size
        if self._tokenizer.get_vocab_size() > size:
            raise BundleError(
                f"{path}: {self._tokenizer.get_vocab_size()} tokens, the model knows {size}"
            )
        self.end_of_text = bundle.manifest.tokenizer.end_of_text
        try:
            self._bytes = [self._bytes_of(token) for token in range(size)]
        except KeyError as error:
            raise BundleError(f"{path}: not byte-level: it has a token with {error}") from error

    def encode(self, text: str) -> list[int]:
        """Tokenize a prompt.

        Raises:
            RequestError: it is empty, larger than 1 MiB, or not text.
        """
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
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token stands for; none for special tokens."""
        return self._bytes[token]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.bytes_of, tokens)).decode(errors="replace")

    def _bytes_of(self, token: int) -> bytes:
        piece = self._tokenizer.id_to_token(token)
        if piece is None or token == self.end_of_text:
            return b""
        return bytes(_BYTE_OF_CHARACTER[character] for character in piece)


class TextStream:
    """Turns tokens into pieces of text as they come.

    A piece never splits a UTF-8 character, and never holds the start of what may become a stop
    string: such a tail is kept back until it is decided.

    Attributes:
        text: everything given out so far.
        stopped: a stop string was met; the text ends before it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.text = ""
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, token: int) -> str:
        """Take a token and return the text that is certain now."""
        return self._release(self._decoder.decode(self._tokenizer.bytes_of(token)))

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


def _byte_alphabet() -> dict[str, int]:
    """Map the printable characters of byte-level BPE back to bytes (the GPT-2 alphabet)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHARACTER = _byte_alphabet()
