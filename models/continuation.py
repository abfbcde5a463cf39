"""How well a bundle continues prompts whose true continuation is known: quality for routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.experts import DomainPrompt
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

# A greedy continuation is compared with this many true tokens.
GREEDY_TOKENS = 16


class Continued(NamedTuple):
    """What one exit made of some prompts, each (prompts,), from 0 to 1.

    Attributes:
        forced: share of the completion's tokens that it predicts when all before them are true.
        greedy: share of the first 16 new tokens that it writes by itself before its first
            token that is not the true one.
    """

    forced: NDArray[np.float64]
    greedy: NDArray[np.float64]


def continue_prompts(
    model: Model, tokenizer: Tokenizer, prompts: Sequence[DomainPrompt]
) -> dict[int, Continued]:
    """Measure every exit of a bundle on prompts; returns layer → what it made of them.

    One pass over prompt and completion gives both figures: as long as a greedy continuation is
    right, it sees the true tokens, so its right part is as long as the first run of right
    predictions.

    Args:
        prompts: each completion of at least one token; with its prompt it fits the context.
    """
    layers = sorted(model.heads.entries)
    forced: dict[int, list[float]] = {layer: [] for layer in layers}
    greedy: dict[int, list[float]] = {layer: [] for layer in layers}
    for row in prompts:
        start = len(tokenizer.encode(row.prompt))
        tokens = np.array(tokenizer.encode(row.prompt + row.completion))
        sequence = model.new_sequence()
        sequence.append(tokens[:-1])
        truth = tokens[start:]
        for layer in layers:
            sequence.advance(layer)
            states = sequence.states(layer, start - 1, sequence.length)
            right = model.heads.predict(layer, states).token == truth
            forced[layer].append(float(right.mean()))
            first = right[:GREEDY_TOKENS]
            greedy[layer].append(float(np.cumprod(first).mean()))
    return {layer: Continued(np.array(forced[layer]), np.array(greedy[layer])) for layer in layers}
