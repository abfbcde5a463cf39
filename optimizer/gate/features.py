"""A prompt's text as a row of numbers: hashed word and character n-grams, for the gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError

Codes = NDArray[np.uint64]

# Multipliers of FNV-1a and of the finaliser of MurmurHash3; the arithmetic is modulo 2**64.
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)
_SIGN = np.uint64(63)


@dataclass(frozen=True)
class TextFeatures:
    """How text becomes features; the same settings give the same row on every machine.

    Every n-gram adds or takes away, as one bit of its hash says, in the column that the rest of
    its hash says, so that n-grams which meet in a column cancel out on average. Rows have length
    1, or 0 where the text is empty.

    Attributes:
        width: columns.
        words: largest n of word n-grams.
        characters: every n of character n-grams, inside and across words.
        seed: of the hash; another seed lets other n-grams meet.
    """

    width: int = 2048
    words: int = 2
    characters: tuple[int, ...] = (3, 4)
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.width, self.words, *self.characters)
        if min(sizes) < 1 or not 0 <= self.seed < 2**63:
            raise ProblemError(
                [
                    f"text features with width {self.width}, words {self.words}, characters "
                    f"{self.characters}, seed {self.seed}: every size must be at least 1 and the "
                    "seed between 0 and 2**63 - 1"
                ]
            )

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row of features per text: (texts, width). Case and layout do not matter."""
        rows = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(rows, texts, strict=True):
            grams, counts = np.unique(self._hashes(text), return_counts=True)
            signs = np.where(grams >> _SIGN, -1.0, 1.0)
            columns = (grams % np.uint64(self.width)).astype(np.intp)
            # A word that comes twice says more than one that comes once, but not twice as much.
            sums = np.bincount(columns, signs * (1 + np.log(counts)), self.width)
            length = np.linalg.norm(sums)
            if length > 0:
                row[:] = sums / length
        return rows

    def _hashes(self, text: str) -> Codes:
        words = text.casefold().split()
        names = np.array([crc32(word.encode("utf-8", "replace")) for word in words], np.uint64)
        # Spaces at both ends: the first letters of a text are those of a word like any other.
        letters = np.array([ord(letter) for letter in f" {' '.join(words)} "], np.uint64)
        kinds = [(names, n, self.seed) for n in range(1, self.words + 1)]
        # The seed's top bit keeps a word apart from a letter that happens to have its number.
        kinds += [(letters, n, self.seed | 1 << 63) for n in self.characters if words]
        return np.concatenate([_ngrams(*kind) for kind in kinds])


def _ngrams(codes: Codes, n: int, seed: int) -> Codes:
    """Return the hash of each n codes in a row."""
    count = max(len(codes) - n + 1, 0)
    hashes = np.full(count, seed, np.uint64)
    for offset in range(n):
        hashes = _mix(hashes ^ codes[offset : offset + count]) * _FNV_PRIME
    return _mix(hashes + np.uint64(n))


def _mix(hashes: Codes) -> Codes:
    mixed = (hashes ^ (hashes >> _HALF)) * _MIX
    return mixed ^ (mixed >> _HALF)
