"""Prompts that travel with a bundle, so that tests need no standard library to draw them from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from updraft.models.recipes.corpus import SourceFile
from updraft.models.tokenizer import Tokenizer

_TRIES = 20
_NO_LETTERS = re.compile(r"[^A-Za-z_\s]")
_MAX_SYMBOL_SHARE = 0.5


@dataclass(frozen=True)
class Prompt:
    """A piece of a file, and how the file goes on.

    Attributes:
        completion: the text of the tokens that follow.
        path: the file, below the standard library's folder.
    """

    prompt: str
    completion: str
    path: str
    is_test: bool


@dataclass(frozen=True)
class Lengths:
    """How long prompts and their completions are, in tokens."""

    shortest: int = 64
    longest: int = 256
    completion: int = 96


_LENGTHS = Lengths()


def draw_prompts(
    files: Sequence[SourceFile],
    tokenizer: Tokenizer,
    count: int,
    seed: int,
    lengths: Lengths = _LENGTHS,
) -> list[Prompt]:
    """Draw prompts that tokenize to exactly the tokens they were cut from.

    A prompt starts with a line and ends, with equal chance, after a line or inside one. Files
    take turns in random order: none gives a second prompt before each has given its first.
    Tables of data are passed over.

    Args:
        files: of one part of the corpus.

    Raises:
        ValueError: the files are too few or too short for so many prompts.
    """
    rng = np.random.default_rng(seed)
    cutters = [_Cutter(files[index], tokenizer, lengths) for index in rng.permutation(len(files))]
    cuts = [_cuts(cutter, rng) for cutter in cutters]
    prompts: dict[str, Prompt] = {}
    while cuts and len(prompts) < count:
        drawn = [next(cut, None) for cut in cuts]
        cuts = [cut for cut, prompt in zip(cuts, drawn, strict=True) if prompt is not None]
        prompts.update({prompt.prompt: prompt for prompt in drawn if prompt is not None})
    if len(prompts) < count:
        raise ValueError(f"{count} prompts were asked for, {len(files)} files gave {len(prompts)}")
    return list(prompts.values())[:count]


def tile_prompts(files: Sequence[SourceFile], tokenizer: Tokenizer, seed: int) -> list[Prompt]:
    """Cut files into as many prompts as they give, none sharing a token with another.

    Each is cut as `draw_prompts` cuts. They come in random order, so that the first n are a fair
    sample of all; long files give more of them.
    """
    rng = np.random.default_rng(seed)
    prompts: dict[str, Prompt] = {}
    for file in files:
        text = _Cutter(file, tokenizer, _LENGTHS)
        stop = 0
        for start in text.starts:
            if start >= stop and (cut := text.cut(start, rng)) is not None:
                stop, prompt = cut
                prompts[prompt.prompt] = prompt
    found = list(prompts.values())
    return [found[index] for index in rng.permutation(len(found))]


def to_jsonl(prompts: Sequence[Prompt], *, completions: bool = True) -> str:
    """Write prompts as JSON lines, the form that `--prompt-file` reads."""
    left_out = set() if completions else {"completion", "is_test"}
    rows = ({k: v for k, v in asdict(prompt).items() if k not in left_out} for prompt in prompts)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _cuts(text: _Cutter, rng: np.random.Generator) -> Iterator[Prompt]:
    """Yield prompts from a file until chance finds no further one."""
    misses = 0
    while text.starts and misses < _TRIES:
        cut = text.cut(int(rng.choice(text.starts)), rng)
        if cut is None:
            misses += 1
        else:
            misses = 0
            yield cut[1]


class _Cutter:
    """Cuts prompts out of one file.

    Attributes:
        starts: tokens where a prompt may start: a line starts, and enough text follows.
    """

    def __init__(self, file: SourceFile, tokenizer: Tokenizer, lengths: Lengths) -> None:
        self._file, self._tokenizer, self._lengths = file, tokenizer, lengths
        self._tokens = tokenizer.encode(file.text)
        self._pieces = [tokenizer.bytes_of(token) for token in self._tokens]
        # Tokens before which a line has ended, the start of the file being one.
        starts = [0, *(i + 1 for i, piece in enumerate(self._pieces) if piece.endswith(b"\n"))]
        last = len(self._tokens) - lengths.shortest - lengths.completion
        self.starts = [start for start in starts if start <= last]

    def cut(self, start: int, rng: np.random.Generator) -> tuple[int, Prompt] | None:
        """Cut a prompt of random length; returns where it stops, and it, if it is a good one."""
        lengths = self._lengths
        room = min(lengths.longest, len(self._tokens) - lengths.completion - start)
        shortest = start + lengths.shortest
        stop = start + int(rng.integers(lengths.shortest, room + 1))
        stop = _snap(self._pieces, shortest, stop, whole_line=bool(rng.integers(2)))
        prompt = _text(self._pieces[start:stop])
        completion = _text(self._pieces[stop : stop + lengths.completion])
        exact = prompt and completion and self._tokenizer.encode(prompt) == self._tokens[start:stop]
        if not exact or _is_table(prompt + completion):
            return None
        return stop, Prompt(prompt, completion, self._file.path, self._file.is_test)


def _snap(pieces: Sequence[bytes], shortest: int, stop: int, *, whole_line: bool) -> int:
    """Move the end of a prompt back to the end, or to the inside, of a line where there is one."""
    for end in range(stop, shortest - 1, -1):
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
