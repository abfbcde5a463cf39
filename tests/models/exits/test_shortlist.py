"""Which tokens an exit may say, and how large a share of a text they are."""

import numpy as np

from updraft.models.exits.shortlist import (
    COVERAGE,
    DEFAULT_SIZE,
    always_kept,
    choose_size,
    coverage,
    default_size,
    rank_tokens,
    without_text,
)
from updraft.models.tokenizer import Tokenizer


def test_frequent_tokens_come_first_then_those_merged_first():
    counts = np.array([0, 5, 0, 9, 0, 5])
    assert rank_tokens(counts, {4}).tolist() == [4, 3, 1, 5, 0, 2]
    assert rank_tokens(np.zeros(4, np.int64)).tolist() == [0, 1, 2, 3]


def test_the_size_is_the_smallest_that_covers_a_text_that_ranked_nothing():
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 40_001)
    counts, heldout = (rng.multinomial(10**6, shares / shares.sum()) for _ in range(2))
    ranked = rank_tokens(counts)
    covered = coverage(heldout, ranked)
    assert np.all(np.diff(covered) >= 0)
    assert covered[-1] == 1
    size = choose_size(counts, heldout, ranked)
    assert size == DEFAULT_SIZE or covered[size - 1] >= COVERAGE > covered[size - 1025]
    narrow = np.where(np.arange(40_000) < 3000, heldout, 0)
    assert choose_size(counts, narrow, ranked) <= 4096


def test_a_small_vocabulary_is_kept_whole():
    counts = np.arange(4096)
    assert choose_size(counts, counts, rank_tokens(counts)) == 4096
    assert default_size(4096) == 4096
    assert default_size(151_936) == DEFAULT_SIZE


def test_no_shortlist_lacks_what_ends_a_text_or_any_byte(tiny_bundle):
    tokenizer = Tokenizer(tiny_bundle)
    document = tiny_bundle.path(tiny_bundle.manifest.tokenizer.file).read_bytes()
    kept = always_kept(document, [tokenizer.end_of_text, 9999], 288)
    assert tokenizer.end_of_text in kept
    assert max(kept) < 288
    assert {tokenizer.bytes_of(token) for token in kept} >= {bytes([b]) for b in range(256)}
    chosen = without_text(document, [0], 288, 270)
    assert kept <= set(chosen.tolist())
    assert len(chosen) == len(set(chosen.tolist())) == 270
    assert without_text(document, [0], 288) is None
