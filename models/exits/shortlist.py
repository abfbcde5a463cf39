"""Which tokens an exit before the split can say: the frequent ones, at a fraction of the cost."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]

# One character of the byte-level alphabet, or a byte written out.
_BYTE = re.compile(r".|<0x[0-9A-Fa-f]{2}>", re.DOTALL)
# Below this many tokens a head costs little: the whole vocabulary is kept.
_SMALL_VOCABULARY = 8192
# Without a text, and at most: where a larger head was measured to cost more than it brings.
DEFAULT_SIZE = 16384
# Share of the tokens of a text that a chosen shortlist holds.
COVERAGE = 0.995


def rank_tokens(counts: NDArray[np.int64], always: Collection[int] = ()) -> Ids:
    """Return all token ids, the ones to keep first.

    Tokens that a text holds come by their frequency in it. The others follow by their id: byte
    pair encoding numbers its tokens in the order of its merges, the most frequent pairs first.

    Args:
        counts: (vocabulary,) how often a text holds each token; zeros where there is no text.
        always: tokens that come before all others, such as those that end a text.
    """
    ids = np.arange(len(counts))
    first = np.isin(ids, list(always))
    return np.lexsort((ids, -counts, ~first)).astype(np.int32)


def choose_size(counts: NDArray[np.int64], heldout: NDArray[np.int64], ranked: Ids) -> int:
    """Return the smallest size in steps of 1,024 that covers enough of a held-out text.

    Args:
        counts: (vocabulary,) of the text that the ranking was made from.
        heldout: (vocabulary,) of a text that it was not made from.
        ranked: what `rank_tokens` returned.
    """
    vocabulary = len(counts)
    if vocabulary <= _SMALL_VOCABULARY:
        return vocabulary
    shares = coverage(heldout, ranked)
    enough = np.flatnonzero(shares >= COVERAGE)
    size = int(enough[0]) + 1 if len(enough) else DEFAULT_SIZE
    return min(-(-size // 1024) * 1024, DEFAULT_SIZE, vocabulary)


def coverage(counts: NDArray[np.int64], ranked: Ids) -> NDArray[np.float64]:
    """Return, for each size from 1, the share of a text's tokens that a shortlist holds."""
    shares: NDArray[np.float64] = np.cumsum(counts[ranked]) / max(1, counts.sum())
    return shares


def default_size(vocabulary: int) -> int:
    """Return the size of a shortlist that is chosen without a text."""
    return vocabulary if vocabulary <= _SMALL_VOCABULARY else min(DEFAULT_SIZE, vocabulary)


def always_kept(tokenizer_json: bytes, ends: Iterable[int], vocabulary: int) -> set[int]:
    """Return the tokens that no shortlist may lack.

    These are the special ones, those that end an answer, and those of single bytes, so that any
    text can be written.

    Args:
        tokenizer_json: the tokenizer in the `tokenizers` library's format.
        ends: tokens that end an answer.
    """
    document = json.loads(tokenizer_json)
    pieces = document.get("model", {}).get("vocab", {})
    if isinstance(pieces, list):  # with a score each, in the order of their ids
        pieces = {piece[0]: token for token, piece in enumerate(pieces)}
    kept = {token["id"] for token in document.get("added_tokens", [])} | set(ends)
    kept |= {token for piece, token in pieces.items() if _BYTE.fullmatch(piece)}
    return {token for token in kept if 0 <= token < vocabulary}


def without_text(
    tokenizer_json: bytes, ends: Iterable[int], vocabulary: int, size: int | None = None
) -> Ids | None:
    """Return the shortlist of a model that came without a text; None: the whole vocabulary.

    Args:
        size: tokens; the default's where None.
    """
    size = default_size(vocabulary) if size is None else min(size, vocabulary)
    if size == vocabulary:
        return None
    counts = np.zeros(vocabulary, np.int64)
    return np.sort(rank_tokens(counts, always_kept(tokenizer_json, ends, vocabulary))[:size])
