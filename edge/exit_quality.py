"""How good each of the edge's exits is, asked of the layers that are loaded."""

from __future__ import annotations

import json
from statistics import fmean

from updraft.edge.engine import Engine

# Enough to tell exits apart, and little beside loading the model.
_PROMPTS, _PROMPT_TOKENS, _LOOKS = 8, 40, 8
_OTHERWISE = "The first line of a text tells what it is about, and the second goes on.\n"


def exit_quality(engine: Engine) -> dict[int, float]:
    """Return, by layer, the share of tokens that each exit is expected to agree with full depth on.

    It is the mean calibrated confidence on prompts of the bundle (ADR 0007), so it needs no layer
    above the split.
    """
    window = engine.edge_window()
    layers = [exit_.layer for exit_ in engine.bundle.manifest.edge_exits]
    found: dict[int, list[float]] = {layer: [] for layer in layers}
    for text in _texts(engine):
        tokens = engine.tokenizer.encode(text)[: _PROMPT_TOKENS + _LOOKS]
        window.truncate(0)
        for length in range(max(1, len(tokens) - _LOOKS + 1), len(tokens) + 1):
            window.follow(tokens[:length])
            for layer in layers:
                window.sequence.advance(layer)
                found[layer].append(window.sequence.look(layer))
    return {layer: fmean(looks) if looks else 1.0 for layer, looks in found.items()}


def _texts(engine: Engine) -> list[str]:
    path = engine.bundle.path("prompts.jsonl")
    if not path.is_file():
        return [_OTHERWISE]
    lines = path.read_text(encoding="utf-8").splitlines()
    every = max(1, len(lines) // _PROMPTS)
    return [json.loads(line)["prompt"] for line in lines[::every][:_PROMPTS]]
