"""A byte-level BPE tokenizer of any size, made without a text: it only has to load and to run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, product
from typing import Any

END_OF_TEXT = "<|endoftext|>"


def tokenizer_json(size: int) -> dict[str, Any]:
    """Return a tokenizer of `size` tokens in the `tokenizers` library's form.

    The first 256 tokens are the bytes, the last one ends a text, those between are pairs and then
    threes of bytes.
    """
    letters = list(byte_letters().values())
    merges = list(islice(_merges(letters), size - len(letters) - 1))
    tokens = [*letters, *(left + right for left, right in merges)]
    end = len(tokens)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": end,
                "content": END_OF_TEXT,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate([*tokens, END_OF_TEXT])},
            "merges": [list(pair) for pair in merges],
        },
    }


def tokenizer_config() -> str:
    """Return `tokenizer_config.json` for it."""
    return json.dumps(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "unk_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": 1_000_000,
        },
        indent=1,
    )


def byte_letters() -> dict[int, str]:
    """Return byte → the letter that stands for it in byte-level BPE, as GPT-2 has them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    return {byte: letters[byte] for byte in sorted(letters)}


def _merges(letters: list[str]) -> Iterator[tuple[str, str]]:
    yield from product(letters, letters)
    for pair, letter in product(product(letters, letters), letters):
        yield "".join(pair), letter
