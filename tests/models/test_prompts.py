"""Prompts that ship with a bundle: cut from files, and cut so that they tokenize back."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from updraft.models.recipes.corpus import SourceFile
from updraft.models.recipes.prompts import draw_prompts, tile_prompts, to_jsonl
from updraft.models.tokenizer import Tokenizer

LINE = "    value_{n} = compute('é', other_{n})  # {n}\n"


@pytest.fixture(scope="module")
def files():
    return [
        SourceFile(f"{name}.py", "".join(LINE.format(n=n * step) for n in range(60)), name == "a")
        for step, name in enumerate("abcdef", start=1)
    ]


@pytest.fixture(scope="module")
def tokenizer(bundle):
    return Tokenizer(bundle)


def test_prompts_and_completions_are_pieces_of_their_file(files, tokenizer):
    texts = {file.path: file for file in files}
    prompts = draw_prompts(files, tokenizer, 18, seed=0)
    assert len({prompt.prompt for prompt in prompts}) == 18
    for prompt in prompts:
        tokens = tokenizer.encode(prompt.prompt)
        assert 64 <= len(tokens) <= 256
        assert tokenizer.decode(tokens) == prompt.prompt
        assert prompt.prompt + prompt.completion in texts[prompt.path].text
        assert prompt.is_test == texts[prompt.path].is_test


def test_files_take_turns(files, tokenizer):
    prompts = draw_prompts(files, tokenizer, 18, seed=0)
    assert set(Counter(prompt.path for prompt in prompts).values()) == {3}


def test_prompts_end_after_lines_and_inside_them(files, tokenizer):
    ends = [prompt.prompt.endswith("\n") for prompt in draw_prompts(files, tokenizer, 18, seed=0)]
    assert 0 < sum(ends) < len(ends)


def test_the_seed_alone_decides(files, tokenizer):
    first = draw_prompts(files, tokenizer, 6, seed=1)
    assert first == draw_prompts(files, tokenizer, 6, seed=1)
    assert first != draw_prompts(files, tokenizer, 6, seed=2)


def test_tables_of_data_and_short_files_give_nothing(tokenizer):
    table = SourceFile("table.py", "    (0x12, 0x34, -1.5e3, 99),\n" * 200, False)
    short = SourceFile("short.py", "import os\n" * 5, False)
    with pytest.raises(ValueError, match="1 prompts were asked for, 2 files gave 0"):
        draw_prompts([table, short], tokenizer, 1, seed=0)


def test_each_line_of_the_file_is_an_object(files, tokenizer):
    prompts = draw_prompts(files, tokenizer, 6, seed=0)
    rows = [json.loads(line) for line in to_jsonl(prompts).splitlines()]
    assert [row["prompt"] for row in rows] == [prompt.prompt for prompt in prompts]
    assert rows[0].keys() == {"prompt", "completion", "path", "is_test"}


def test_tiles_of_a_file_do_not_overlap(files, tokenizer):
    texts = {file.path: file.text for file in files}
    tiles = tile_prompts(files, tokenizer, seed=0)
    assert len(tiles) > 2 * len(files)
    for path, text in texts.items():
        starts = sorted((text.index(t.prompt), len(t.prompt)) for t in tiles if t.path == path)
        assert all(first + size <= after for (first, size), (after, _) in pairwise(starts))


def test_tiles_are_cut_as_drawn_prompts_are(files, tokenizer):
    for tile in tile_prompts(files, tokenizer, seed=0):
        tokens = tokenizer.encode(tile.prompt)
        assert 64 <= len(tokens) <= 256
        assert tokenizer.decode(tokens) == tile.prompt
        assert len(tokenizer.encode(tile.completion)) >= 90


def test_tiles_come_in_a_random_order_that_the_seed_alone_decides(files, tokenizer):
    tiles = tile_prompts(files, tokenizer, seed=1)
    assert tiles == tile_prompts(files, tokenizer, seed=1)
    assert tiles != tile_prompts(files, tokenizer, seed=2)
    paths = [tile.path for tile in tiles]
    assert paths != sorted(paths)


def test_completions_may_be_left_out(files, tokenizer):
    tiles = tile_prompts(files, tokenizer, seed=0)
    rows = [json.loads(line) for line in to_jsonl(tiles, completions=False).splitlines()]
    assert rows == [{"prompt": tile.prompt, "path": tile.path} for tile in tiles]
