"""Bundles with random weights: as slow and as large as real ones, and of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.models.build import BundlePlan, write_bundle
from updraft.models.bundle import Bundle
from updraft.models.manifest import Architecture, Quantization
from updraft.models.shipped import shipped_bundle

_BLOCK = 64


def write_random_bundle(
    folder: Path, name: str, shape: Architecture, exits: Sequence[int]
) -> Bundle:
    """Write a bundle with random int8 weights and the tokenizer of the one that ships.

    Args:
        folder: must not exist yet.
        shape: its vocabulary must be that of the bundle that ships.
        exits: layers done at each exit on the edge; the last one is the split.
    """
    plan = BundlePlan(
        name=name,
        architecture=shape,
        exits=exits,
        quantization=Quantization(weights="int8", block=_BLOCK),
        tokenizer_json=(shipped_bundle() / "tokenizer.json").read_text(),
        end_of_text=0,
        provenance={"recipe": "random weights", "seed": 0},
    )
    return write_bundle(folder, plan, _weights(shape, [*exits, shape.layers]))


def parameters(shape: Architecture) -> int:
    """Return the number of weights in the matrices, the tied embedding once."""
    kv_width = shape.kv_heads * shape.head_width
    attention = 2 * shape.width**2 + 2 * kv_width * shape.width
    layer = attention + 3 * shape.ffn_width * shape.width
    return shape.layers * layer + shape.vocabulary_size * shape.width


def _weights(shape: Architecture, exits: Sequence[int]) -> dict[str, NDArray[np.float32]]:
    kv_width = shape.kv_heads * shape.head_width
    sizes = {"embedding.weight": (shape.vocabulary_size, shape.width)}
    gains = [f"exit_norms.{layer}.weight" for layer in exits]
    for layer in range(shape.layers):
        own = f"layers.{layer}."
        gains += [own + "attention_norm.weight", own + "ffn_norm.weight"]
        sizes |= {
            own + "q.weight": (shape.width, shape.width),
            own + "k.weight": (kv_width, shape.width),
            own + "v.weight": (kv_width, shape.width),
            own + "o.weight": (shape.width, shape.width),
            own + "gate.weight": (shape.ffn_width, shape.width),
            own + "up.weight": (shape.ffn_width, shape.width),
            own + "down.weight": (shape.width, shape.ffn_width),
        }
    rng = np.random.default_rng(0)
    matrices = {
        name: rng.standard_normal(size, np.float32) * np.float32(size[1] ** -0.5)
        for name, size in sizes.items()
    }
    return {**matrices, **{name: np.ones(shape.width, np.float32) for name in gains}}
