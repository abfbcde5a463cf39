"""The heads of an imported bundle: which exits share a graph, and which tokens they may say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.models.architecture import Quantization
from updraft.models.checkpoints.checkpoint import Checkpoint
from updraft.models.exits.head_files import SHORTLIST, HeadFile, head_files, write_shortlist
from updraft.models.exits.shortlist import without_text
from updraft.models.manifest import ExitEntry


@dataclass(frozen=True)
class ImportedHeads:
    """The exits of a checkpoint as a bundle keeps them.

    Args:
        exits: layers of the exits on the edge.
        shortlist: tokens that these choose among; None: a size that was measured to pay.
    """

    checkpoint: Checkpoint
    exits: tuple[int, ...]
    shortlist: int | None

    @cached_property
    def tokens(self) -> NDArray[np.int32] | None:
        """The shortlist; None: the exits choose among the whole vocabulary."""
        vocabulary = self.checkpoint.vocabulary
        ends = (vocabulary.end_of_text, *vocabulary.stop_tokens)
        size = self.checkpoint.architecture.vocabulary_size
        return without_text(vocabulary.tokenizer, ends, size, self.shortlist)

    @cached_property
    def files(self) -> list[HeadFile]:
        """The graphs."""
        trained = self.checkpoint.trained_exits
        own = {exit_.layer for exit_ in trained.exits if exit_.head} if trained else set()
        layers = self.checkpoint.architecture.layers
        return head_files(self.exits, layers, own, shortlisted=self.tokens is not None)

    def entries(self) -> list[ExitEntry]:
        """Return what the manifest says of the exits, shallow first."""
        entries = [entry for file in self.files for entry in file.entries()]
        return sorted(entries, key=lambda entry: entry.layer)

    def weights_of(self, file: HeadFile) -> str:
        """Return the name of the matrix that a graph multiplies with."""
        own = f"exit_heads.{file.layers[0]}.weight"
        if own in self.checkpoint.weights:
            return own
        return "embedding.weight" if self.checkpoint.architecture.tied else "head.weight"

    def write_tokens(self, folder: Path) -> list[str]:
        """Write the shortlist, if there is one; return the files written."""
        if self.tokens is None:
            return []
        write_shortlist(folder / SHORTLIST, self.tokens)
        return [SHORTLIST]

    def describe(self) -> str:
        """Say for people what the exits were trained for."""
        trained, layers = self.checkpoint.trained_exits, self.checkpoint.architecture.layers
        known = {exit_.layer for exit_ in trained.exits} if trained else set()
        if trained and known.issuperset(self.exits):
            return f"trained with the checkpoint ({trained.layout})"
        return f"the norm and the head of layer {layers}, not trained for other layers"


def default_exits(checkpoint: Checkpoint, split: int) -> Sequence[int]:
    """Return the exits below the split where the user names none.

    They are those that the model was trained with, if it has some of its own, else a quarter.
    """
    trained = checkpoint.trained_exits
    if trained is not None and trained.layout != "layerskip":
        return [exit_.layer for exit_ in trained.exits if exit_.layer <= split]
    quarter = max(1, checkpoint.architecture.layers // 4)
    return [quarter] if quarter < split else []


def write_heads(
    folder: Path,
    heads: ImportedHeads,
    file: HeadFile,
    weights: Mapping[str, NDArray[np.float32]],
    quantization: Quantization,
) -> list[str]:
    """Write one of the graphs; return the files that it needs."""
    from updraft.models.graphs import write_head  # noqa: PLC0415 (needs onnx)

    return write_head(
        folder,
        file.file,
        heads.checkpoint.architecture,
        weights,
        quantization,
        file.layers,
        heads.tokens if file.shortlist else None,
    )
