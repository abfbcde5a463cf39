"""Prompts that travel with a bundle, so that tests need no standard library to draw them from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from updraft.models.recipes.corpus import SourceFile
from updraft.models.tokenizer import Tokenizer

_SHORTEST, _LONGEST = 64, 256
_COMPLETION = 96
_TRIES = 20
_NO_LETTERS = re.compile(r"[^A-Za-z_\s]")
_MAX_SYMBOL_SHARE = 0.5


@dataclass(frozen=True)
class Prompt:
    """A piece of a file, and how the file goes on.

    Attributes:
        completion: the text of the next 96 tokens.
        path: the file, below the standard library's folder.
    """

    prompt: str
    completion: str
    path: str
    is_test: bool


def draw_prompts(
    files: Sequence[SourceFile], tokenizer: Tokenizer, count: int, seed: int
) -> list[Prompt]:
    """Draw prompts of 64 to 256 tokens that tokenize to exactly the tokens they were cut from.

    A prompt starts with a line and ends, with equal chance, after a line or inside one. Files
    take turns in random order: none gives a second prompt before each has given its first.
    Tables of data are passed over.

    Args:
        files: of one part of the corpus.

    Raises:
        ValueError: the files are too few or too short for so many prompts.
    """
    rng = np.random.default_rng(seed)
    cuts = [_cuts(files[index], tokenizer, rng) for index in rng.permutation(len(files))]
    prompts: dict[str, Prompt] = {}
    while cuts and len(prompts) < count:
        drawn = [next(cut, None) for cut in cuts]
        cuts = [cut for cut, prompt in zip(cuts, drawn, strict=True) if prompt is not None]
        prompts.update({prompt.prompt: prompt for prompt in drawn if prompt is not None})
    if len(prompts) < count:
        raise ValueError(f"{count} prompts were asked for, {len(files)} files gave {len(prompts)}")
    return list(prompts.values())[:count]


def to_jsonl(prompts: Sequence[Prompt]) -> str:
    """Write prompts as JSON lines, the form that `--prompt-file` reads."""
    return "".join(json.dumps(asdict(prompt), ensure_ascii=False) + "\n" for prompt in prompts)


def _cuts(file: SourceFile, tokenizer: Tokenizer, rng: np.random.Generator) -> Iterator[Prompt]:
    """Yield prompts from a file until chance finds no further one."""
    tokens = tokenizer.encode(file.text)
    pieces = [tokenizer.bytes_of(token) for token in tokens]
    # Tokens before which a line has ended, the start of the file being one.
    starts = [0, *(i + 1 for i, piece in enumerate(pieces) if piece.endswith(b"\n"))]
    starts = [start for start in starts if start + _SHORTEST + _COMPLETION <= len(tokens)]
    misses = 0
    while starts and misses < _TRIES:
        start = int(rng.choice(starts))
        room = min(_LONGEST, len(tokens) - _COMPLETION - start)
        stop = start + int(rng.integers(_SHORTEST, room + 1))
        stop = _snap(pieces, start, stop, whole_line=bool(rng.integers(2)))
        prompt = _text(pieces[start:stop])
        completion = _text(pieces[stop : stop + _COMPLETION])
        exact = bool(prompt and completion) and tokenizer.encode(prompt) == tokens[start:stop]
        if exact and not _is_table(prompt + completion):
            misses = 0
            yield Prompt(prompt, completion, file.path, file.is_test)
        else:
            misses += 1


def _snap(pieces: Sequence[bytes], start: int, stop: int, *, whole_line: bool) -> int:
    """Move the end of a prompt back to the end, or to the inside, of a line where there is one."""
    for end in range(stop, start + _SHORTEST - 1, -1):
        if pieces[end - 1].endswith(b"\n") == whole_line:
            return end
    return stop


def _text(pieces: Sequence[bytes]) -> str:
    """Return the text of pieces; none when they cut a character in two."""
    try:
        return b"".join(pieces).decode()
    except UnicodeDecodeError:
        return ""


def _is_table(text: str) -> bool:
    """Say whether most lines are digits and punctuation rather than words."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    symbols = [len(_NO_LETTERS.findall(line)) > _MAX_SYMBOL_SHARE * len(line) for line in lines]
    return sum(symbols) > len(lines) / 2
