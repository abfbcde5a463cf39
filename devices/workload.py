"""What a model asks of a device, in bytes and multiplications; knows nothing of bundles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "int8", "int4"]


@dataclass(frozen=True)
class Piece:
    """One graph that is run as a whole: a partition, or an exit head.

    Attributes:
        weight_bytes: read from memory in every run, however many positions it takes.
        macs_per_position: multiplications of one position, attention over its past left out.
        kv_bytes_per_position: what one position leaves in the KV cache, and what every later
            position reads of it; 0 for a head.
        last_layer: layers done after it; the exit that a head belongs to.
        attention_macs: multiplications of one position with one position of its past.
        kept_bytes: in memory beside the weights and not read as a whole: tables that are looked
            up by row, and the file that the runtime keeps.
        nodes: operators that the runtime starts one after the other in every run.
    """

    weight_bytes: int
    macs_per_position: int
    kv_bytes_per_position: int
    last_layer: int
    attention_macs: int = 0
    kept_bytes: int = 0
    nodes: int = 0


@dataclass(frozen=True)
class Workload:
    """A model as a device feels it.

    Attributes:
        precision: of the numbers that are multiplied.
        partitions: bottom first.
        head: one look at an exit; every token takes at least one.
        exits: layers after which a token can be produced, the full depth last.
        split: layers done when the state crosses the wire.
        state_bytes: one position on the wire, by codec.
        context_length: positions that the KV cache holds at most.
        chunk_bytes: what a chunk of a prompt takes while it is computed.
        text_bytes: what one text takes beside what its positions do.
        tokenizer_bytes: what the loaded tokenizer takes.
    """

    name: str
    precision: Precision
    partitions: tuple[Piece, ...]
    head: Piece
    exits: tuple[int, ...]
    split: int
    state_bytes: dict[str, float]
    context_length: int
    chunk_bytes: int = 0
    text_bytes: int = 0
    tokenizer_bytes: int = 0
