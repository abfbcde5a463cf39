"""How often each exit says what the full depth says, measured on given texts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer


def exit_agreement(model: Model, tokenizer: Tokenizer, texts: Iterable[str]) -> dict[int, float]:
    """Return, for each exit below the top, the share of tokens that agree with the full depth.

    Both are asked after the same, true prefix; what an exit alone would go on from is another
    text, so a whole answer agrees less.

    Args:
        model: all layers of a bundle.
        texts: what does not fit the context is cut off.

    Raises:
        RequestError: a text is empty.
    """
    manifest = model.bundle.manifest
    context = manifest.architecture.context_length
    agreed = {entry.layer: 0 for entry in manifest.exits}
    count = 0
    for text in texts:
        tokens = tokenizer.encode(text)[:context]
        sequence = model.new_sequence()
        sequence.append(tokens)
        said = {}
        for layer in agreed:
            sequence.advance(layer)
            said[layer] = model.heads.predict(layer, sequence.states(layer, 0, len(tokens))).token
        for layer, token in said.items():
            agreed[layer] += int(np.sum(token == said[model.top]))
        count += len(tokens)
    return {layer: hits / count for layer, hits in agreed.items() if count and layer != model.top}
