"""Fit stop rules: watch the exits on the edge while the whole model completes lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.recipes.prompts import Prompt
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.stop import at_line_start, first_line, fit_stop_rule, surprise_of
from updraft.models.tokenizer import Tokenizer

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

_MAX_LINE_TOKENS = 48


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Watched:
    """What the exits on the edge saw while the whole model completed lines greedily.

    Attributes:
        layers: the exits on the edge, shallow first.
        surprise: (exits, tokens).
        doubt: (tokens,) sum of the deepest exit's surprise over the line's tokens so far.
        fresh: (tokens,) the line is completed from its start.
        wrong: (tokens,) the token's line is not the author's.
        line: (tokens,) number of the prompt.
    """

    layers: tuple[int, ...]
    surprise: NDArray[np.float64]
    doubt: NDArray[np.float64]
    fresh: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    line: NDArray[np.int64]


def add_stop_rules(bundle: Bundle, prompts: Sequence[Prompt], report: Report = _silent) -> Bundle:
    """Fit a stop rule for each exit on the edge and store them; the fingerprint stays.

    Exits get no rule where the prompts cannot tell; a few hundred prompts are needed.

    Args:
        prompts: drawn from calibration files; those whose completion ends no line are left out.
    """
    seen = watch_lines(bundle, prompts, report)
    rules = [
        fit_stop_rule(layer, surprise, seen.doubt, seen.fresh, seen.wrong)
        for layer, surprise in zip(seen.layers, seen.surprise, strict=True)
    ]
    # Read again: fitting takes a while, and others write to the manifest too.
    manifest = open_bundle(bundle.folder).manifest
    changes = {"stop_rules": [rule for rule in rules if rule is not None]}
    write_manifest(bundle.folder, manifest.model_copy(update=changes))
    return open_bundle(bundle.folder)


def watch_lines(bundle: Bundle, prompts: Sequence[Prompt], report: Report = _silent) -> Watched:
    """Complete the line that each prompt begins, and note what the exits see on the way.

    Args:
        bundle: the whole of it must run in this process.
    """
    model = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    tokenizer = Tokenizer(bundle)
    rows: list[tuple[list[float], float, bool, bool, int]] = []
    for number, prompt in enumerate(prompts):
        author = first_line(prompt.completion.encode())
        if author is not None:
            steps, line = _complete(model, tokenizer, prompt.prompt)
            rows += [(*step, line != author, number) for step in steps]
        report("stop rules", number + 1, len(prompts))
    surprise, doubt, fresh, wrong, line_of = zip(*rows, strict=True) if rows else [()] * 5
    layers = tuple(entry.layer for entry in bundle.manifest.edge_exits)
    return Watched(
        layers=layers,
        surprise=np.array(surprise, np.float64).reshape(len(rows), len(layers)).T,
        doubt=np.array(doubt, np.float64),
        fresh=np.array(fresh, np.bool_),
        wrong=np.array(wrong, np.bool_),
        line=np.array(line_of, np.int64),
    )


def _complete(
    model: Model, tokenizer: Tokenizer, prompt: str
) -> tuple[list[tuple[list[float], float, bool]], bytes | None]:
    """Return surprise at each exit, doubt and fresh at each token, and the line, if it ends."""
    manifest = model.bundle.manifest
    tokens = tokenizer.encode(prompt)
    sequence = model.new_sequence()
    sequence.append(tokens)
    steps: list[tuple[list[float], float, bool]] = []
    doubt, fresh, written = 0.0, at_line_start(prompt), b""
    room = manifest.architecture.context_length - len(tokens)
    for _ in range(min(room, _MAX_LINE_TOKENS)):
        surprise = []
        for entry in manifest.edge_exits:
            sequence.advance(entry.layer)
            sequence.look(entry.layer)
            surprise.append(surprise_of(sequence.probability))
        steps.append((surprise, doubt, fresh))
        sequence.advance(model.top)
        token = sequence.propose(model.top, Sampling(), sequence.length).token
        piece = tokenizer.bytes_of(token)
        written += piece
        if tokenizer.ends(token) or first_line(written) is not None:
            break
        doubt += surprise[-1]
        if b"\n" in piece:
            doubt, fresh = 0.0, True
        sequence.append([token])
    return steps, first_line(written)
