"""Whole lines of held-out code: how often a model completes one, and how many are not new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from updraft.models.recipes.corpus import SourceFile
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.sequence import Sequence as ModelSequence
from updraft.models.tokenizer import Tokenizer

MIN_LINE_CHARS = 20
_MAX_LINE_TOKENS = 48


@dataclass(frozen=True)
class Policy:
    """A greedy way to decode: take the first exit that is at least `theta` sure, else the last."""

    name: str
    exits: tuple[int, ...]
    theta: float = 0.0


@dataclass(frozen=True)
class LineScore:
    """How often a policy completes a line exactly as it stands in the file."""

    policy: str
    lines: int
    share: float
    standard_error: float


@dataclass(frozen=True)
class OpenLine:
    """A line cut at a token boundary.

    Attributes:
        prompt: tokens up to the cut, at most half a context.
        rest: bytes from the cut to the end of the line.
    """

    prompt: NDArray[np.int64]
    rest: bytes


def complete_lines(
    model: Model,
    tokenizer: Tokenizer,
    lines: Sequence[OpenLine],
    policies: Sequence[Policy],
    report: Callable[[int, int], None],
) -> list[LineScore]:
    """Complete every line greedily under every policy.

    Args:
        model: all layers.
        report: called with lines done and to do, policies counted one by one.
    """
    if not lines:
        return []
    scores = []
    for number, policy in enumerate(policies):
        hits = 0
        for done, line in enumerate(lines, start=number * len(lines) + 1):
            hits += _completes(model, tokenizer, line, policy)
            report(done, len(policies) * len(lines))
        share = hits / len(lines)
        error = sqrt(share * (1 - share) / len(lines))
        scores.append(LineScore(policy.name, len(lines), share, error))
    return scores


def draw_lines(
    files: Sequence[SourceFile], tokenizer: Tokenizer, limit: int, count: int, seed: int
) -> list[OpenLine]:
    """Draw lines of at least 20 characters, each cut at a random token boundary inside it.

    Every such line of the files is as likely as every other.

    Args:
        limit: tokens of a prompt at most.
    """
    rng = np.random.default_rng(seed)
    starts = [(file, start) for file in files for start in _line_starts(file.text)]
    chosen = sorted(rng.permutation(len(starts))[:count].tolist())
    documents: dict[str, _Document] = {}
    lines = []
    for file, start in (starts[index] for index in chosen):
        if file.path not in documents:
            documents[file.path] = _Document(file.text, tokenizer)
        cut = documents[file.path].cut(start, limit, rng)
        if cut is not None:
            lines.append(cut)
    return lines


def verbatim_share(unseen: Iterable[SourceFile], seen: Iterable[SourceFile]) -> float:
    """Return the share of unseen lines that also stand in a seen file, indentation aside.

    Lines shorter than 20 characters are not counted: they say too little to be copies.
    """
    known = {line.strip() for file in seen for line in file.text.split("\n")}
    lines = [line.strip() for file in unseen for line in file.text.split("\n")]
    long = [line for line in lines if len(line) >= MIN_LINE_CHARS]
    return sum(line in known for line in long) / max(1, len(long))


class _Document:
    """A file with the places of its tokens."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        tokens = tokenizer.encode(text)
        self._text = text
        self._tokens = np.array([tokenizer.end_of_text, *tokens], np.int64)
        # Byte at which each token ends; the first, the end of the text before, has none.
        self._ends = np.cumsum([0, *(len(tokenizer.bytes_of(token)) for token in tokens)])

    def cut(self, start: int, limit: int, rng: np.random.Generator) -> OpenLine | None:
        """Cut the line that starts at a character; None when it is a single token."""
        line = self._text[start : self._text.index("\n", start)]
        indent = len(line) - len(line.lstrip())
        before = len(self._text[: start + indent].encode())
        content = line[indent:].encode()
        last = before + len(content.rstrip())
        inside = np.flatnonzero((self._ends > before) & (self._ends < last))
        if not len(inside):
            return None
        at = int(rng.choice(inside))
        prompt = self._tokens[max(0, at + 1 - limit) : at + 1]
        return OpenLine(prompt, content[self._ends[at] - before :])


def _line_starts(text: str) -> Iterable[int]:
    """Yield where each line starts that is long enough and ends with a line break."""
    start = 0
    for line in text.split("\n")[:-1]:
        if len(line.strip()) >= MIN_LINE_CHARS:
            yield start
        start += len(line) + 1


def _completes(model: Model, tokenizer: Tokenizer, line: OpenLine, policy: Policy) -> bool:
    sequence = model.new_sequence()
    sequence.append(line.prompt)
    room = model.bundle.manifest.architecture.context_length - len(line.prompt)
    written = b""
    for _ in range(min(_MAX_LINE_TOKENS, room)):
        token = _next_token(sequence, policy)
        written += tokenizer.bytes_of(token)
        before, newline, _ = written.partition(b"\n")
        if newline:
            return before == line.rest
        if tokenizer.ends(token) or not line.rest.startswith(written):
            return False
        sequence.append([token])
    return False


def _next_token(sequence: ModelSequence, policy: Policy) -> int:
    for layer in policy.exits:
        sequence.advance(layer)
        candidate = sequence.propose(layer, Sampling(), sequence.length)
        if candidate.confidence >= policy.theta:
            break
    return candidate.token
