"""What a bundle asks of a device, read from its graphs without loading them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from updraft.devices.performance import CHUNK
from updraft.devices.workload import Piece, Workload
from updraft.errors import BundleError
from updraft.models.bundle import Bundle
from updraft.models.codecs import wire_codec
from updraft.models.manifest import Architecture, PartitionEntry
from updraft.models.onnx_weights import Weights, read_weights
from updraft.models.partition import CACHE_TYPES

_FLOAT_BYTES = 4
# What a position takes of a table that is mapped: a page of values, and one of scales.
_ROW_BYTES = 2 * 4096
_SAMPLED_STATES = 256
# Copies of its logits that one text keeps: as they came, and their odds.
_LOGITS = 2
# Memory of a loaded tokenizer over its file: tables of tokens and merges, and each token's bytes.
_TOKENIZER_TIMES = 14


def workload_of(bundle: Bundle) -> Workload:
    """Return what running a bundle takes: bytes read and multiplications, graph by graph.

    Weights count as the runtime reads them. Integers that `DequantizeLinear` widens are widened
    when a graph is loaded (ADR 0003), so they cost four bytes each, whatever the file holds; those
    that `MatMulNBits` multiplies stay integers (ADR 0033).

    Raises:
        BundleError: a graph cannot be read.
    """
    manifest, shape = bundle.manifest, bundle.manifest.architecture
    heads = {entry.head: entry.layer for entry in manifest.exits}
    looks = [_head(bundle, file, layer) for file, layer in heads.items()]
    return Workload(
        name=manifest.name,
        precision=manifest.quantization.activations,
        partitions=tuple(_partition(bundle, entry) for entry in manifest.partitions),
        head=max(looks, key=lambda piece: piece.weight_bytes),
        exits=tuple(entry.layer for entry in manifest.exits),
        split=manifest.split,
        state_bytes=_state_bytes(bundle),
        context_length=shape.context_length,
        chunk_bytes=_chunk_bytes(shape),
        text_bytes=_LOGITS * shape.vocabulary_size * _FLOAT_BYTES,
        tokenizer_bytes=_TOKENIZER_TIMES * manifest.files[manifest.tokenizer.file].bytes,
    )


def _chunk_bytes(shape: Architecture) -> int:
    """Return what the widest place of a layer takes while a chunk of a prompt passes it."""
    ffn_width = shape.ffn_width
    if shape.mixture is not None:
        ffn_width = max(ffn_width, shape.mixture.active * shape.mixture.ffn_width)
    # Gate and up, both again apart, and the state before and after.
    row = 4 * ffn_width + 2 * shape.width
    scores = shape.heads * shape.context_length
    return min(CHUNK, shape.context_length) * (row + scores) * _FLOAT_BYTES


def _partition(bundle: Bundle, entry: PartitionEntry) -> Piece:
    shape, weights = bundle.manifest.architecture, _weights(bundle.path(entry.file))
    keys_and_values = 2 * (entry.last - entry.first) * shape.head_width
    value_bytes = CACHE_TYPES[bundle.manifest.quantization.kv].itemsize
    return Piece(
        weight_bytes=weights.read_bytes,
        macs_per_position=weights.macs,
        kv_bytes_per_position=keys_and_values * shape.kv_heads * value_bytes,
        last_layer=entry.last,
        attention_macs=keys_and_values * shape.heads,
        kept_bytes=_kept(bundle, entry.file, weights),
        nodes=weights.nodes,
    )


def _head(bundle: Bundle, file: str, layer: int) -> Piece:
    weights = _weights(bundle.path(file))
    return Piece(
        weight_bytes=weights.read_bytes,
        macs_per_position=weights.macs,
        kv_bytes_per_position=0,
        last_layer=layer,
        kept_bytes=_kept(bundle, file, weights),
        nodes=weights.nodes,
    )


def _kept(bundle: Bundle, file: str, weights: Weights) -> int:
    """The runtime keeps what it read of the file beside what it made of it; so it was measured."""
    manifest = bundle.manifest
    touched = min(weights.mapped_bytes, manifest.architecture.context_length * _ROW_BYTES)
    tables = weights.table_bytes - weights.mapped_bytes + touched
    return weights.idle_bytes + tables + manifest.files[file].bytes


def _weights(path: Path) -> Weights:
    try:
        return read_weights(path)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error


def _state_bytes(bundle: Bundle) -> dict[str, float]:
    """Encode states that are distributed as the channel scales say; one codec has no fixed size."""
    manifest = bundle.manifest
    shape = (_SAMPLED_STATES, manifest.architecture.width)
    states = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    if manifest.wire is not None:
        states *= bundle.channel_scales
    return {
        name: len(wire_codec(bundle, name).encode(states)) / _SAMPLED_STATES
        for name in manifest.codecs
    }
