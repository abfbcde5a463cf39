"""What to make of a checkpoint: where it is cut, and what its weights are kept as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from updraft.errors import RequestError
from updraft.models.architecture import INTEGERS, Precision, Quantization
from updraft.models.checkpoints.checkpoint import Checkpoint
from updraft.models.checkpoints.heads import ImportedHeads, default_exits
from updraft.models.fidelity import Limits
from updraft.models.manifest import PartitionEntry

DEFAULT_BLOCK = 128
_BLOCKS = (16, 32, 64, 128, 256)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class ImportPlan:
    """What to make of a checkpoint; layers are counted as layers done.

    Attributes:
        split: layers done where the state crosses the wire; None: half of them.
        exits: layers done at each exit on the edge; None: a quarter, and the split.
        block: weights that share one scale; None: the fastest that fits the model.
        context_length: positions that a KV cache holds; None: some thousand.
        name: None: the folder's.
        texts: to fit the channel scales of the wire codecs on; without, the plain codecs remain.
        shortlist: tokens that exits on the edge choose among; None: a size that pays.
        limits: how much worse than the checkpoint the bundle may be on the texts.
    """

    split: int | None = None
    exits: tuple[int, ...] | None = None
    precision: Precision = "int4"
    block: int | None = None
    kv: Literal["fp32", "fp16", "int8"] = "fp32"
    overrides: Mapping[str, Precision] = field(default_factory=dict)
    context_length: int | None = None
    name: str | None = None
    texts: tuple[str, ...] = ()
    shortlist: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Cut:
    """How a model is cut, and what its weights are kept as: a plan that fits its checkpoint.

    Attributes:
        exits: layers done at each exit on the edge, the split among them.
    """

    name: str
    split: int
    exits: tuple[int, ...]
    quantization: Quantization
    shortlist: int | None

    @classmethod
    def of(cls, checkpoint: Checkpoint, plan: ImportPlan) -> Cut:
        """Fill what a plan leaves open, and check it against a checkpoint.

        Raises:
            RequestError: it asks for layers, parts or blocks that the model does not have.
        """
        layers = checkpoint.architecture.layers
        split = layers // 2 if plan.split is None else plan.split
        if not 0 < split < layers:
            raise RequestError(
                f"split {split} lies outside 1 to {layers - 1}: the model has {layers} layers, and "
                "some must be left for the cloud"
            )
        exits = default_exits(checkpoint, split) if plan.exits is None else plan.exits
        beyond = [exit_ for exit_ in exits if not 0 < exit_ < layers]
        if beyond:
            raise RequestError(f"exit {beyond[0]} lies outside 1 to {layers - 1}")
        return cls(
            name=_name_of(plan, checkpoint.folder),
            split=split,
            exits=tuple(sorted({*exits, split})),
            quantization=_quantization(checkpoint, plan),
            shortlist=plan.shortlist,
        )

    def heads(self, checkpoint: Checkpoint) -> ImportedHeads:
        """Return the heads of a checkpoint that is cut so."""
        return ImportedHeads(checkpoint, self.exits, self.shortlist)

    def partitions(self, layers: int) -> list[PartitionEntry]:
        """Return the graphs of a model with so many layers: one up to each exit, and the rest."""
        return [
            PartitionEntry(file=f"layers-{first}-{last}.onnx", first=first, last=last)
            for first, last in pairwise([0, *self.exits, layers])
        ]


def _quantization(checkpoint: Checkpoint, plan: ImportPlan) -> Quantization:
    shape, overrides = checkpoint.architecture, dict(plan.overrides)
    for name in overrides:
        begins = name + "."
        if name not in {"head", "embedding"} and not any(
            weight.startswith(begins) for weight in checkpoint.weights
        ):
            raise RequestError(
                f"override {name!r}: the model has no such weights; name `head`, `embedding`, "
                f"`layers.N` with N below {shape.layers}, or one of their matrices, as "
                "`layers.0.down`"
            )
    in_integers = bool({plan.precision, *overrides.values()} & set(INTEGERS))
    if plan.block is not None and plan.block not in _BLOCKS:
        raise RequestError(f"block {plan.block}: choose from {', '.join(map(str, _BLOCKS))}")
    # Look-ups and mixtures of experts take whole blocks only.
    widths = [shape.width, shape.mixture.ffn_width if shape.mixture else shape.width]
    fitting = [
        size for size in _BLOCKS if size <= DEFAULT_BLOCK and not any(w % size for w in widths)
    ]
    if in_integers and plan.block is None and not fitting:
        raise RequestError(f"no block divides the widths {widths}: choose fp16 or fp32")
    return Quantization(
        weights=plan.precision,
        block=(plan.block or max(fitting)) if in_integers else None,
        activations="int8" if in_integers else "fp32",
        kv=plan.kv,
        overrides=overrides,
    )


def _name_of(plan: ImportPlan, folder: Path) -> str:
    """Return the bundle's name: as asked for, or after the checkpoint's folder."""
    if plan.name is not None:
        if not _NAME.fullmatch(plan.name):
            raise RequestError(
                f"name {plan.name!r}: small letters, digits, dots, - and _ are expected"
            )
        return plan.name
    found = folder.resolve()
    name = found.name
    if found.parent.name == "snapshots":  # of a cache: models--ORGANIZATION--NAME/snapshots/HASH
        name = found.parent.parent.name.rpartition("--")[2]
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "imported"
