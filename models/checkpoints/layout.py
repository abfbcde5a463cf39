"""Where a checkpoint keeps each weight: its names and sizes under ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from updraft.models.architecture import Architecture
from updraft.models.checkpoints.families import Family

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
# Tables that old checkpoints saved and that follow from the configuration.
DERIVED_SUFFIXES = ("rotary_emb.inv_freq", "attention.masked_bias", "attention.bias")


class Place(NamedTuple):
    """A weight of the model: our name, the checkpoint's, and the size that it must have."""

    ours: str
    theirs: str
    shape: tuple[int, ...]


def places(shape: Architecture, family: Family) -> Iterator[Place]:
    """Yield every weight that a model of this architecture has."""
    yield Place("embedding.weight", EMBEDDING, (shape.vocabulary_size, shape.width))
    if not shape.tied:
        yield Place("head.weight", HEAD, (shape.vocabulary_size, shape.width))
    yield Place(f"exit_norms.{shape.layers}.weight", "model.norm.weight", (shape.width,))
    for layer in range(shape.layers):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        yield Place(
            ours + "attention_norm.weight", theirs + "input_layernorm.weight", (shape.width,)
        )
        yield Place(
            ours + "ffn_norm.weight", theirs + "post_attention_layernorm.weight", (shape.width,)
        )
        yield from _attention(shape, ours, theirs + "self_attn.")
        if not shape.is_mixture(layer):
            yield from _feed_forward(ours, theirs + "mlp.", shape.width, shape.ffn_width)
        elif family.experts == "mixtral":
            yield from _mixtral(shape, ours, theirs + "block_sparse_moe.")
        else:
            yield from _qwen_mixture(shape, ours, theirs + "mlp.")


def _attention(shape: Architecture, ours: str, theirs: str) -> Iterator[Place]:
    for which, width in (
        ("q", shape.attention_width), ("k", shape.kv_width), ("v", shape.kv_width),
    ):  # fmt: skip
        yield Place(f"{ours}{which}.weight", f"{theirs}{which}_proj.weight", (width, shape.width))
        if shape.qkv_bias:
            yield Place(f"{ours}{which}.bias", f"{theirs}{which}_proj.bias", (width,))
    yield Place(ours + "o.weight", theirs + "o_proj.weight", (shape.width, shape.attention_width))
    if shape.output_bias:
        yield Place(ours + "o.bias", theirs + "o_proj.bias", (shape.width,))
    if shape.qk_norm:
        yield Place(ours + "q_norm.weight", theirs + "q_norm.weight", (shape.head_width,))
        yield Place(ours + "k_norm.weight", theirs + "k_norm.weight", (shape.head_width,))


def _feed_forward(
    ours: str, theirs: str, width: int, ffn_width: int, names: str = "gate_proj up_proj down_proj"
) -> Iterator[Place]:
    gate, up, down = names.split()
    yield Place(ours + "gate.weight", f"{theirs}{gate}.weight", (ffn_width, width))
    yield Place(ours + "up.weight", f"{theirs}{up}.weight", (ffn_width, width))
    yield Place(ours + "down.weight", f"{theirs}{down}.weight", (width, ffn_width))


def _mixtral(shape: Architecture, ours: str, theirs: str) -> Iterator[Place]:
    assert shape.mixture is not None, "the caller asked"
    experts, ffn_width = shape.mixture.experts, shape.mixture.ffn_width
    yield Place(ours + "router.weight", theirs + "gate.weight", (experts, shape.width))
    for expert in range(experts):
        own = f"experts.{expert}."
        yield from _feed_forward(ours + own, theirs + own, shape.width, ffn_width, "w1 w3 w2")


def _qwen_mixture(shape: Architecture, ours: str, theirs: str) -> Iterator[Place]:
    mixture, width = shape.mixture, shape.width
    assert mixture is not None, "the caller asked"
    yield Place(ours + "router.weight", theirs + "gate.weight", (mixture.experts, width))
    for expert in range(mixture.experts):
        own = f"experts.{expert}."
        yield from _feed_forward(ours + own, theirs + own, width, mixture.ffn_width)
    if mixture.shared_ffn_width is not None:
        shared = theirs + "shared_expert."
        yield from _feed_forward(ours + "shared.", shared, width, mixture.shared_ffn_width)
        yield Place(ours + "shared_gate.weight", theirs + "shared_expert_gate.weight", (1, width))
