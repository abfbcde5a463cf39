"""Write a bundle anew with other exit heads; everything else stays what it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError
from updraft.models.bundle import DATA_SUFFIX, Bundle, describe_files, write_manifest
from updraft.models.exits.adapter import AdapterWeights
from updraft.models.exits.head_files import left_over, replacing, write_shortlist
from updraft.models.exits.lm_head import LmHead
from updraft.models.graphs import write_head
from updraft.models.manifest import FORMAT_VERSION, Manifest


def write_heads(
    bundle: Bundle,
    folder: Path,
    trained: Mapping[int, AdapterWeights],
    lm_head: LmHead,
    shortlist: NDArray[np.int32] | None,
    provenance: Mapping[str, str | int],
) -> Manifest:
    """Fill an empty folder with a bundle whose trained exits share one new head.

    Graphs and weights are linked where the file system can, so they take no room twice. What was
    measured with the old exits (guarantees, stop rules, confidences) is left out.

    Args:
        trained: layer → its adapter.
        shortlist: tokens that the head chooses among; None: the whole vocabulary.
    """
    manifest = bundle.manifest
    head = replacing(manifest.exits, trained, shortlisted=shortlist is not None)
    new = {entry.layer: entry for entry in head.entries()}
    entries = [new.get(entry.layer, entry) for entry in manifest.exits]
    gone = left_over(manifest.exits, trained)
    kept = [name for name in manifest.files if name not in gone]
    for name in kept:
        _carry(bundle.path(name), folder / name)
    written = write_head(
        folder,
        head.file,
        manifest.architecture,
        _Weights(manifest, trained, lm_head),
        manifest.quantization,
        head.layers,
        shortlist,
    )
    if shortlist is not None and head.shortlist is not None:
        write_shortlist(folder / head.shortlist, shortlist)
        written = [*written, head.shortlist]
    files = {name: manifest.files[name] for name in kept}
    changed = manifest.model_copy(
        update={
            "format": FORMAT_VERSION,
            "exits": entries,
            "files": files | describe_files(folder, [n for n in written if n not in files]),
            "guarantees": [],
            "stop_rules": [rule for rule in manifest.stop_rules if rule.layer not in trained],
            "provenance": {**manifest.provenance, **provenance},
        }
    )
    write_manifest(folder, changed)
    return changed


def _carry(source: Path, target: Path) -> None:
    """Link what is never written again; copy the rest, which a later command may change."""
    if source.suffix in {".onnx", DATA_SUFFIX}:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return
    try:
        shutil.copy2(source, target)
    except OSError as error:
        raise BundleError(f"{target}: cannot be written: {error}") from error


class _Weights(Mapping[str, NDArray[np.float32]]):
    """The weights of the new head by their names; the LM head is read when it is asked for."""

    def __init__(
        self, manifest: Manifest, trained: Mapping[int, AdapterWeights], lm_head: LmHead
    ) -> None:
        matrix = "embedding.weight" if manifest.architecture.tied else "head.weight"
        self._known: dict[str, Any] = {matrix: _Rows(lm_head, manifest)}
        for layer, weights in trained.items():
            self._known |= {
                f"exit_norms.{layer}.weight": weights.gain,
                f"exit_adapters.{layer}.down.weight": weights.down,
                f"exit_adapters.{layer}.up.weight": weights.up,
            }

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._known[name]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class _Rows:
    """The LM head as a matrix of which only the rows that are asked for are read."""

    def __init__(self, lm_head: LmHead, manifest: Manifest) -> None:
        self._lm_head = lm_head
        self._rows = manifest.architecture.vocabulary_size

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, rows: slice | NDArray[np.int32]) -> NDArray[np.float32]:
        ids = np.arange(self._rows, dtype=np.int32)[rows]
        return self._lm_head.rows(ids)
